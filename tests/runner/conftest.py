"""The program as its user has it: words in, an exit status, lines and files out."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from genlab.cli import main
from genlab.data.digits import Digits
from genlab.metrics import classifier

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


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a test works in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def program(here: Path, capfd: pytest.CaptureFixture[str]) -> Program:
    """Runs a command within this process, in the test's folder."""

    def run(*words: str) -> Ended:
        capfd.readouterr()
        status = main(list(words))
        return Ended(status, *capfd.readouterr())

    return run


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


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny run, validated and previewed on its way. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("trained")
    watched = ("trainer.validate_every=2", "trainer.preview_every=2", "trainer.preview_n=4", "estimator.t=2")
    assert in_process("train", *TINY, *watched, "hydra.run.dir=outputs/run", cwd=folder) == 0
    return folder / "outputs" / "run"


@pytest.fixture(scope="session")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny run with labels."""
    folder = tmp_path_factory.mktemp("conditional")
    words = ("conditioner=label", "trainer.max_steps=1", "hydra.run.dir=run")
    assert in_process("train", *TINY, *words, cwd=folder) == 0
    return folder / "run"


@pytest.fixture(scope="session")
def seen_little(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with a classifier of the digits that saw little."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENLAB_CACHE", str(folder))
        patch.setattr(classifier, "IMAGES", 3000)
        classifier.classifier_features(Digits())
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """What a folder holds."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def entries(folder: Path) -> list[str]:
    """The names of all files and folders in it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
