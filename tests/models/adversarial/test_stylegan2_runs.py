"""StyleGAN2 as a program: a run that goes on as if it had not stopped, what it logs, and samples nearer to the mean."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from genlab.cli import main

TINY = (
    *("model=stylegan2", "data=digits", "generator.width=4", "critic.width=4", "generator.style=5", "noise.size=4"),
    *("generator.mapping=1", "penalty.every=2", "regularizer.every=2", "augment=ada", "augment.images=24"),
    *("augment.start=0.5", "augment.every=2", "trainer=debug", "trainer.preview_every=0", "trainer.validate_every=0"),
    *("trainer.checkpoint_every=1", "trainer.log_every=1", "trainer.batch_size=4"),
)


def program(folder: Path, *words: str) -> None:
    with contextlib.chdir(folder):
        assert main([*words]) == 0


def state(run: Path) -> dict:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def logged(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_continues_as_if_it_had_not_stopped(tmp_path):
    program(tmp_path, "train", *TINY, "trainer.max_steps=5", "hydra.run.dir=whole")
    program(tmp_path, "train", *TINY, "trainer.max_steps=3", "hydra.run.dir=parts")
    program(tmp_path, "train", "resume=parts", "trainer.max_steps=5")
    whole, parts = state(tmp_path / "whole"), state(tmp_path / "parts")
    for key, value in whole.items():
        assert torch.equal(value, parts[key]), key
    # What is averaged has the same style and probability as what learns.
    for key in ("generator.mean_style", "regularizer.mean", "augment.p"):
        assert torch.equal(whole[f"model.{key}"], whole[f"ema.{key}"])
        assert whole[f"model.{key}"].abs().sum() > 0
    lines = logged(tmp_path / "whole")
    lazy = [
        {name.split("/", 1)[1] for name in line if name.endswith(("penalty", "regularizer", "path_length"))}
        for line in lines
    ]
    some = {"critic/penalty", "generator/regularizer", "generator/path_length"}
    assert lazy == [some, set(), some, set(), some]
    # Of 24 data in which it goes from 0 to 1 it has seen 8 when it moves.
    p = [line["train/critic/augmented"] for line in lines]
    assert p[:2] == [0.5, 0.5]
    assert abs(p[2] - 0.5) == pytest.approx(1 / 3)
    assert p[3] == p[2] != p[4]


def test_truncated_samples_differ_less(tmp_path):
    program(tmp_path, "train", *TINY, "trainer.max_steps=1", "hydra.run.dir=run")
    spread = {}
    for psi in (1.0, 0.5, 0.0):
        words = ("ckpt=run", "n=8", "sampler=truncation", f"sampler.psi={psi}", "format=npz", f"out=psi_{psi}")
        program(tmp_path, "sample", *words)
        (file,) = (tmp_path / f"psi_{psi}").glob("*.npz")
        with np.load(file) as found:
            spread[psi] = found["x"].astype(float).std(0).mean()
    assert spread[1.0] > spread[0.5] > spread[0.0]
