"""Codes as evaluation hands them to a metric, without a model."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from genlab.core.spec import Batch, Field, Spec


class Given:
    """A table of codes and data.

    Arguments:
        rows: of each split.
        spec: of the data.
        fields: of the codes.
        split: that is asked about.
    """

    factors = None
    told: frozenset[str] = frozenset()

    def __init__(self, rows: dict[str, Batch], spec: Spec, fields: Spec, split: str = "test") -> None:
        self.rows, self.spec, self.fields, self.split = rows, spec, fields, split
        self.name = f"somewhere {split}"
        self.asked: list[tuple[str, int | None]] = []

    @property
    def count(self) -> int:
        return len(next(iter(self.rows[self.split].values())))

    def table(self, keys: Sequence[str] = ()) -> Batch:
        return {key: self.rows[self.split][key] for key in (*self.fields, *keys)}

    def parts(self, keys: Sequence[str] = ()) -> Iterator[Batch]:
        for index in torch.arange(self.count).split(7):
            yield {key: value[index] for key, value in self.table(keys).items()}

    def decoded(self) -> Iterator[tuple[Tensor, Tensor]]:
        for part in self.parts(("x", "decoded")):
            yield part["x"], part["decoded"]

    def of(self, split: str, n: int | None) -> "Given":
        self.asked.append((split, n))
        return Given(self.rows, self.spec, self.fields, split)

    def inner(self, t: float, layer: str | None, seed: int) -> "Given":
        return self


VECTORS = {"z": Field((3,))}
