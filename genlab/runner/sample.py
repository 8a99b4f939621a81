"""`genlab sample`: samples as files, with a record of how they were drawn.

Sample i depends on the checkpoint, the options, the seed and i alone, so a stopped command that is given again draws
only what is missing, on as many devices and in batches as large as it is told then.
"""

import json
import sys
from collections.abc import Iterator
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
from genlab.core.spec import Batch, spec_to_config
from genlab.data.contract import DataSet, Readable, Split
from genlab.metrics.features import fingerprint
from genlab.metrics.record import How
from genlab.runner import processes
from genlab.runner.build import build, component
from genlab.runner.checkpointed import Trained, checked_numbers, chosen_device, open_checkpoint, sampler_note
from genlab.runner.compose import plain
from genlab.runner.devices import processes_asked
from genlab.runner.embedded import THUMBNAILS, VECTORS, colourings, save_projector, save_scatter, thumbnails
from genlab.runner.estimated import informed
from genlab.runner.forms import Form, Pngs, Rows, Shards, Sounds
from genlab.runner.measure import Drawing, spread
from genlab.runner.meeting import agreed, in_turn, joined
from genlab.runner.pictures import is_sequence, mosaic, save_gif, save_png, viewable
from genlab.runner.reports import report
from genlab.tasks.contract import Task

# Samples where nobody says how many.
USUAL = 64
# Samples in the grid: images or sequences, and points.
GRID, POINTS = 64, 512
FRAMES = 40
RECORD = "samples.json"
# Of the record, what does not decide the samples: the weights do, wherever they lie.
ASIDE = ("checkpoint", "guidance_ckpt", "complete")


def sample(composed: DictConfig) -> None:
    """Draw samples from a trained model into a folder."""
    checked_numbers(composed, ("n", "batch_size"))
    if composed.format not in ("png", "npz"):
        raise UserError(f"format={composed.format}: choose png or npz")
    with joined():
        count = processes_asked(composed.devices, composed.device)
        apart = count > 1 and world()[1] == 1
        work = opened(composed, device="cpu" if apart else composed.device)
        folder = agreed(lambda: output_folder(work.trained, composed, work.record, work.drawing.task.name))
        form = work.form(folder)
        if not form.missing() and complete(folder):
            print(f"{folder}: all {form.n} samples are there; nothing is left to draw")
            return
        try:
            if world()[0] == 0:
                begin(folder, form, work.record)
            barrier()
            if apart:
                composed.ckpt = str(work.trained.checkpoint.path)
                processes.run(draw, (composed, folder, work.record), count)
            else:
                form.draw(work.ready())
            barrier()
            if world()[0] == 0:
                finish(form, work, composed)
        except KeyboardInterrupt:
            there = f"{form.done()} of {form.n} samples are in {folder}"
            raise Interrupted(f"stopped: {there}; the same command goes on") from None


def draw(composed: DictConfig, folder: Path, record: dict[str, Any]) -> None:
    """One process's part of the samples that are missing."""
    work = opened(composed, composed.device)
    differing = difference(record, work.record)
    if differing:
        path = work.trained.checkpoint.path
        raise UserError(f"{path} was written over meanwhile ({differing}); give the command again")
    work.form(folder).draw(work.ready())


@dataclass
class Work:
    """What draws, and the record of what decides the samples."""

    trained: Trained
    drawing: Drawing
    record: dict[str, Any]

    def form(self, folder: Path) -> Form:
        field, task, n = self.trained.model.spec["x"], self.drawing.task, self.record["n"]
        if task.table:
            return Rows(folder, field, n, task)
        if field.is_sound and not task.exact:
            return Sounds(folder, field, n, task)
        kind = Pngs if self.record["format"] == "png" and field.is_image and not task.exact else Shards
        return kind(folder, field, n, task)

    def ready(self) -> Drawing:
        """What draws, with what its sampler must know of the model."""
        self.drawing.sampler = informed(self.trained, self.drawing.sampler)
        return self.drawing

    @property
    def how(self) -> How:
        """What a number about the samples should say of them."""
        heard = ("model", "step", "weights", "sampler", "nfe", "guidance", "guidance_scale", "data", "seed")
        return {key: self.record[key] for key in heard if isinstance(self.record.get(key), str | int | float)}


