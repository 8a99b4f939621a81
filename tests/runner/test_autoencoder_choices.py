"""Objectives and estimators of autoencoders from the command line."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from program import Program

from genlab.data.digits import Digits

QUIET = ("trainer=debug", "trainer.preview_every=0", "trainer.validate_every=0", "hydra.run.dir=run")
SMALL = ("output=gaussian", "encoder.hidden=[8]", "decoder.hidden=[8]", "bottleneck.size=3")


def test_a_run_knows_how_many_data_it_has(program: Program, here: Path) -> None:
    ended = program("train", "model=beta_tcvae", *SMALL, *QUIET)
    assert ended.status == 0, ended.err
    config = OmegaConf.load(here / "run" / "config.yaml")
    assert config.model.objective.data_size == len(Digits().split("train"))
    rows = [json.loads(line) for line in (here / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {"train/information", "train/total_correlation", "train/dimension_wise"} <= set(rows[-1])


def test_estimators_of_a_run(program: Program, here: Path) -> None:
    assert program("train", "model=vae", *SMALL, *QUIET).status == 0
    asked = ("ckpt=run", "metric=nll", "metric.data=8")
    for words, said in (
        (("estimator=importance", "estimator.k=20"), "importance-weighted estimate, 20 draws of z a datum"),
        (("estimator=ais", "estimator.temperatures=4", "estimator.chains=2"), "annealed importance sampling from the"),
    ):
        ended = program("eval", *asked, *words)
        assert ended.status == 0, ended.err
        assert said in (here / "run" / "evaluations.jsonl").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("objective.beta=-1",), "beta must be a number of at least 0, not -1"),
        (("objective=capacity", "objective.steps=0"), "steps must be at least 1, not 0"),
        (("objective.betta=2",), "objective.betta: there is no such option; did you mean beta?"),
        (("data_size=3",), "data_size: there is no such option"),
        (("objective=importance", "objective.gradient=double"), "objective.gradient: must be"),
        (("estimator=ais", "estimator.chains=0"), "chains must be at least 1, not 0"),
    ],
)
def test_a_wrong_choice_is_said_in_a_line(program: Program, words: tuple[str, ...], said: str) -> None:
    ended = program("train", "model=vae", *SMALL, *QUIET, *words)
    assert ended.status == 2
    assert said in ended.err
    assert len(ended.err.strip().splitlines()) == 1
