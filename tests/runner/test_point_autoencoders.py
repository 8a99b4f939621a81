"""Autoencoders without a prior, from the command line: trained, sampled from a fitted density, and asked to restore."""

import json
from pathlib import Path

import pytest
import torch
from conftest import Program

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
