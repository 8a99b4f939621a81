"""Metrics of codes, from the command line."""

import json
from pathlib import Path

import pytest
import torch
from program import Program, in_process

from genlab.data.sprites import Sprites
from genlab.runner.coded import coded
from genlab.runner.load import load

TINY = (
    *("model=vae", "trainer=debug", "trainer.max_steps=2", "trainer.preview_every=0", "trainer.validate_every=0"),
    *("encoder.hidden=[8]", "decoder.hidden=[8]", "bottleneck.size=3"),
)
SPRITES = ("data=sprites", "data.black_and_white=true", "data.positions=4", "data.side=16")
QUICK = [f"metric.disentanglement.{score}.{n}=50" for score in ("higgins", "factorvae") for n in ("train", "test")]


@pytest.fixture(scope="module")
def of_sprites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sprites")
    watched = ("trainer.validate_every=1", "trainer.validate_data=100", "trainer.validate=[nll,disentanglement]")
    assert in_process("train", *TINY, *SPRITES, *watched, "hydra.run.dir=run", cwd=folder) == 0
    return folder / "run"


def test_disentanglement_is_measured_while_training_and_after(program: Program, of_sprites: Path) -> None:
    logged = (of_sprites / "metrics.jsonl").read_text()
    assert "val/disentanglement/mig" in logged
    ended = program("eval", f"ckpt={of_sprites}", "metric=disentanglement", *QUICK)
    assert ended.status == 0, ended.err
    rows = [json.loads(line) for line in (of_sprites / "evaluations.jsonl").read_text().splitlines()]
    found = {row["name"].removeprefix("disentanglement/"): row for row in rows}
    for name in ("higgins", "factorvae", "mig", "mig/shape", "dci/disentanglement", "dci/informativeness"):
        assert 0 <= found[name]["value"] <= 1
    how = found["higgins"]["how"]
    assert how["data"] == f"{Sprites(16, True, positions=4).identity} test"
    assert (how["model"], how["step"], how["weights"], how["n"], how["codes"]) == ("vae", 2, "ema", 240, 3)


def test_the_table_of_codes_is_the_models_whatever_the_batch(of_sprites: Path) -> None:
    model, split = load(str(of_sprites)), Sprites(16, True, positions=4).split("test")
    tables = [coded(model, split, 50, size, ("factors",), shown=False) for size in (50, 7)]
    for key in ("z", "factors"):
        torch.testing.assert_close(tables[0][key], tables[1][key])
    batch = split.batch(torch.arange(50))
    torch.testing.assert_close(tables[0]["z"], model.encode(batch)["z"].detach())
    assert tables[0]["factors"].equal(batch["factors"])


def test_data_without_factors_and_models_without_codes_are_refused_in_a_line(
    program: Program, here: Path, trained: Path
) -> None:
    assert program("train", *TINY, "data=heartbeat", "hydra.run.dir=beat").status == 0
    for ckpt, message in (
        ("beat", "metric=disentanglement: the factors of heartbeat test are not known; it is for data=sprites"),
        (str(trained), "metric=disentanglement: model=ddpm cannot have it; models that can: "),
    ):
        ended = program("eval", f"ckpt={ckpt}", "metric=disentanglement")
        assert ended.status == 2
        assert ended.err.count("\n") == 1
        assert message in ended.err
    ended = program("train", *TINY, "data=heartbeat", "trainer.validate_every=1", "trainer.validate=[disentanglement]")
    assert ended.status == 2
    assert "the factors of heartbeat validation are not known" in ended.err
