"""Weightings, times and reflow from the command line."""

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from program import Program

import genlab
from genlab.runner.build import build
from genlab.runner.configs import choices, config_folder

SHORT = ("trainer=debug", "network.width=8", "trainer.preview_every=0", "trainer.validate_every=0")
TINY = (*SHORT, "schedule=cosine", "schedule.steps=20")
FLOW = ("model=rectified_flow", "sampler.steps=3", *SHORT)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return genlab.load(run, weights="raw").state_dict()


@pytest.mark.parametrize("weighting", choices("weighting"))
def test_every_weighting_trains(program: Program, here: Path, weighting: str) -> None:
    if weighting == "none":
        return
    ended = program("train", "model=ddpm", f"weighting={weighting}", *TINY, "hydra.run.dir=run")
    assert ended.status == 0, ended.err
    rows = [json.loads(line) for line in (here / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(0 < row["train/loss"] < float("inf") for row in rows)


@pytest.mark.parametrize("times", choices("times"))
def test_every_choice_of_times_trains(program: Program, times: str) -> None:
    more = ("times.steps=50",) if times == "loss_aware" else ()
    ended = program("train", "model=score_sde_vp", f"times={times}", *more, *SHORT, "hydra.run.dir=run")
    assert ended.status == 0, ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("times=loss_awake",), "times=loss_awake: there is no such times; did you mean loss_aware"),
        (("times.frist=0",), "times.frist: there is no such option; did you mean first?"),
        (("weighting.kind=v",), "weighting.kind: there is no such option"),
        (("times=log_snr",), "times=log_snr: is for continuous time, and the schedule is a table of 20 steps"),
        (("times=loss_aware", "times.steps=7"), "times.steps=7: the schedule is a table of 20 steps"),
        (("weighting=edm", "weighting.kind=w"), "weighting.kind: must be one of eps, x0"),
        (("model.coupled=true",), "model.coupled=true: the data have no noise of their own"),
        (("data=coupled", "model.coupled=true"), "data.root must be given: the folder of pairs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes_are_said_in_a_line(program: Program, here: Path, words: tuple[str, ...], said: str) -> None:
    ended = program("train", "model=ddpm", *TINY, *words, "hydra.run.dir=run")
    assert ended.status == 2
    assert said in ended.err.splitlines()[-1]
    assert not (here / "run").exists()


def test_steps_to_be_counted_must_be_given_where_the_schedule_has_none(program: Program) -> None:
    ended = program("train", "model=score_sde_vp", "times=loss_aware", *SHORT)
    assert ended.status == 2
    assert "set times.steps=100, say" in ended.err.splitlines()[-1]


def test_the_other_models_do_not_read_them(program: Program) -> None:
    ended = program("train", "model=classifier", "weighting=likelihood", *TINY)
    assert ended.status == 2
    assert "model=classifier never reads weighting" in ended.err.splitlines()[-1]
    ended = program("sample", "weighting=likelihood")
    assert ended.status == 2
    assert "sample takes the weighting from the checkpoint" in ended.err


def test_a_run_goes_on_with_the_losses_that_it_knew(program: Program, here: Path) -> None:
    """Loss-aware times are those of the run that was not stopped, and the moving average knows the same losses."""
    aware = ("schedule=cosine", "schedule.steps=4", "times=loss_aware", "times.history=2")
    words = ("train", "model=ddpm", *SHORT, *aware)
    assert program(*words, "trainer.max_steps=8", "hydra.run.dir=whole").status == 0
    assert program(*words, "trainer.max_steps=5", "hydra.run.dir=parts").status == 0
    assert program("train", "resume=parts", "trainer.max_steps=8").status == 0
    whole, parts = weights(here / "whole"), weights(here / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(value, parts[key]) for key, value in whole.items())
    assert whole["times.seen"].sum() == 8 * 8
    assert (whole["times.seen"] >= 2).all()
    average = genlab.load(here / "whole").state_dict()
    assert torch.equal(average["times.losses"], whole["times.losses"])


def test_reflow(program: Program, here: Path) -> None:
    """Train, make pairs, train on them; and the second flow is sampled and measured as the first."""
    first = program("train", *FLOW, "conditioner=label", "hydra.run.dir=first")
    assert first.status == 0, first.err
    drawn = program("sample", "ckpt=first", "task=pairs", "n=40", "batch_size=16", "out=pairs")
    assert drawn.status == 0, drawn.err
    with np.load(here / "pairs" / "samples_000000.npz") as arrays:
        assert arrays["x"].dtype == arrays["noise"].dtype == np.float32
        assert arrays["x"].shape == arrays["noise"].shape == (40, 1, 8, 8)
        x, label = arrays["x"], arrays["label"]
    assert np.array_equal(label, np.arange(40) % 10)
    assert program("sample", "ckpt=first", "n=2", "format=npz", "out=plain").status == 0
    with np.load(here / "plain" / "samples_000000.npz") as arrays:
        levels = np.round((np.clip(x[:2], -1, 1) + 1) * 8) / 8 - 1
        assert np.array_equal(arrays["x"][..., 0], np.round((levels[:, 0] + 1) * 127.5))

    again = ("data=coupled", "data.root=pairs", "model.coupled=true", "network=unet_digits", "conditioner=label")
    second = program("train", *FLOW, *again, "hydra.run.dir=second")
    assert second.status == 0, second.err
    model = genlab.load(here / "second")
    assert model.reads == {"x", "noise", "label"}
    assert model.spec["x"] == genlab.load(here / "first").spec["x"]
    assert program("sample", "ckpt=second", "n=2", "out=samples").status == 0
    measured = program(
        "eval", "ckpt=second", "metric=nll", "data=digits", "metric.data=2", "estimator=ode", "estimator.rtol=1e-2"
    )
    assert measured.status == 0, measured.err
    assert "bits/dim" in measured.out


@pytest.mark.parametrize("group", ["weighting", "times"])
def test_files_write_out_all_options(group: str) -> None:
    """So that `genlab train times=log_normal times.std=1` needs no look into the code."""
    for name in choices(group):
        if name == "none":
            continue
        whole = OmegaConf.create({"model": {"data_scale": 0.5}, "schedule": {"steps": 30}})
        whole["part"] = OmegaConf.load(config_folder() / group / f"{name}.yaml")
        made = build(OmegaConf.to_container(whole.part, resolve=True), group)
        options = set(whole.part) - {"_target_"}
        has_own = type(made).__init__ is not torch.nn.Module.__init__
        assert options == (set(inspect.signature(type(made)).parameters) if has_own else set())
