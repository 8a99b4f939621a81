"""metric=modes from the command line, while training and after."""

import json

import pytest
from program import Program

TINY = (
    *("model=gan", "generator.hidden=[8]", "critic.hidden=[8]", "trainer=debug", "trainer.preview_every=0"),
    *("trainer.max_steps=2", "trainer.validate_every=0"),
)


def test_modes_are_counted_while_training_and_after(program: Program, here) -> None:
    watched = ("trainer.validate_every=1", "trainer.validate=[modes]", "trainer.validate_data=50")
    ended = program("train", *TINY, "data=toy2d", "data.name=25gaussians", *watched, "hydra.run.dir=run")
    assert ended.status == 0, ended.err
    assert "val/modes/covered" in (here / "run/metrics.jsonl").read_text()
    ended = program("eval", "ckpt=run", "metric=modes", "metric.modes.deviations=5")
    assert ended.status == 0, ended.err
    rows = [json.loads(line) for line in (here / "run/evaluations.jsonl").read_text().splitlines()]
    assert [row["name"] for row in rows] == ["modes/covered", "modes/good", "modes/reverse-kl"]
    assert 0 <= rows[0]["value"] <= 25
    assert 0 <= rows[1]["value"] <= 1
    how = rows[0]["how"]
    assert (how["n"], how["modes"], how["deviations"], how["model"]) == (2500, 25, 5, "gan")
    assert program("compare", "run").status == 0


def test_of_digits_a_classifier_names_the_modes(program: Program, here, seen_little, monkeypatch) -> None:
    monkeypatch.setenv("GENLAB_CACHE", str(seen_little))
    assert program("train", *TINY, "data=digits", "hydra.run.dir=run").status == 0
    ended = program("eval", "ckpt=run", "metric=[modes,is]", "metric.n=60")
    assert ended.status == 0, ended.err
    rows = [json.loads(line) for line in (here / "run/evaluations.jsonl").read_text().splitlines()]
    (how,) = [row["how"] for row in rows if row["name"] == "modes/covered"]
    assert (how["modes"], how["features"], how["n"]) == (10, "classifier-digits", 60)


def test_unknown_modes_are_refused_in_a_line(program: Program, here) -> None:
    assert program("train", *TINY, "data=toy2d", "hydra.run.dir=run").status == 0
    ended = program("eval", "ckpt=run", "metric=modes")
    assert ended.status == 2
    assert ended.err.count("\n") == 1
    assert "metric=modes: the modes of toy2d-moons-50000 are not known" in ended.err
    watched = ("trainer.validate_every=1", "trainer.validate=[modes]")
    assert program("train", *TINY, "data=toy2d", *watched, "hydra.run.dir=other").status == 2


@pytest.mark.parametrize("name", ["gan_8gaussians", "gan_25gaussians"])
def test_experiments_count_the_modes_while_they_train(program: Program, here, name) -> None:
    few = ("trainer.max_steps=2", "trainer.validate_every=2", "trainer.validate_data=50", "trainer.preview_every=0")
    ended = program("train", f"experiment={name}", *few, "hydra.run.dir=run")
    assert ended.status == 0, ended.err
    rows = [json.loads(line) for line in (here / "run/metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["val/modes/covered"] <= int(name.removeprefix("gan_").removesuffix("gaussians"))
    assert (here / "run/checkpoints/best.ckpt").exists()
