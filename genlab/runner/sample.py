"""`genlab sample`: samples as files, with a record of how they were drawn.

Sample i depends on the checkpoint, the options, the seed and i alone, so a stopped command that is given again draws
only what is missing, on as many devices and in batches as large as it is told then.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from genlab import __version__
from genlab.core.collectives import barrier, world
from genlab.core.errors import Interrupted, UserError
from genlab.core.files import replacing
from genlab.metrics.features import fingerprint
from genlab.runner import processes
from genlab.runner.build import build
from genlab.runner.checkpointed import Trained, checked_numbers, chosen_device, open_checkpoint, sampler_note
from genlab.runner.compose import plain
from genlab.runner.devices import processes_asked
from genlab.runner.forms import Form, Pngs, Shards
from genlab.runner.measure import Drawing
from genlab.runner.meeting import agreed, joined
from genlab.runner.pictures import mosaic, save_gif, save_png, viewable

GRID = 64
FRAMES = 40
RECORD = "samples.json"
# Of the record, what does not decide the samples: the weights do, wherever they lie.
ASIDE = ("checkpoint", "complete")


def sample(composed: DictConfig) -> None:
    """Draw samples from a trained model into a folder."""
    checked_numbers(composed, ("n", "batch_size"))
    if composed.format not in ("png", "npz"):
        raise UserError(f"format={composed.format}: choose png or npz")
    with joined():
        count = processes_asked(composed.devices, composed.device)
        apart = count > 1 and world()[1] == 1
        work = opened(composed, device="cpu" if apart else composed.device)
        folder = agreed(lambda: output_folder(work.trained, composed, work.record))
        form = work.form(folder)
        if not form.missing() and complete(folder):
            print(f"{folder}: all {composed.n} samples are there; nothing is left to draw")
            return
        try:
            if world()[0] == 0:
                begin(folder, form, work.record)
            barrier()
            if apart:
                composed.ckpt = str(work.trained.checkpoint.path)
                processes.run(draw, (composed, folder, work.record), count)
            else:
                form.draw(work.drawing)
            barrier()
            if world()[0] == 0:
                finish(form, work, composed)
        except KeyboardInterrupt:
            there = f"{form.done()} of {composed.n} samples are in {folder}"
            raise Interrupted(f"stopped: {there}; the same command goes on") from None


def draw(composed: DictConfig, folder: Path, record: dict[str, Any]) -> None:
    """One process's part of the samples that are missing."""
    work = opened(composed, composed.device)
    differing = difference(record, work.record)
    if differing:
        path = work.trained.checkpoint.path
        raise UserError(f"{path} was written over meanwhile ({differing}); give the command again")
    work.form(folder).draw(work.drawing)


@dataclass
class Work:
    """What draws, and the record of what decides the samples."""

    trained: Trained
    drawing: Drawing
    record: dict[str, Any]

    def form(self, folder: Path) -> Form:
        field = self.trained.model.spec["x"]
        kind = Pngs if self.record["format"] == "png" and field.is_image else Shards
        return kind(folder, field, self.record["n"])


def opened(composed: DictConfig, device: str) -> Work:
    """The checkpoint, and how the command line asks for samples of it."""
    trained = open_checkpoint(composed, device)
    sampler = trained.part("sampler")
    task = build(plain(composed, ("task",))["task"], path="task")
    lacking = task.needs - trained.model.can
    if lacking:
        raise UserError(f"task: {type(trained.model).__name__} cannot {', '.join(sorted(lacking))}")
    if composed.gif and not viewable(trained.model.spec["x"]):
        raise UserError("gif=true: there is no picture of such data")
    task.conditions(trained.model, torch.arange(1))
    drawing = Drawing(trained.model, sampler, composed.seed, composed.batch_size, task)
    return Work(trained, drawing, recorded(trained, sampler, composed))


def recorded(trained: Trained, sampler: Any, composed: DictConfig) -> dict[str, Any]:
    """What decides the samples, in the order of importance, as JSON has it."""
    record = {
        "checkpoint": str(trained.checkpoint.path),
        **trained.how(),
        "fingerprint": fingerprint(trained.model.state_dict()),
        **sampler_note(sampler, trained.model),
        "sampler_options": trained.config.get("sampler"),
        "task": plain(composed, ("task",))["task"],
        "seed": composed.seed,
        "n": composed.n,
        "sample_numbers": [0, composed.n - 1],
        "format": composed.format,
        "genlab": __version__,
    }
    return json.loads(json.dumps(record))


def begin(folder: Path, form: Form, record: dict[str, Any]) -> None:
    """Say whose folder this is before anything is drawn into it."""
    save_record(folder, {**record, "complete": False})
    there = form.done()
    if there:
        print(f"{folder}: {there} samples are there already", file=sys.stderr)


def finish(form: Form, work: Work, composed: DictConfig) -> None:
    """A grid of the first samples, an animation where one is asked for, and the record that all is there."""
    field, first = form.field, min(GRID, form.n)
    if viewable(field):
        save_png(mosaic(form.read(first), field), form.folder / "grid.png")
    if composed.gif:
        work.trained.model.to(chosen_device(composed.device))
        save_gif(path_frames(work.drawing, first), form.folder / "path.gif")
    save_record(form.folder, {**work.record, "complete": True})
    print(form.folder / "grid.png" if viewable(field) else form.folder)


def save_record(folder: Path, record: dict[str, Any]) -> None:
    with replacing(folder / RECORD) as file:
        file.write((json.dumps(record, indent=1) + "\n").encode())


def read_record(folder: Path) -> dict[str, Any] | None:
    """What a folder says of the samples in it; None where it says nothing that can be read."""
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def complete(folder: Path) -> bool:
    return bool((read_record(folder) or {}).get("complete"))


def difference(record: dict[str, Any], other: dict[str, Any]) -> str | None:
    """The first thing that decides samples and differs; None where both are of the same samples."""
    for key in [*record, *other]:
        if key not in ASIDE and record.get(key) != other.get(key):
            if key == "fingerprint":
                return f"another checkpoint, {record.get('checkpoint')}"
            return f"{key} {record.get(key)}, not {other.get(key)}"
    return None


def output_folder(trained: Trained, composed: DictConfig, record: dict[str, Any]) -> Path:
    """A new folder, or that of the same command which was stopped before it was done, or which is named again.

    Raises:
        UserError: `out` holds other samples, or other files.
    """
    if composed.out is not None:
        folder = Path(composed.out).expanduser()
        if folder.exists() and not folder.is_dir():
            raise UserError(f"out={folder}: there is a file of this name; name a folder")
        if not folder.exists() or all(path.name.startswith(".") for path in folder.iterdir()):
            return folder
        found = read_record(folder)
        if found is None:
            raise UserError(f"out={folder}: it holds other files; name a new folder")
        differing = difference(found, record)
        if differing:
            raise UserError(f"out={folder}: it holds samples of {differing}; name a new folder")
        return folder
    note = "".join(f"_{record[key]}" for key in ("sampler", "nfe") if key in record)
    name = f"step_{trained.checkpoint.step:07d}{note}_seed_{composed.seed}_n_{composed.n}"
    number = 1
    while True:
        folder = trained.run / "samples" / (name if number == 1 else f"{name}_{number}")
        found = read_record(folder)
        if not folder.exists() or (found is not None and not found.get("complete") and not difference(found, record)):
            return folder
        number += 1


def path_frames(drawing: Drawing, n: int) -> list[Tensor]:
    """Pictures of samples 0 to n - 1 on their way from noise, about `FRAMES` of them, evenly spaced."""
    field = drawing.model.spec["x"]
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
