"""Text, character by character: windows of one file, whose alphabet is that of its training part.

    x = (v_1, .., v_L),    v_i the number of a character in the alphabet, in the order of code points

The first part of the file is for training, the next for validation and the last for test.
"""

import hashlib
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Field, Spec
from genlab.core.units import from_levels, to_levels
from genlab.data.contract import SplitName
from genlab.data.root import where

NAMES: tuple[SplitName, ...] = ("train", "validation", "test")


class Windows:
    """Runs of L values of one long row.

    Arguments:
        values: (N,) int64.
        length: L.
        stride: from the beginning of one to that of the next.
        levels: how many values there are.
    """

    in_memory = True

    def __init__(self, values: Tensor, length: int, stride: int, levels: int) -> None:
        self.values, self.length, self.stride, self.levels = values, length, stride, levels

    def __len__(self) -> int:
        return (len(self.values) - self.length) // self.stride + 1

    def batch(self, index: Tensor, rng: Rng | None = None) -> Batch:
        v = self.values[index[:, None] * self.stride + torch.arange(self.length)]
        return {"x": from_levels(v, self.levels)[:, None]}


class TextFile:
    """Windows of a text: overlapping ones for training, one after the other for validation and test.

    Arguments:
        path: of the file, UTF-8, below the data folder or anywhere; it must be given.
        length: characters of a window.
        stride: characters from one training window to the next.
        validation, test: the parts of the file.
        alphabet: the characters that there may be; None is those of the training part. Any other is an error.
        root: of the data folder.
    """

    classes = None

    def __init__(
        self,
        path: str | None = None,
        length: int = 64,
        stride: int = 16,
        validation: float = 0.05,
        test: float = 0.05,
        alphabet: str | None = None,
        root: str | None = None,
    ) -> None:
        for name, number in (("length", length), ("stride", stride)):
            if number < 1:
                raise ValueError(f"{name} must be at least 1, not {number}")
        if min(validation, test) <= 0 or validation + test >= 1:
            raise ValueError(
                f"validation={validation} and test={test} must be above 0 and leave something to train on: 0.05 each"
            )
        if alphabet is not None and len(set(alphabet)) < 2:
            raise ValueError(f"alphabet={alphabet!r}: must have at least two characters")
        self.path, self.length, self.stride, self.root = path, length, stride, root
        self.shares, self.given = (1 - validation - test, validation, test), alphabet

    @property
    def spec(self) -> Spec:
        return {"x": Field((1, self.length), levels=len(self.alphabet))}

    @property
    def identity(self) -> str:
        content = hashlib.sha256("".join((self.alphabet, *self._parts.values())).encode()).hexdigest()[:12]
        return f"text-{content}-{self.length}-{self.stride}"

    @property
    def alphabet(self) -> str:
        """The characters, in the order of their numbers."""
        return self._read[0]

    @property
    def _parts(self) -> dict[SplitName, str]:
        return self._read[1]

    @cached_property
    def _read(self) -> tuple[str, dict[SplitName, str]]:
        if self.path is None:
            raise UserError("data.path=null: name a text file, data.path=book.txt")
        file = where(self.root) / Path(self.path).expanduser()
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UserError(f"data.path={file}: there is no such file") from None
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"data.path={file} cannot be read as UTF-8 text") from error
        first, second = (round(len(text) * share) for share in (self.shares[0], self.shares[0] + self.shares[1]))
        parts = dict(zip(NAMES, (text[:first], text[first:second], text[second:]), strict=True))
        for name, part in parts.items():
            if len(part) < self.length:
                raise UserError(
                    f"data.path={file}: its {name} part has {len(part)} characters, and a window has {self.length}; "
                    "lower data.length, or take a longer text"
                )
        alphabet = "".join(sorted(set(parts["train"] if self.given is None else self.given)))
        if len(alphabet) < 2:
            raise UserError(f"data.path={file}: its training part has but one character")
        for name, part in parts.items():
            unknown = sorted(set(part) - set(alphabet))
            if unknown:
                whose = "the training part" if self.given is None else "data.alphabet"
                raise UserError(
                    f"data.path={file}: the character {unknown[0]!r} of its {name} part, at "
                    f"{part.index(unknown[0])}, is not in {whose}; change the text, or name all by data.alphabet"
                )
        return alphabet, parts

    def split(self, name: SplitName) -> Windows:
        numbers = {character: number for number, character in enumerate(self.alphabet)}
        values = torch.tensor([numbers[character] for character in self._parts[name]])
        stride = self.stride if name == "train" else self.length
        return Windows(values, self.length, stride, len(self.alphabet))

    def texts(self, x: Tensor) -> list[str]:
        """Data (N, 1, L) as text."""
        return ["".join(self.alphabet[v] for v in row) for row in to_levels(x[:, 0], len(self.alphabet)).tolist()]
