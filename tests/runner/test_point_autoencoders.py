"""Autoencoders without a prior, from the command line: trained, sampled from a fitted density, and asked to restore."""

import json
from pathlib import Path

import pytest
import torch
from program import Program

import genlab
from genlab.core.errors import UserError

TINY = ("trainer=debug", "encoder.hidden=[8]", "decoder.hidden=[8]", "bottleneck.size=3", "model.density.components=2")


@pytest.mark.parametrize("model", ["ae", "dae", "sparse_ae"])
def test_samples_come_from_a_density_and_say_so(program: Program, here: Path, model: str) -> None:
    ended = program("train", f"model={model}", *TINY, "hydra.run.dir=run")
    assert ended.status == 0, ended.err
    ended = program("sample", "ckpt=run", "n=3", "out=drawn")
    assert ended.status == 0, ended.err
    said = json.loads((here / "drawn" / "samples.json").read_text())["samples_from"]
    assert said == "a mixture of 2 normal distributions fitted to training data's codes"
    assert program("sample", "ckpt=run", "task=reconstruct", "n=2", "out=again").status == 0
    ended = program("eval", "ckpt=run", "metric=nll")
    assert ended.status == 2


def test_a_checkpoint_from_before_the_end_has_no_density(program: Program, here: Path) -> None:
    words = ("trainer.max_steps=4", "trainer.checkpoint_every=2", "trainer.keep_every=2", "hydra.run.dir=run")
    assert program("train", "model=ae", *TINY, *words).status == 0
    early = genlab.load(here / "run" / "checkpoints" / "step_0000002.ckpt")
    assert "sample" not in early.can
    with pytest.raises(UserError, match="is fitted when training ends"):
        early.sample({}, genlab.core.rng.Rng(0, torch.arange(2)))
    ended = program("sample", "ckpt=run/checkpoints/step_0000002.ckpt", "n=2")
    assert ended.status == 2
    assert "cannot sample" in ended.err.splitlines()[-1]
    assert "sample" in genlab.load(here / "run").can


def test_denoising_shows_what_was_restored(program: Program, here: Path) -> None:
    assert program("train", "model=dae", *TINY, "hydra.run.dir=run").status == 0
    ended = program("sample", "ckpt=run", "task=denoise", "n=3", "out=restored")
    assert ended.status == 0, ended.err
    assert "psnr_corrupted" in ended.out


def test_a_run_that_goes_on_forgets_its_density_and_ends_as_one_that_never_stopped(
    program: Program, here: Path
) -> None:
    """Between the two ends its checkpoints have none: that of the first end is of other weights."""
    words = ("model=ae", *TINY, "trainer.checkpoint_every=3", "trainer.keep_every=3")
    assert program("train", *words, "trainer.max_steps=4", "hydra.run.dir=run").status == 0
    ended = program("train", "resume=run", "trainer.max_steps=8", "trainer.preview_every=1")
    assert ended.status == 0, ended.err
    assert program("train", *words, "trainer.max_steps=8", "hydra.run.dir=straight").status == 0
    assert "sample" not in genlab.load(here / "run" / "checkpoints" / "step_0000006.ckpt").can
    for step in ("step_0000006", "last"):
        one, other = (
            torch.load(here / name / "checkpoints" / f"{step}.ckpt", weights_only=True)["state_dict"]
            for name in ("run", "straight")
        )
        assert one.keys() == other.keys()
        assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_what_a_slope_costs_is_validated(program: Program, here: Path) -> None:
    ended = program("train", "model=ae", *TINY, "model.contraction=0.5", "hydra.run.dir=run")
    assert ended.status == 0, ended.err
    rows = [json.loads(line) for line in (here / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any(row.get("val/contraction", 0) > 0 for row in rows)


def test_samples_are_not_judged_before_there_are_any(program: Program) -> None:
    ended = program("train", "model=ae", *TINY, "trainer.validate=[pr]", "trainer.validate_data=300")
    assert ended.status == 2
    assert "trainer.validate: pr is of samples" in ended.err.splitlines()[-1]
