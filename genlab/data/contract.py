"""What a data set promises: its spec before anything is loaded, and three fixed splits that hand out batches.

A split is addressed by index, a whole batch at once, so that data in memory are gathered by one tensor operation and
the order of training is decided elsewhere (`genlab.data.stream`).
"""

from collections.abc import Mapping
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.core.spec import Batch, Spec

SplitName = Literal["train", "validation", "test"]


class Split(Protocol):
    """Data that can be asked for by number."""

    @property
    def in_memory(self) -> bool:
        """Whether a batch is had without reading files; worker processes then only cost time."""

    def __len__(self) -> int: ...

    def batch(self, index: Tensor, rng: Rng | None = None) -> Batch:
        """The data numbered `index` (B,), on the CPU; augmented where `rng`, one row a datum, is given."""


class DataSet(Protocol):
    """A named collection with a spec and three disjoint, fixed splits."""

    @property
    def spec(self) -> Spec:
        """What each key of a batch holds. May read a header or list a folder, but loads no data."""

    @property
    def identity(self) -> str:
        """A name for caches: equal only for data sets with equal data, as "digits" or "cifar10"."""

    @property
    def classes(self) -> tuple[str, ...] | None:
        """What the labels are called, where they have names."""

    def split(self, name: SplitName) -> Split:
        """The split with this name; loaded once."""


@runtime_checkable
class Factored(Protocol):
    """A data set whose data are made from known factors, so that what a code has learnt of them can be measured.

    A batch has their values under "factors", (B, F) int64, factor f counting from 0 to its size - 1.
    """

    @property
    def factors(self) -> Mapping[str, int]:
        """Their names and sizes, in the order of the columns."""


@runtime_checkable
class Readable(Protocol):
    """A data set whose data are read as text."""

    def texts(self, x: Tensor) -> list[str]:
        """Each of the data (N, *) as text."""


def real(x: Tensor, levels: int) -> Tensor:
    """The integers x of `levels` evenly spaced values as single-precision numbers in [-1, 1], by 2 x / (L - 1) - 1."""
    return x.float().mul_(2 / (levels - 1)).sub_(1)


def mirrored(x: Tensor, rng: Rng) -> Tensor:
    """Images (B, C, H, W), each turned left to right with probability 1/2."""
    turned = rng.stage("flip").uniform() < 0.5
    return torch.where(turned.view(-1, 1, 1, 1), x.flip(-1), x)


class InMemory:
    """A split whose data lie in tensors.

    Arguments:
        x: (N, *). uint8 tensors are the integers of a field with `levels`, turned into [-1, 1] batch by batch;
            floating-point tensors are handed out as they are.
        levels: the number of levels of uint8 data.
        label: (N,) int64, if there are any.
        flip: turn half of the images left to right where a batch is augmented.
    """

    in_memory = True

    def __init__(self, x: Tensor, levels: int | None = None, label: Tensor | None = None, flip: bool = False) -> None:
        self.x, self.levels, self.label, self.flip = x, levels, label, flip
        if x.dtype == torch.uint8 and levels is None:
            raise ValueError("levels must be given for data of type uint8")

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor, rng: Rng | None = None) -> Batch:
        x = self.x[index]
        if self.flip and rng is not None:
            x = mirrored(x, rng)
        batch = {"x": real(x, self.levels) if x.dtype == torch.uint8 and self.levels else x}
        if self.label is not None:
            batch["label"] = self.label[index]
        return batch


class Joined:
    """Splits one after the other, as the published training set that is train and validation together."""

    def __init__(self, *parts: Split) -> None:
        self.parts = parts

    @property
    def in_memory(self) -> bool:
        return all(part.in_memory for part in self.parts)

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def batch(self, index: Tensor, rng: Rng | None = None) -> Batch:
        """Each part is asked for its own rows; `rng` is for training, which never joins splits."""
        rows: list[Batch] = []
        places: list[Tensor] = []
        first = 0
        for part in self.parts:
            here = ((index >= first) & (index < first + len(part))).nonzero().flatten()
            if len(here):
                rows.append(part.batch(index[here] - first))
                places.append(here)
            first += len(part)
        order = torch.cat(places).argsort()
        return {key: torch.cat([r[key] for r in rows])[order] for key in rows[0]}
