"""How samples lie in a folder: pictures, one a file, or shards of 1,024, and sounds; and which are there already."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genlab.core.collectives import of_first, world
from genlab.core.files import replacing
from genlab.core.spec import Batch, Field
from genlab.data.images import read
from genlab.runner.measure import Drawing, spread
from genlab.runner.pictures import grid_of_strips, panels, pixels_of, read_note, save_png, strips
from genlab.runner.sounds import save_wav
from genlab.tasks.contract import Task
from genlab.tasks.generate import Generate

SHARD = 1024


class Form:
    """Files in a folder, each of which holds a run of samples and is written whole or not at all.

    Arguments:
        folder: of the files.
        field: of "x".
        n: how many samples there shall be.
        task: says which of what stands beside "x" is shown, and which are numbers.
    """

    size = 1
    """Samples in a file."""

    def __init__(self, folder: Path, field: Field, n: int, task: Task | None = None) -> None:
        self.folder, self.n, self.task = folder, n, task or Generate()
        # Shades between few levels are as many as a picture has.
        between = self.task.shades and field.levels is not None
        self.field = replace(field, levels=256) if between else field

    @property
    def kept(self) -> tuple[str, ...]:
        """The keys of numbers."""
        return *self.task.numbers, *self.task.traces

    def path(self, first: int) -> Path:
        """The file whose first sample has this number."""
        raise NotImplementedError

    def write(self, first: int, samples: Batch) -> None:
        raise NotImplementedError

    def picture(self, n: int) -> Tensor:
        """The first n, or some of them, (3, H, W) in uint8, where there is a picture of such data."""
        raise NotImplementedError

    def values(self) -> Batch:
        """The numbers of all samples, in order, by their keys."""
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
        while not held or len(next(iter(held.values()))) < size:
            new = next(batches)
            held = {key: torch.cat([held[key], value]) for key, value in new.items()} if held else new
        yield {key: value[:size] for key, value in held.items()}
        held = {key: value[size:] for key, value in held.items()}


class Pngs(Form):
    """One file a sample, 000000.png and on: the sample, or a strip of all that is shown of it, and its numbers."""

    def path(self, first: int) -> Path:
        return self.folder / f"{first:06d}.png"

    def write(self, first: int, samples: Batch) -> None:
        note = {key: samples[key][0].tolist() for key in self.kept}
        picture = strips(samples, self.task.layout, self.field)[0]
        save_png(picture, self.path(first), json.dumps(note) if note else "")

    def picture(self, n: int) -> Tensor:
        channels = self.field.shape[0]
        stacked = np.stack([np.array(read(self.path(i), channels)) for i in range(n)])
        pictures = torch.from_numpy(stacked).view(*stacked.shape[:3], channels).permute(0, 3, 1, 2)
        return grid_of_strips(pictures, self.field)

    def values(self) -> Batch:
        if not self.kept:
            return {}
        notes = [json.loads(read_note(self.path(i))) for i in range(self.n)]
        return {key: torch.tensor([note[key] for note in notes], dtype=torch.float64) for key in self.kept}


class Shards(Form):
    """Files of 1,024 samples: images in uint8 (N, H, W, C) under "x", other data as they are, labels beside them.

    Several images of a sample are (N, K, H, W, C). Those of a task that asks for exact numbers are (N, C, H, W) as they
    are.
    """

    size = SHARD

    def path(self, first: int) -> Path:
        return self.folder / f"samples_{first:06d}.npz"

    def write(self, first: int, samples: Batch) -> None:
        arrays: dict[str, Any] = {key: value.numpy() for key, value in samples.items()}
        if self.rounded:
            for key in self.shown:
                arrays[key] = pixels_of(key, samples[key], self.field).movedim(-3, -1).numpy()
        with replacing(self.path(first)) as file:
            np.savez(file, **arrays)

    @property
    def rounded(self) -> bool:
        return self.field.is_image and not self.task.exact

    @property
    def shown(self) -> set[str]:
        return {key for keys in self.task.layout for key in keys}

    def picture(self, n: int) -> Tensor:
        samples = self.read(n)
        if not self.field.is_image:
            return panels(samples, self.task.layout, self.field)
        return grid_of_strips(strips(samples, self.task.layout, self.field), self.field)

    def read(self, n: int) -> Batch:
        """What is shown of the first n, as the model's own numbers, as far as the files hold them."""
        samples = self.held(self.shown, n)
        return {key: x.movedim(-1, -3).float() / 127.5 - 1 if self.rounded else x for key, x in samples.items()}

    def values(self) -> Batch:
        return {key: value.double() for key, value in self.held(set(self.kept), self.n).items()}

    def held(self, keys: set[str], n: int) -> Batch:
        """What the files hold of the first n under these keys."""
        parts: dict[str, list[Tensor]] = {key: [] for key in keys}
        for first in range(0, n if keys else 0, SHARD):
            with np.load(self.path(first), allow_pickle=False) as arrays:
                for key in keys:
                    parts[key].append(torch.from_numpy(arrays[key]))
        return {key: torch.cat(part)[:n] for key, part in parts.items()}


class Sounds(Shards):
    """Shards, and beside them each sample as it sounds, 000000.wav; what else is shown of it is 000000_data.wav."""

    def write(self, first: int, samples: Batch) -> None:
        for row, number in enumerate(self.file(first)):
            for key in self.shown:
                name = f"{number:06d}.wav" if key == "x" else f"{number:06d}_{key}.wav"
                save_wav(samples[key][row], self.field, self.folder / name)
        super().write(first, samples)


class Rows(Shards):
    """All that is made of all data in one file, named after the task's `table`; in shards until all is there."""

    @property
    def whole(self) -> Path:
        return self.folder / f"{self.task.table}.npz"

    def path(self, first: int) -> Path:
        return self.folder / f"{self.task.table}_{first:06d}.npz"

    def missing(self) -> list[int]:
        return [] if self.whole.exists() else super().missing()

    def join(self) -> None:
        """Put the shards together; a second time does nothing."""
        if not self.whole.exists():
            with np.load(self.path(0), allow_pickle=False) as arrays:
                keys = set(arrays.files)
            joined: dict[str, Any] = {key: x.numpy() for key, x in self.held(keys, self.n).items()}
            with replacing(self.whole) as file:
                np.savez(file, **joined)
        for first in range(0, self.n, self.size):
            self.path(first).unlink(missing_ok=True)

    def some(self, n: int) -> Batch:
        """Of n rows, or all where there are no more, with every key: evenly spread, since some data are ordered."""
        rows = spread(n, self.n).numpy()
        with np.load(self.whole, allow_pickle=False) as arrays:
            return {key: torch.from_numpy(arrays[key][rows]) for key in arrays.files}
