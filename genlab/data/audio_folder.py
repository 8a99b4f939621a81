"""Anyone's sounds: a folder of wav files, cut into windows of one length.

Splits and classes are found as those of a folder of pictures are: folders train, val and test, or 5% and 5% by a hash
of the path; the first folders below are classes. The free spoken digits are known by the names of their files,
{digit}_{speaker}_{take}.wav: the digit is the class, and of each digit by each speaker takes 0 to 4 are the test split,
as published, 5 and 6 here validation, and the others are for training.

References:
    Free Spoken Digit Dataset (Jackson, Souza, Flaks, Pan, Nicolas & Thite, 2018).
"""

import hashlib
import logging
import math
import re
from functools import cached_property
from pathlib import Path, PurePath
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.spec import Field, Spec
from genlab.data.audio import LEVELS, BrokenSound, coded, read_wav, resampled
from genlab.data.contract import InMemory, SplitName
from genlab.data.image_folder import Found, Layout, walk
from genlab.data.root import below

log = logging.getLogger(__name__)

SPOKEN = re.compile(r"([0-9])_([a-z]+)_([0-9]+)\.wav", re.ASCII)
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# The first takes which are no longer test, and no longer validation data.
TEST, VALIDATION = 5, 7
NAMES: tuple[SplitName, ...] = ("train", "validation", "test")


class AudioFolder:
    """Any folder of wav files, its classes and splits found in it, data.root=~/sounds; null is the free spoken digits.

    Windows of a file follow on each other from its beginning, all in one split, as 256 levels of the mu-law, a byte
    each in memory.

    Arguments:
        root: the folder; null is fsdd in the folder GENLAB_DATA.
        rate: values a second, to which other files are resampled.
        length: values of a window.
        rest: what is left of a file is filled up with silence, "pad", or left out, "drop".
        resample: false refuses files of another rate.
        mix: the mean of all channels; false refuses files of more than one.
    """

    def __init__(
        self,
        root: str | None = None,
        rate: int = 8000,
        length: int = 4000,
        rest: Literal["pad", "drop"] = "pad",
        resample: bool = True,
        mix: bool = True,
    ) -> None:
        if rate < 1 or length < 1:
            raise ValueError(f"rate={rate} and length={length} must be at least 1")
        self.root, self.rate, self.length, self.rest, self.resample, self.mix = root, rate, length, rest, resample, mix

    @property
    def spec(self) -> Spec:
        sound: Spec = {"x": Field((1, self.length), levels=LEVELS, rate=self.rate)}
        return {**sound, "label": Field((), classes=len(self.classes))} if self.classes else sound

    @property
    def identity(self) -> str:
        content = hashlib.sha256("\n".join(map(repr, self._found)).encode()).hexdigest()[:16]
        return f"audio_folder-{content}-{self.rate}-{self.length}-{self.rest}"

    @property
    def classes(self) -> tuple[str, ...] | None:
        return self._layout.classes

    @cached_property
    def folder(self) -> Path:
        if self.root is None:
            folder = below(None, "fsdd")
            advice = "name your folder of wav files, data.root=~/sounds, or by GENLAB_DATA one that has fsdd/recordings"
        else:
            folder, advice = Path(self.root).expanduser(), "it must be a folder of wav files"
        if not folder.is_dir():
            raise UserError(f"data.root={folder}: there is no such folder; {advice}")
        return folder

    @cached_property
    def _found(self) -> list[Found]:
        found = sorted(walk(self.folder, (".wav",)), key=lambda f: f.path)
        if not found:
            raise UserError(f"data.root={self.folder} has no .wav files")
        return found

    @cached_property
    def _layout(self) -> "Layout | Spoken":
        paths = [f.path for f in self._found]
        if all(SPOKEN.fullmatch(PurePath(path).name) for path in paths):
            return Spoken(paths, str(self.folder))
        return Layout(paths, str(self.folder), kind="sound")

    def split(self, name: SplitName) -> InMemory:
        return self._splits[name]

    @cached_property
    def _splits(self) -> dict[SplitName, InMemory]:
        windows = self._read()
        return {name: self._split(name, windows) for name in NAMES}

    def _split(self, name: SplitName, windows: dict[str, Tensor]) -> InMemory:
        paths = [path for path in self._layout.splits[name] if len(windows.get(path, ()))]
        if not paths:
            raise UserError(
                f"data.length={self.length}: no {name} sound is so long; take a smaller one, or data.rest=pad"
            )
        x = torch.cat([windows[path] for path in paths])
        counts = torch.tensor([len(windows[path]) for path in paths])
        label = torch.tensor([self._layout.label[path] for path in paths]) if self.classes else None
        return InMemory(x[:, None], LEVELS, None if label is None else label.repeat_interleave(counts))

    def _read(self) -> dict[str, Tensor]:
        """The windows (N, length) of all sound files by their paths, uint8."""
        windows: dict[str, Tensor] = {}
        broken: dict[str, str] = {}
        for found in self._found:
            try:
                windows[found.path] = self._windows(found.path)
            except BrokenSound as error:
                broken[found.path] = str(error)
        self._name(broken)
        return windows

    def _windows(self, path: str) -> Tensor:
        rate, sound = read_wav(self.folder / path)
        if rate != self.rate and not self.resample:
            raise UserError(
                f"data.rate={self.rate}: {self.folder / path} has {rate} values a second; set data.rate={rate}, "
                "or data.resample=true"
            )
        if sound.shape[1] > 1 and not self.mix:
            raise UserError(
                f"data.mix=false: {self.folder / path} has {sound.shape[1]} channels; data.mix=true takes their mean"
            )
        v = torch.from_numpy(resampled(sound.mean(axis=1), rate, self.rate))
        count = len(v) // self.length if self.rest == "drop" else math.ceil(len(v) / self.length)
        v = F.pad(v, (0, max(0, count * self.length - len(v))))[: count * self.length]
        return coded(v).view(count, self.length)

    def _name(self, broken: dict[str, str]) -> None:
        """Warn of broken files, or refuse more than 1% of them."""
        if len(broken) > 0.01 * len(self._found):
            path, reason = min(broken.items())
            raise UserError(
                f"data.root={self.folder}: {len(broken)} of {len(self._found)} sounds are broken, more than 1%; "
                f"one is {self.folder / path}: {reason}"
            )
        for path, reason in sorted(broken.items()):
            log.warning("skipped a broken sound, %s: %s", self.folder / path, reason)


