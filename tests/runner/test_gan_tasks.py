"""What a trained generator is asked for: samples between samples, and data that it comes nearest to."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from program import Program, in_process

SMALL = ("model=gan", "generator.hidden=[16]", "critic.hidden=[8]", "noise.size=4", "trainer=debug")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny run with labels."""
    folder = tmp_path_factory.mktemp("gan")
    words = (
        "conditioner=label",
        "conditioner.vector=3",
        "trainer.max_steps=30",
        "trainer.log_every=0",
        "optim.lr=0.02",
    )
    quiet = ("trainer.preview_every=0", "trainer.validate_every=0", "hydra.run.dir=run")
    assert in_process("train", *SMALL, *words, *quiet, cwd=folder) == 0
    return folder / "run"


def arrays(folder: Path) -> dict[str, np.ndarray]:
    with np.load(next(folder.glob("*.npz"))) as held:
        return dict(held)


def test_rows_lead_between_samples(program: Program, here: Path, labelled: Path) -> None:
    row = ("task=interpolate", "task.samples=[1,3]", "task.points=4", "label=7", "format=npz", "out=row")
    assert program("sample", f"ckpt={labelled}", *row).status == 0
    assert program("sample", f"ckpt={labelled}", "label=7", "n=4", "format=npz", "out=new").status == 0
    rows, new = (arrays(here / name)["x"].astype(int) for name in ("row", "new"))
    assert rows.shape == (1, 4, 8, 8, 1)
    # New samples are rounded to the data's 17 levels.
    assert np.abs(rows[0, [0, -1]] - new[[1, 3]]).max() <= 8
    assert np.abs(rows[0, 0] - rows[0, -1]).max() > 8


def test_data_beside_what_is_nearest(program: Program, here: Path, labelled: Path) -> None:
    words = ("task=project", "task.steps=40", "task.restarts=2", "n=3")
    ended = program("sample", f"ckpt={labelled}", *words, "out=out")
    assert ended.status == 0, ended.err
    assert np.asarray(Image.open(here / "out" / "000002.png")).shape == (8, 17)
    record = json.loads((here / "out" / "samples.json").read_text())
    assert record["data"] == "digits test"
    assert record["task"]["steps"] == 40
    assert "project/mse" in ended.out
    assert "project/psnr" in ended.out

    assert program("sample", f"ckpt={labelled}", *words, "batch_size=2", "format=npz", "out=some").status == 0
    assert program("sample", f"ckpt={labelled}", *words, "format=npz", "out=all").status == 0
    some, all_ = arrays(here / "some"), arrays(here / "all")
    assert np.abs(some["x"].astype(int) - all_["x"].astype(int)).max() <= 1


def test_another_label_is_another_task(program: Program, here: Path, labelled: Path) -> None:
    """Data are looked for among what the model makes of their labels, unless another is named."""
    for name, label in (("own", ()), ("other", ("label=0",))):
        words = ("task=project", "task.steps=5", "n=4", "format=npz", f"out={name}", *label)
        assert program("sample", f"ckpt={labelled}", *words).status == 0
    assert not np.array_equal(arrays(here / "own")["x"], arrays(here / "other")["x"])
