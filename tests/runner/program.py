"""The program as its user has it: words in, an exit status, lines and files out."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from genlab.cli import main

ROOT = Path(__file__).resolve().parents[2]
# A run of seconds: four steps of eight digits, with a table of 20 diffusion steps.
TINY = (
    "trainer=debug",
    "network.width=16",
    "schedule=cosine",
    "schedule.steps=20",
    "trainer.preview_every=0",
    "trainer.validate_every=0",
)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


Program = Callable[..., Ended]


def environment(**more: str) -> dict[str, str]:
    """Of a new process, with as many threads as this one, since sums are equal to the bit only then."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads()), **more}


def hearing() -> None:
    """In a new process: SIGINT is heard, also where the tests run in the background of a shell, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def started(*words: str, cwd: Path, **more: str) -> subprocess.Popen[str]:
    """A command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "genlab", *words],
        cwd=cwd,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hearing,
    )


def in_process(*words: str, cwd: Path) -> int:
    """For fixtures that outlive a test."""
    with contextlib.chdir(cwd):
        return main(list(words))


def files(folder: Path) -> dict[str, bytes]:
    """What a folder holds."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def entries(folder: Path) -> list[str]:
    """The names of all files and folders in it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
