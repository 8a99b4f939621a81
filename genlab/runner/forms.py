"""How samples lie in a folder: as pictures, one a file, or in shards of 1,024; and which of them are there already."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genlab.core.collectives import of_first, world
from genlab.core.files import replacing
from genlab.core.spec import Batch, Field
from genlab.data.images import read
from genlab.runner.measure import Drawing
from genlab.runner.pictures import pixels, save_png

SHARD = 1024


class Form:
    """Files in a folder, each of which holds a run of samples and is written whole or not at all.

    Arguments:
        folder: of the files.
        field: of "x".
        n: how many samples there shall be.
    """

    size = 1
    """Samples in a file."""

    def __init__(self, folder: Path, field: Field, n: int) -> None:
        self.folder, self.field, self.n = folder, field, n

    def path(self, first: int) -> Path:
        """The file whose first sample has this number."""
        raise NotImplementedError

    def write(self, first: int, samples: Batch) -> None:
        raise NotImplementedError

    def read(self, n: int) -> Tensor:
        """The first n as the model's own numbers, as far as the files hold them."""
        raise NotImplementedError

    def file(self, first: int) -> range:
        """The numbers of the samples in a file."""
        return range(first, min(first + self.size, self.n))

    def missing(self) -> list[int]:
        """The first numbers of files that are not there yet."""
        there = {path.name for path in self.folder.glob("*")}
        return [first for first in range(0, self.n, self.size) if self.path(first).name not in there]

    def done(self) -> int:
        """How many samples are there."""
        return self.n - sum(len(self.file(first)) for first in self.missing())

    def draw(self, drawing: Drawing) -> None:
        """Draw what is missing, file by file; each of several processes makes its part of the files."""
        missing = of_first(self.missing)
        rank, processes = world()
        mine = missing[rank * len(missing) // processes : (rank + 1) * len(missing) // processes]
        numbers = [i for first in mine for i in self.file(first)]
        samples = ({key: value.cpu() for key, value in batch.items()} for _, batch in drawing(numbers))
        for first, whole in zip(mine, cut(samples, [len(self.file(first)) for first in mine]), strict=True):
            self.write(first, whole)


def cut(batches: Iterator[Batch], sizes: list[int]) -> Iterator[Batch]:
    """Batches of the sizes wanted, from batches of any size. No more is held than one of each."""
    held: Batch = {}
    for size in sizes:
        while not held or len(held["x"]) < size:
            new = next(batches)
            held = {key: torch.cat([held[key], value]) for key, value in new.items()} if held else new
        yield {key: value[:size] for key, value in held.items()}
        held = {key: value[size:] for key, value in held.items()}


class Pngs(Form):
    """One file a sample, 000000.png and on."""

    def path(self, first: int) -> Path:
        return self.folder / f"{first:06d}.png"

    def write(self, first: int, samples: Batch) -> None:
        save_png(pixels(samples["x"], self.field)[0], self.path(first))

    def read(self, n: int) -> Tensor:
        channels = self.field.shape[0]
        pictures = [np.array(read(self.path(i), channels)) for i in range(n)]
        x = torch.from_numpy(np.stack(pictures)).view(n, *self.field.shape[1:], channels)
        return x.permute(0, 3, 1, 2).float() / 127.5 - 1


class Shards(Form):
    """Files of 1,024 samples: images in uint8 (N, H, W, C) under "x", other data as they are, labels beside them."""

    size = SHARD

    def path(self, first: int) -> Path:
        return self.folder / f"samples_{first:06d}.npz"

    def write(self, first: int, samples: Batch) -> None:
        arrays: dict[str, Any] = {key: value.numpy() for key, value in samples.items()}
        if self.field.is_image:
            arrays["x"] = pixels(samples["x"], self.field).permute(0, 2, 3, 1).numpy()
        with replacing(self.path(first)) as file:
            np.savez(file, **arrays)

    def read(self, n: int) -> Tensor:
        parts = []
        for first in range(0, n, SHARD):
            with np.load(self.path(first), allow_pickle=False) as arrays:
                parts.append(torch.from_numpy(arrays["x"]))
        x = torch.cat(parts)[:n]
        return x.permute(0, 3, 1, 2).float() / 127.5 - 1 if self.field.is_image else x
