"""`genlab sample`: samples as files, with a record of how they were drawn.

Sample i depends on the checkpoint, the options, the seed and i alone, so a stopped command that is given again draws
only what is missing.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from genlab import __version__
from genlab.core.errors import UserError
from genlab.core.spec import Batch, Field
from genlab.runner.build import build
from genlab.runner.checkpointed import Trained, checked_numbers, open_checkpoint, sampler_note
from genlab.runner.compose import plain
from genlab.runner.files import replacing
from genlab.runner.measure import Drawing
from genlab.runner.pictures import mosaic, pixels, save_gif, save_png, viewable

SHARD = 1024
GRID = 64
FRAMES = 40
RECORD = "samples.json"


def sample(composed: DictConfig) -> None:
    """Draw samples from a trained model into a folder."""
    checked_numbers(composed, ("n", "batch_size"))
    if composed.format not in ("png", "npz"):
        raise UserError(f"format={composed.format}: choose png or npz")
    trained = open_checkpoint(composed)
    model, sampler = trained.model, trained.part("sampler")
    task = build(plain(composed, ("task",))["task"], path="task")
    lacking = task.needs - model.can
    if lacking:
        raise UserError(f"task: {type(model).__name__} cannot {', '.join(sorted(lacking))}")
    record = recorded(trained, sampler, composed)
    task.conditions(model, torch.arange(1))
    folder = output_folder(trained, composed, record)
    drawing = Drawing(model, sampler, composed.seed, composed.batch_size, task)
    field = model.spec["x"]
    form: Form = Pngs(folder, field) if composed.format == "png" and field.is_image else Shards(folder, field, composed.n)
    save_record(folder, {**record, "complete": False})
    missing = form.missing(composed.n)
    if len(missing) < composed.n:
        print(f"{folder}: {composed.n - len(missing)} samples are there already", file=sys.stderr)
    for index, samples in form.pieces(drawing, missing):
        form.write(index, samples)
    seen = form.read(min(GRID, composed.n))
    if viewable(field):
        save_png(mosaic(seen, field), folder / "grid.png")
    if composed.gif:
        save_gif(path_frames(drawing, min(GRID, composed.n)), folder / "path.gif")
    save_record(folder, {**record, "complete": True})
    print(folder / "grid.png" if viewable(field) else folder)


def recorded(trained: Trained, sampler: Any, composed: DictConfig) -> dict[str, Any]:
    """What decides the samples, in the order of importance."""
    return {
        "checkpoint": str(trained.checkpoint.path),
        **trained.how(),
        **sampler_note(sampler, trained.model),
        "sampler_options": trained.config.get("sampler"),
        "task": plain(composed, ("task",))["task"],
        "seed": composed.seed,
        "n": composed.n,
        "sample_numbers": [0, composed.n - 1],
        "format": composed.format,
        "genlab": __version__,
    }


def save_record(folder: Path, record: dict[str, Any]) -> None:
    with replacing(folder / RECORD) as file:
        file.write((json.dumps(record, indent=1) + "\n").encode())


def output_folder(trained: Trained, composed: DictConfig, record: dict[str, Any]) -> Path:
    """A new folder, or that of the same command which was stopped before it was done.

    Raises:
        UserError: `out` holds the samples of another command.
    """
    if composed.out is not None:
        folder = Path(composed.out).expanduser()
        if folder.is_file():
            raise UserError(f"out={folder}: there is a file of this name; name a folder")
        if not folder.exists() or not any(folder.iterdir()) or _unfinished(folder, record):
            return folder
        raise UserError(f"out={folder}: it holds other samples or files; name a new folder")
    note = "".join(f"_{record[key]}" for key in ("sampler", "nfe") if key in record)
    name = f"step_{trained.checkpoint.step:07d}{note}_seed_{composed.seed}_n_{composed.n}"
    number = 1
    while True:
        folder = trained.run / "samples" / (name if number == 1 else f"{name}_{number}")
        if not folder.exists() or _unfinished(folder, record):
            return folder
        number += 1


def _unfinished(folder: Path, record: dict[str, Any]) -> bool:
    """Whether the folder was begun by the same command and not finished."""
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return found == json.loads(json.dumps({**record, "complete": False}))


class Form:
    """How samples lie in a folder."""

    def __init__(self, folder: Path, field: Field) -> None:
        self.folder, self.field = folder, field

    def missing(self, n: int) -> list[int]:
        """The numbers below n that are not there yet."""
        raise NotImplementedError

    def pieces(self, drawing: Drawing, missing: list[int]) -> Any:
        """(index, samples) in the pieces that `write` takes."""
        return drawing(missing)

    def write(self, index: Tensor, samples: Batch) -> None:
        raise NotImplementedError

    def read(self, n: int) -> Tensor:
        """The first n as the model's own numbers, as far as the files hold them."""
        raise NotImplementedError


