"""What numbers are compared with, and what they say of themselves."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from program import Program

from genlab.core.units import to_uint8
from genlab.data.digits import Digits


@pytest.fixture(autouse=True)
def cache(seen_little: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GENLAB_CACHE", str(seen_little))
    return seen_little


@pytest.fixture
def shards(here: Path) -> Path:
    """The test split as any program's samples: two .npz files in a folder."""
    x = to_uint8(Digits().split("test").batch(torch.arange(360))["x"], 17)
    (here / "shards").mkdir()
    for number, part in enumerate(x.permute(0, 2, 3, 1).split(200)):
        np.savez(here / "shards" / f"{number}.npz", x=part.numpy())
    return here / "shards"


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "evaluations.jsonl").read_text().splitlines()]


def test_samples_are_compared_with_the_split_that_is_asked_for(program: Program, shards: Path) -> None:
    """The test images are at no distance from themselves, and at some from those of training."""
    told = ("eval", f"samples={shards}", "data=digits", "metric=[fid,kid]")
    for against in ("train", "test"):
        ended = program(*told, f"metric.against={against}")
        assert ended.status == 0, ended.err
    of_train, kid_of_train, of_test, kid_of_test = rows(shards)
    assert of_test["value"] == pytest.approx(0, abs=1e-3)
    assert of_train["value"] > 0.1
    assert kid_of_test["value"] < kid_of_train["value"]
    assert (of_train["how"]["reference"], of_train["how"]["reference_n"]) == ("digits train+validation", 1437)
    assert (of_test["how"]["reference"], of_test["how"]["reference_n"]) == ("digits test", 360)


def test_each_split_is_kept_by_itself(program: Program, shards: Path, cache: Path) -> None:
    program("eval", f"samples={shards}", "data=digits", "metric=[kid]", "metric.against=test", "metric.kid.subsets=1")
    before = {path: path.stat().st_mtime_ns for path in (cache / "features").iterdir()}
    for against in ("train", "test", "train"):
        told = ("metric=[kid]", "metric.kid.subsets=1", f"metric.against={against}")
        assert program("eval", f"samples={shards}", "data=digits", *told).status == 0
    after = {path: path.stat().st_mtime_ns for path in (cache / "features").iterdir()}
    assert before.items() <= after.items()
    counts = {int(np.load(path)["n"]) for path in after if path.suffix == ".npz"}
    assert counts == {360, 1437}


def test_what_cannot_be_compared_with_is_refused(program: Program, shards: Path) -> None:
    told = ("eval", f"samples={shards}", "data=digits", "metric=fid")
    for words, message in (
        (("metric.against=dev",), "metric.against=dev: choose train or test"),
        (("metric.against=[test]",), "metric.against=['test']: choose train or test"),
        (("metric.against=test", "metric.reference=there.npz"), "name one of them"),
    ):
        ended = program(*told, *words)
        assert ended.status == 2
        assert ended.err.count("\n") == 1
        assert message in ended.err
    assert not (shards / "evaluations.jsonl").exists()
