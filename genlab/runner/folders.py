"""Run folders: each belongs to one run, and none is left behind empty."""

import itertools
from contextlib import suppress
from pathlib import Path

from genlab.core.errors import UserError

OUTPUTS = Path("outputs")
# What a run writes first, and what it would write over.
CHECKPOINTS = "checkpoints"
OWN = ("config.yaml", "metrics.jsonl", "tensorboard", "samples")


def claimed(folder: Path, named: bool) -> Path:
    """A folder that is this run's alone, also where several runs begin in the same second.

    Arguments:
        folder: the one that is wished for, which may exist.
        named: by the user, who wants no other.

    Raises:
        UserError: the folder that the user named holds a run.
    """
    for number in itertools.count(1):
        place = folder if number == 1 else folder.with_name(f"{folder.name}_{number}")
        if not any((place / name).exists() for name in OWN):
            with suppress(FileExistsError):
                (place / CHECKPOINTS).mkdir(parents=True)
                return place
        if named:
            there = any(place.glob(f"{CHECKPOINTS}/*.ckpt"))
            advice = f"continue it with resume={place}, or name another folder" if there else "name another folder"
            raise UserError(f"hydra.run.dir={place}: there is a run in this folder already; {advice}")
    raise AssertionError


def forget_empty(folder: Path) -> None:
    """Remove a folder that was made for a run, where nothing was written to it."""
    with suppress(OSError):
        (folder / CHECKPOINTS).rmdir()
    with suppress(OSError):
        if folder.resolve() != Path.cwd():
            folder.rmdir()


def forget_sweeps(there: set[Path] | None) -> None:
    """Remove the folder of a sweep of which Hydra's own record is all that there is, and what it was made in.

    Arguments:
        there: what `outputs` held before; None where it was not there.
    """
    for folder in OUTPUTS.glob("*_sweep"):
        if folder not in (there or ()) and [path.name for path in folder.iterdir()] == ["multirun.yaml"]:
            (folder / "multirun.yaml").unlink()
            forget_empty(folder)
    if there is None:
        forget_empty(OUTPUTS)
