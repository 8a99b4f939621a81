"""What a data set promises: its spec before anything is loaded, and three fixed splits that hand out batches.

A split is addressed by index, a whole batch at once, so that data in memory are gathered by one tensor operation and
the order of training is decided elsewhere (`genlab.data.stream`).
"""

from typing import Literal, Protocol

import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.core.spec import Batch, Spec

SplitName = Literal["train", "validation", "test"]


class Split(Protocol):
    """Data that can be asked for by number."""

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

    def split(self, name: SplitName) -> Split:
        """The split with this name; loaded once."""


class InMemory:
    """A split whose data lie in tensors.

    Arguments:
        x: (N, *). uint8 tensors are the integers of a field with `levels`, turned into [-1, 1] batch by batch;
            floating-point tensors are handed out as they are.
        levels: the number of levels of uint8 data.
        label: (N,) int64, if there are any.
        flip: mirror every other image left to right where a batch is augmented.
    """

    def __init__(self, x: Tensor, levels: int | None = None, label: Tensor | None = None, flip: bool = False) -> None:
        self.x, self.label, self.flip = x, label, flip
        if x.dtype == torch.uint8:
            if levels is None:
                raise ValueError("data of type uint8 need their number of levels")
            self.scale = 2 / (levels - 1)

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor, rng: Rng | None = None) -> Batch:
        x = self.x[index]
        if x.dtype == torch.uint8:
            x = x.float().mul_(self.scale).sub_(1)
        if self.flip and rng is not None:
            mirrored = rng.stage("flip").uniform() < 0.5
            x = torch.where(mirrored.view(-1, 1, 1, 1), x.flip(-1), x)
        batch = {"x": x}
        if self.label is not None:
            batch["label"] = self.label[index]
        return batch


class Joined:
    """Splits one after the other, as the published training set that is train and validation together."""

    def __init__(self, *parts: Split) -> None:
        self.parts = parts

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
