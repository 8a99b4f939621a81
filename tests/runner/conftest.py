"""Folders, tiny runs and caches that the commands are tried on."""

from pathlib import Path

import pytest
from program import TINY, Ended, Program, in_process

from genlab.cli import main
from genlab.data.digits import Digits
from genlab.metrics import classifier


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
