"""Anyone's pictures: a folder, in which the sides, the channels, the classes and the splits are found.

Splits are the folders train, val (valid, validation) and test where all pictures lie in such folders; what there is no
folder for is taken from train. Otherwise the pictures are ordered by a hash of their path, and 5% are validation data
and 5% test data. The first folders below that, where every picture lies in one and there are several, are classes.

Every picture is decoded once before training, so that damaged ones are known: into memory where all have room there,
else to look, and the result is kept beside other caches until a file changes.
"""

import hashlib
import json
import logging
import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Literal

import numpy as np
import torch

from genlab.core.errors import UserError
from genlab.core.files import cache_folder, replacing
from genlab.core.spec import Field, Spec
from genlab.data.contract import SplitName
from genlab.data.images import SUFFIXES, Crop, Damaged, Files, Pictures, cut, header, in_threads, read, strip
from genlab.data.root import one_line

log = logging.getLogger(__name__)

SPLITS: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
HELD_OUT: tuple[SplitName, ...] = ("validation", "test")
ROOM, LARGEST, SAMPLE = 2**30, 256, 10_000


class ImageFolder:
    """Any folder of pictures, its sides, channels, classes and splits found in it: data.root=~/pictures

    Arguments:
        root: the folder.
        size: the side of the squares; null takes the shorter side of the smallest picture (of 10,000 at most that are
            looked at), down to a multiple of 8, and at most 256.
        channels: null is 1 where those pictures are stored as grey ones, else 3.
        crop: "centre", or "random" while training, along the longer side.
        flip: turn half of the training images left to right.
        in_memory: keep the resized pictures in memory; null does so where they fit into 1 GiB.
    """

    def __init__(
        self,
        root: str | None = None,
        size: int | None = None,
        channels: Literal[1, 3] | None = None,
        crop: Crop = "centre",
        flip: bool = False,
        in_memory: bool | None = None,
    ) -> None:
        if size is not None and size < 1:
            raise ValueError(f"size must be null or at least 1, not {size}")
        self.root, self.size, self.crop, self.flip, self.in_memory = root, size, crop, flip, in_memory
        self._given_channels = channels

    @property
    def spec(self) -> Spec:
        image: Spec = {"x": Field((self.channels, self.side, self.side), levels=256)}
        return {**image, "label": Field((), classes=len(self.classes))} if self.classes else image

    @property
    def identity(self) -> str:
        return f"image_folder-{self.fingerprint[:16]}-{self.side}-{self.channels}"

    @property
    def classes(self) -> tuple[str, ...] | None:
        return self.layout.classes

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the paths, lengths and times of all files."""
        return hashlib.sha256("\n".join(map(repr, self._found)).encode()).hexdigest()

    @cached_property
    def folder(self) -> Path:
        if self.root is None:
            raise UserError("data.root must be given: the folder of pictures, as data.root=~/pictures")
        folder = Path(self.root).expanduser()
        if not folder.exists():
            raise UserError(f"data.root={folder} does not exist: it must be a folder of pictures")
        if not folder.is_dir():
            raise UserError(f"data.root={folder} is a file: it must be a folder of pictures")
        return folder

    @cached_property
    def _found(self) -> list["Found"]:
        found = sorted(walk(self.folder), key=lambda f: f.path)
        if not found:
            state = "has no pictures" if any(self.folder.iterdir()) else "is empty"
            raise UserError(f"data.root={self.folder} {state}: it must hold files {' '.join(SUFFIXES)}")
        return found

    @cached_property
    def layout(self) -> "Layout":
        return Layout([f.path for f in self._found], str(self.folder))

    @cached_property
    def _headers(self) -> list[tuple[int, bool, str]]:
        """Shorter side, greyness and path of the pictures, or of as many as decide."""

        def look(path: str) -> tuple[int, bool, str] | None:
            try:
                return (*header(self.folder / path), path)
            except Damaged:
                return None

        sample = by_hash([f.path for f in self._found])[:SAMPLE]
        seen = [h for h in in_threads(look, sample, "looking at pictures") if h is not None]
        if not seen:
            raise UserError(f"data.root={self.folder}: none of the {len(sample)} pictures looked at can be read")
        return seen

    @cached_property
    def side(self) -> int:
        if self.size is not None:
            return self.size
        smallest, _, path = min(self._headers)
        if smallest < 8:
            raise UserError(f"data.size: {self.folder / path} has a side of {smallest} pixels, below 8: take it away")
        return min(smallest // 8 * 8, LARGEST)

    @cached_property
    def channels(self) -> int:
        return self._given_channels or (1 if all(grey for _, grey, _ in self._headers) else 3)

    def split(self, name: SplitName) -> Pictures:
        return self._splits[name]

    @cached_property
    def _splits(self) -> dict[SplitName, Pictures]:
        room = len(self._found) * self.channels * self.side**2 <= ROOM
        keep = room if self.in_memory is None else self.in_memory
        sound = self._decoded() if keep else self._verified()
        return {name: self._split(name, sound) for name in self.layout.splits}

    def _split(self, name: SplitName, sound: dict[str, np.ndarray | None]) -> Pictures:
        paths = [path for path in self.layout.splits[name] if path in sound]
        if not paths:
            raise UserError(f"data.root={self.folder}: no {name} picture is sound")
        kept = [array for path in paths if (array := sound[path]) is not None]
        strips = kept or Files([self.folder / path for path in paths], self.side, self.channels)
        label = torch.tensor([self.layout.label[path] for path in paths]) if self.classes else None
        training = name == "train"
        return Pictures(strips, self.side, label, self.crop if training else "centre", self.flip and training)

    def _decoded(self) -> dict[str, np.ndarray | None]:
        """The strips of all sound pictures by their paths; only the middle squares where nothing else is cut."""
        damaged: dict[str, str] = {}

        def decode(path: str) -> np.ndarray | None:
            try:
                image = read(self.folder / path, self.channels)
            except Damaged as error:
                damaged[path] = str(error)
                return None
            if min(image.size) < self.side:
                raise self._too_small(path, min(image.size))
            whole = strip(image, self.side)
            return whole if self.crop == "random" else np.ascontiguousarray(cut(whole, self.side))

        paths = [f.path for f in self._found]
        strips = dict(zip(paths, in_threads(decode, paths, "decoding pictures"), strict=True))
        self.tell(damaged)
        return {path: array for path, array in strips.items() if array is not None}

    def _verified(self) -> dict[str, np.ndarray | None]:
        """The paths of all sound pictures, which are decoded where no earlier result stands."""
        report = cache_folder() / "image_folder" / f"{self.fingerprint}.json"
        try:
            shortest, smallest, damaged = json.loads(report.read_text())
        except (OSError, ValueError):
            shortest, smallest, damaged = self._verify()
            # A cache that cannot be written to costs the next run some time, and this one nothing.
            with suppress(UserError), replacing(report, contested=True) as file:
                file.write(json.dumps([shortest, smallest, damaged]).encode())
        if smallest is not None and shortest < self.side:
            raise self._too_small(smallest, shortest)
        self.tell(damaged)
        return {f.path: None for f in self._found if f.path not in damaged}

    def _verify(self) -> tuple[int, str | None, dict[str, str]]:
        """The shortest side and the path of the picture that has it, and the damage of each damaged one."""
        damaged: dict[str, str] = {}

        def decode(path: str) -> tuple[int, str] | None:
            try:
                return min(read(self.folder / path, 3).size), path
            except Damaged as error:
                damaged[path] = str(error)
                return None

        paths = [f.path for f in self._found]
        sides = [s for s in in_threads(decode, paths, "checking pictures") if s is not None]
        return (*min(sides, default=(0, None)), damaged)

    def _too_small(self, path: str, side: int) -> UserError:
        advice = f"set data.size={side} or less, or take it away"
        return UserError(f"data.size={self.side}: {self.folder / path} has a side of {side} pixels only: {advice}")

    def tell(self, damaged: dict[str, str]) -> None:
        """Warn of damaged pictures, or refuse more than 1% of them."""
        count, all_of_them = len(damaged), len(self._found)
        if count > 0.01 * all_of_them:
            path, reason = min(damaged.items())
            one = f"one is {self.folder / path}: {reason}"
            raise UserError(
                f"data.root={self.folder}: {count} of {all_of_them} pictures are damaged, more than 1%; {one}"
            )
        for path, reason in sorted(damaged.items()):
            log.warning("skipped a damaged picture, %s: %s", self.folder / path, reason)


@dataclass(frozen=True)
class Found:
    """A file: its path below the folder with slashes, its length in bytes, and when it was last changed, in ns."""

    path: str
    length: int
    changed: int


def walk(folder: Path, suffixes: Collection[str] = SUFFIXES) -> Iterator[Found]:
    """All files of a kind below a folder, hidden ones left out; a folder that links lead to twice is walked once."""

    def refuse(error: OSError) -> None:
        raise UserError(f"data.root={folder} cannot be read: {one_line(error)}") from error

    walked: set[str] = set()
    for here, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        place = os.path.realpath(here)
        folders[:] = [] if place in walked else [name for name in folders if not name.startswith(".")]
        if place in walked:
            continue
        walked.add(place)
        for name in files:
            path = Path(here, name)
            if path.suffix.lower() in suffixes and not name.startswith(".") and path.is_file():
                status = path.stat()
                yield Found(path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns)


def by_hash(paths: list[str]) -> list[str]:
    """A fixed order that has nothing to do with what the pictures show."""
    return sorted(paths, key=lambda path: hashlib.sha256(os.fsencode(path)).digest())


class Layout:
    """Which split and class each file belongs to, as the head of this file says.

    Arguments:
        paths: relative, with slashes.
        root: for the message.
        kind: what a file is, for the message.

    Attributes:
        splits: the paths of each.
        classes: their names, or None.
        label: the class of each path.
    """

    def __init__(self, paths: list[str], root: str, kind: str = "picture") -> None:
        parts = {path: PurePath(path).parts for path in paths}
        tops = {p[0].lower() if len(p) > 1 else "" for p in parts.values()}
        divided = tops <= SPLITS.keys() and "train" in {SPLITS[top] for top in tops}
        depth = 1 if divided else 0
        names = {p[depth] if len(p) > depth + 1 else "" for p in parts.values()}
        self.classes = tuple(sorted(names)) if len(names) > 1 and "" not in names else None
        number = {name: i for i, name in enumerate(self.classes or ())}
        self.label = {path: number[p[depth]] for path, p in parts.items()} if self.classes else {}

        self.splits: dict[SplitName, list[str]] = {"train": [], "validation": [], "test": []}
        for path in by_hash(paths):
            self.splits[SPLITS[parts[path][0].lower()] if divided else "train"].append(path)
        missing = [name for name in HELD_OUT if not self.splits[name]]
        train = self.splits["train"]
        if len(train) <= len(missing):
            raise UserError(f"data.root={root} has {len(paths)} {kind}s: a {kind} is needed for each of three splits")
        share = max(1, len(train) // 20)
        for name in missing:
            self.splits[name] = [train.pop() for _ in range(share)]