def opened(composed: DictConfig, device: str) -> Work:
    """The checkpoint, and how the command line asks for samples of it."""
    trained = open_checkpoint(composed, device)
    task = asked(composed)
    sampler = trained.part("sampler") if task.sampled else None
    task.check(trained.model, sampler)
    if composed.gif and not task.sampled:
        raise UserError(f"gif=true: task={task.name} draws no samples; leave it out")
    if composed.gif and not viewable(trained.model.spec["x"]):
        raise UserError("gif=true: there is no picture of such data")
    size = max(1, composed.batch_size // task.width)
    dataset = None if task.split is None else trained.data()
    n = task.count(how_many(composed.n, task, dataset))
    data = None if dataset is None else given(dataset, task, n)
    if data is not None and task.looks:
        task.prepare(trained.model, looked_at(trained, data, task.looks, composed.batch_size))
    record = recorded(trained, sampler, composed, task, n)
    if dataset is not None:
        record["data"] = f"{dataset.identity} {task.split}"
    drawing = Drawing(trained.model, sampler, composed.seed, size, task, data=data)
    return Work(trained, drawing, json.loads(json.dumps(record)))


def asked(composed: DictConfig) -> Task:
    """The task of the command line; an error where an option beside it is none of its."""
    config = plain(composed, ("task",))["task"]
    task = build(config, path="task")
    if composed.label is not None and "label" not in config:
        raise UserError(f"label={composed.label}: task={task.name} takes the labels of its data; leave it out")
    if composed.data is not None and task.split is None:
        raise UserError(f"data: task={task.name} is given no data; leave it out")
    for name in () if task.sampled else ("sampler", "guidance"):
        if composed[name] is not None:
            raise UserError(f"{name}: task={task.name} draws no samples; leave it out")
    return task


def how_many(n: int | None, task: Task, dataset: DataSet | None) -> int:
    """Samples that are asked for: as many as is usual where nobody says, and of a table all that there are."""
    if n is not None or not task.table or dataset is None:
        return USUAL if n is None else n
    assert task.split is not None
    split = task.split
    return len(in_turn(lambda: dataset.split(split)))


def looked_at(trained: Trained, data: Split, count: int, batch_size: int) -> Iterator[Batch]:
    """Some data, evenly spread, as the task is shown them."""
    with torch.no_grad():
        for index in spread(count, len(data)).split(batch_size):
            yield {key: value.to(trained.model.device) for key, value in data.batch(index).items()}


def given(dataset: DataSet, task: Task, n: int) -> Split:
    """The data that the task's n samples are about."""
    assert task.split is not None
    split = task.split
    data = in_turn(lambda: dataset.split(split))
    numbers = task.data(torch.arange(n))
    last = -1 if numbers is None else int(numbers.max())
    if last >= len(data):
        raise UserError(
            f"task={task.name}: datum {last} is asked for, and the {split} split of {dataset.identity} has {len(data)} "
            "data, numbered from 0; lower n, or name others"
        )
    return data


def recorded(trained: Trained, sampler: Any, composed: DictConfig, task: Task, n: int) -> dict[str, Any]:
    """What decides the samples, in the order of importance."""
    return {
        "checkpoint": str(trained.checkpoint.path),
        **trained.how(),
        "fingerprint": fingerprint(trained.model.state_dict()),
        **sampler_note(sampler, trained.model),
        "sampler_options": trained.config.get("sampler") if task.sampled else None,
        "task": {**plain(composed, ("task",))["task"], **task.facts},
        "layout": task.layout,
        "seed": composed.seed,
        "n": n,
        "sample_numbers": [0, n - 1],
        "spec": spec_to_config(trained.model.spec),
        "format": composed.format,
        "genlab": __version__,
    }


def begin(folder: Path, form: Form, record: dict[str, Any]) -> None:
    """Say whose folder this is before anything is drawn into it."""
    save_record(folder, {**record, "complete": False})
    there = form.done()
    if there:
        print(f"{folder}: {there} samples are there already", file=sys.stderr)


def finish(form: Form, work: Work, composed: DictConfig) -> None:
    """What the samples come to, pictures of the first, and the record that all is there."""
    field, task = form.field, form.task
    numbers = task.data(torch.arange(form.n)) if task.split is not None else None
    about = numbers.tolist() if numbers is not None and numbers.ndim == 1 else None
    report(task, form.values(), about, form.folder, work.how)
    shown = form.folder
    if isinstance(form, Rows):
        shown = mapped(form, work) or shown
    elif viewable(field):
        shown = form.folder / "grid.png"
        save_png(
            form.picture(min(GRID if field.is_image or field.is_sound or is_sequence(field) else POINTS, form.n)),
            shown,
        )
    elif (texts := texts_of(form, work)) is not None:
        shown = form.folder / "samples.txt"
        with replacing(shown) as file:
            file.write("\n\n".join(texts).encode())
    if composed.gif:
        work.trained.model.to(chosen_device(composed.device))
        save_gif(path_frames(work.ready(), min(GRID, form.n)), form.folder / "path.gif")
    save_record(form.folder, {**work.record, "complete": True})
    print(shown)


def texts_of(form: Form, work: Work) -> list[str] | None:
    """The first samples as text, where the data are; what was given of each is part of it."""
    config = work.trained.config.get("data")
    if not isinstance(form, Shards) or not config or not issubclass(component(config["_target_"], "data"), Readable):
        return None
    return work.trained.data().texts(form.held({"x"}, min(GRID, form.n))["x"])  # type: ignore[attr-defined]


def mapped(form: Rows, work: Work) -> Path | None:
    """A table in one file, and what a person can look at of it: its plot, where there is one."""
    form.join()
    print(form.whole)
    scatter, data = form.task.scatter(form.some), work.drawing.data
    if scatter is None or data is None:
        return None
    dataset, field = work.trained.data(), work.trained.model.spec["x"]
    rows, path = form.some(len(scatter.vectors)), form.folder / "scatter.png"
    title = f"{work.record['model']}, step {work.record['step']}: {work.record['data']}"
    save_scatter(scatter, colourings(rows, dataset), title, path)
    few = spread(THUMBNAILS if field.is_image else VECTORS, len(scatter.vectors))
    rows = {key: value[few] for key, value in rows.items()}
    pictures = thumbnails(data, rows["datum"], field.levels) if field.is_image else None
    save_projector(scatter.vectors[few], rows["datum"], colourings(rows, dataset), pictures, form.folder / "projector")
    return path


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


def output_folder(trained: Trained, composed: DictConfig, record: dict[str, Any], task: str) -> Path:
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
    what = "" if task == "generate" else f"_{task}"
    name = f"step_{trained.checkpoint.step:07d}{what}{note}_seed_{composed.seed}_n_{record['n']}"
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

    drawing.ask(torch.arange(n), watch)
    if not frames:
        raise UserError("gif=true: the model makes data at once, with no way from noise to show; leave it out")
    return frames