class Pngs(Form):
    """One file a sample, 000000.png and on."""

    def path(self, i: int) -> Path:
        return self.folder / f"{i:06d}.png"

    def missing(self, n: int) -> list[int]:
        there = {p.stem for p in self.folder.glob("*.png")}
        return [i for i in range(n) if f"{i:06d}" not in there]

    def write(self, index: Tensor, samples: Batch) -> None:
        for i, picture in zip(index.tolist(), pixels(samples["x"], self.field), strict=True):
            save_png(picture, self.path(i))

    def read(self, n: int) -> Tensor:
        from torchvision.io import ImageReadMode, decode_png, read_file

        mode = ImageReadMode.GRAY if self.field.shape[0] == 1 else ImageReadMode.RGB
        images = [decode_png(read_file(str(self.path(i))), mode) for i in range(n)]
        return torch.stack(images).float() / 127.5 - 1


class Shards(Form):
    """Files of 1,024 samples: images in uint8 (N, H, W, C) under "x", other data as they are, labels beside them."""

    def __init__(self, folder: Path, field: Field, n: int) -> None:
        super().__init__(folder, field)
        self.n = n

    def path(self, first: int) -> Path:
        return self.folder / f"samples_{first:06d}.npz"

    def missing(self, n: int) -> list[int]:
        return [i for first in range(0, n, SHARD) if not self.path(first).exists() for i in range(first, min(n, first + SHARD))]

    def pieces(self, drawing: Drawing, missing: list[int]) -> Any:
        """Whole shards, each put together from batches."""
        kept: list[tuple[Tensor, Batch]] = []
        for index, samples in drawing(missing):
            kept.append((index, {key: value.cpu() for key, value in samples.items()}))
            while sum(len(i) for i, _ in kept) >= min(SHARD, self.n - int(kept[0][0][0]) // SHARD * SHARD):
                numbers = torch.cat([i for i, _ in kept])
                whole = {key: torch.cat([s[key] for _, s in kept]) for key in kept[0][1]}
                size = min(SHARD, self.n - int(numbers[0]))
                yield numbers[:size], {key: value[:size] for key, value in whole.items()}
                kept = [(numbers[size:], {key: value[size:] for key, value in whole.items()})]
                if not len(kept[0][0]):
                    kept = []
                    break

    def write(self, index: Tensor, samples: Batch) -> None:
        arrays = {key: value.cpu().numpy() for key, value in samples.items() if key != "x"}
        x = samples["x"]
        arrays["x"] = pixels(x, self.field).permute(0, 2, 3, 1).numpy() if self.field.is_image else x.cpu().numpy()
        with replacing(self.path(int(index[0]))) as file:
            np.savez(file, **arrays)

    def read(self, n: int) -> Tensor:
        parts = []
        for first in range(0, n, SHARD):
            with np.load(self.path(first), allow_pickle=False) as arrays:
                parts.append(torch.from_numpy(arrays["x"]))
        x = torch.cat(parts)[:n]
        return x.permute(0, 3, 1, 2).float() / 127.5 - 1 if self.field.is_image else x


def path_frames(drawing: Drawing, n: int) -> list[Tensor]:
    """Pictures of samples 0 to n - 1 on their way from noise, about `FRAMES` of them, evenly spaced."""
    field = drawing.model.spec["x"]
    if not viewable(field):
        raise UserError("gif=true: there is no picture of such data")
    frames: list[Tensor] = []
    shown = -1

    def watch(progress: float, x: Tensor) -> None:
        nonlocal shown
        if int(progress * FRAMES) > shown:
            shown = int(progress * FRAMES)
            frames.append(mosaic(x.clamp(-1, 1) if field.is_image else x, field))

    index = torch.arange(n, device=drawing.model.device)
    drawing.task(drawing.model, index, drawing.seed, drawing.sampler, watch)
    return frames