class Spoken:
    """Splits and classes of the free spoken digits, as the head of this file says.

    Arguments:
        paths: relative, with slashes; their names are {digit}_{speaker}_{take}.wav.
        root: for the message.

    Attributes:
        splits: the paths of each.
        classes: the digits.
        label: the digit of each path.
    """

    classes = DIGITS

    def __init__(self, paths: list[str], root: str) -> None:
        self.splits: dict[SplitName, list[str]] = {name: [] for name in NAMES}
        self.label: dict[str, int] = {}
        takes: dict[tuple[str, str], set[SplitName]] = {}
        for path in paths:
            said = SPOKEN.fullmatch(PurePath(path).name)
            assert said is not None
            digit, speaker, take = said.groups()
            name: SplitName = "test" if int(take) < TEST else "validation" if int(take) < VALIDATION else "train"
            self.splits[name].append(path)
            self.label[path] = int(digit)
            takes.setdefault((digit, speaker), set()).add(name)
        lacking = [(speaker, digit, name) for (digit, speaker), names in takes.items() for name in {*NAMES} - names]
        digits = {digit for digit, _ in takes}
        if len(digits) < len(DIGITS):
            missing = min({str(digit) for digit in range(len(DIGITS))} - digits)
            raise UserError(f"data.root={root}: of the spoken digits there is no {missing}")
        if lacking:
            speaker, digit, name = min(lacking)
            raise UserError(
                f"data.root={root}: of the digit {digit} by {speaker} there is no {name} take; takes 0 to {TEST - 1} "
                f"are test, {TEST} to {VALIDATION - 1} validation and others training data"
            )
