"""A sweep over samplers and steps: every job's numbers are kept, and each says how its samples were drawn."""

import json
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from program import Program
from torch import nn

from genlab.metrics import cache as reference_cache
from genlab.metrics import classifier
from genlab.runner import effort
from genlab.runner.effort import Effort
from genlab.runner.evaluate import told

N = 70
FEW = ("metric=[fid,is]", f"metric.n={N}")


@pytest.fixture(autouse=True)
def cache(seen_little: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GENLAB_CACHE", str(seen_little))
    return seen_little


@pytest.fixture
def run(here: Path, trained: Path) -> Path:
    """A tiny run of the test's own."""
    shutil.copytree(trained / "checkpoints", here / "run" / "checkpoints")
    return here / "run"


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]


def hows(run: Path) -> list[dict[str, Any]]:
    """Of the distances, in their order."""
    return [row["how"] for row in rows(run) if row["name"].startswith("fid/")]


def test_a_sweep_keeps_every_jobs_numbers(program: Program, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the table lacks such steps it says so, and goes on; what is known of the data is not computed again."""
    assert program("eval", "ckpt=run", *FEW, "sampler.steps=1").status == 0
    (run / "evaluations.jsonl").unlink()

    def never(*_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(classifier, "_make", never)
    monkeypatch.setattr(reference_cache, "extract", never)
    ended = program("eval", "-m", "ckpt=run", "sampler=ancestral,ddim", "sampler.steps=2,21,5", *FEW)
    assert ended.status == 2
    assert "Traceback" not in ended.err
    mistakes = [line for line in ended.err.splitlines() if line.startswith("genlab: ")]
    assert mistakes == ["genlab: sampler.steps=21: the model's schedule has 20 steps; choose from 1 to 20"] * 2
    assert ended.err.splitlines()[-1] == "sweep: 4 of 6 jobs done"
    found = rows(run)
    assert [row["name"].split("/")[0] for row in found] == ["fid", "is"] * 4
    settings = [(row["how"]["sampler"], row["how"]["steps"], row["how"]["nfe"]) for row in found[::2]]
    assert settings == [("ancestral", 2, 2), ("ancestral", 5, 5), ("ddim", 2, 2), ("ddim", 5, 5)]
    assert program("compare", "run").status == 0


def test_a_number_says_how_it_came_about(program: Program, run: Path) -> None:
    told = ("sampler=ddim", "sampler.steps=3", "weights=raw", "batch_size=40", "seed=7")
    assert program("eval", "ckpt=run", *told, *FEW).status == 0
    (how,) = hows(run)
    expected = {
        "model": "ddpm",
        "step": 4,
        "weights": "raw",
        "trained_on": "digits",
        "sampler": "ddim",
        "steps": 3,
        "nfe": 3,
        "eta": 0.0,
        "seed": 7,
        "n": N,
        "features": "classifier-digits",
        "reference": "digits train+validation",
        "batch_size": 40,
        "device": f"cpu with {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}",
    }
    assert {key: how.get(key) for key in expected} == expected
    assert how["images_per_second"] > 0
    assert program("eval", "ckpt=run", "metric=[nll]", "metric.data=4", "estimator.t=2").status == 0
    of_model = rows(run)[-1]["how"]
    assert {key: of_model[key] for key in ("model", "step", "weights", "trained_on", "data")} == {
        "model": "ddpm",
        "step": 4,
        "weights": "ema",
        "trained_on": "digits",
        "data": "digits test",
    }


def test_no_two_ways_of_drawing_are_said_alike(program: Program, run: Path) -> None:
    """All steps of the table are a number of steps too."""
    options = (
        "steps=null",
        "eta=0.5",
        "clip=false",
        "clip=dynamic",
        "spacing=trailing",
        "spacing=karras",
        "last=false",
    )
    told = [[f"sampler.{option}"] for option in options]
    told += [["sampler.noise=transition"], ["sampler.spacing=karras", "sampler.rho=3"], []]
    for words in told:
        steps = [] if words == ["sampler.steps=null"] else ["sampler.steps=2"]
        ended = program("eval", "ckpt=run", "sampler=ancestral", *steps, *words, "metric=[is]", "metric.n=20")
        assert ended.status == 0, ended.err
    observed = ("images_per_second", "device", "batch_size")
    found = [row["how"] for row in rows(run)]
    said = {json.dumps({key: how[key] for key in sorted(how) if key not in observed}) for how in found}
    assert len(said) == len(told)
    assert found[0]["steps"] == 20


def test_samples_that_were_drawn_before_are_said_as_they_were_drawn(program: Program, run: Path) -> None:
    told = ("sampler=ddim", "sampler.steps=3", "sampler.clip=false", f"n={N}", "format=npz", "out=drawn")
    assert program("sample", "ckpt=run", *told).status == 0
    assert program("eval", "samples=drawn", *FEW).status == 0
    (how,) = hows(run.parent / "drawn")
    expected = {"model": "ddpm", "step": 4, "sampler": "ddim", "steps": 3, "nfe": 3, "clip": False, "n": N}
    assert {key: how.get(key) for key in expected} == expected


@pytest.fixture
def samplers(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, ...]]:
    """A user's own samplers: one that decides on its way how often it asks, and one with a bug."""
    (here / "lab").mkdir()
    (here / "lab" / "__init__.py").touch()
    (here / "lab" / "own.py").write_text(
        textwrap.dedent("""
            from genlab.models.diffusion.samplers.sampler import Sampler, State

            class Adaptive(Sampler):
                def evaluations(self, schedule):
                    return None

                def step(self, schedule, denoise, state, t, s, rng):
                    for _ in range(2 if len(state.x) < 40 else 1):
                        x_0 = denoise(state.x, t).x_0
                    return State(x_0)

            class Broken(Sampler):
                def step(self, schedule, denoise, state, t, s, rng):
                    raise RuntimeError("of its author")
        """)
    )
    (here / "own" / "sampler").mkdir(parents=True)
    for name in ("Adaptive", "Broken"):
        text = f"# Of one's own\n_target_: lab.own.{name}\nsteps: 3\n"
        (here / "own" / "sampler" / f"{name.lower()}.yaml").write_text(text)
    monkeypatch.setenv("GENLAB_PLUGINS", "lab")
    monkeypatch.syspath_prepend(here)
    yield "--config-dir", "own"
    for name in [name for name in sys.modules if name.partition(".")[0] == "lab"]:
        del sys.modules[name]


def test_evaluations_are_counted_where_the_sampler_decides(
    program: Program, run: Path, samplers: tuple[str, ...]
) -> None:
    """On average over the batches, of 40 and 30 samples."""
    ended = program("eval", "ckpt=run", *samplers, "sampler=adaptive", "batch_size=40", *FEW)
    assert ended.status == 0, ended.err
    (how,) = hows(run)
    assert (how["sampler"], how["nfe"]) == ("adaptive", 4.5)


def test_a_bug_in_one_job_leaves_the_others_alone(program: Program, run: Path, samplers: tuple[str, ...]) -> None:
    with pytest.raises(RuntimeError, match="of its author"):
        program("eval", "-m", "ckpt=run", *samplers, "sampler=broken,adaptive,ddim", "sampler.steps=2", *FEW)
    assert [how["sampler"] for how in hows(run)] == ["adaptive", "ddim"]


class Asked(nn.Module):
    """Something with a network, that asks it so many times."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Identity()

    def ask(self, times: int) -> None:
        for _ in range(times):
            self.network(torch.zeros(1))


def test_the_first_batch_warms_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It took 10 s for 8 images, the others 1 s for 8 and for 4."""
    clock = iter([0.0, 10.0, 20.0, 21.0, 30.0, 31.0])
    monkeypatch.setattr(effort.time, "perf_counter", lambda: next(clock))
    model, seen = Asked(), Effort()
    for images, calls in ((8, 5), (8, 5), (4, 6)):
        with seen.of(model, images):  # type: ignore[arg-type]
            model.ask(calls)
        if images == 8 and len(seen.images) == 1:
            assert seen.rate == pytest.approx(0.8)
    assert seen.rate == pytest.approx(12 / 2)
    note = seen.note(model.device)
    assert (note["nfe"], note["images_per_second"]) == (5.3, 6.0)
    model.ask(3)
    assert seen.calls == [5, 5, 6]


def test_parts_of_a_sampler_are_said_with_their_options() -> None:
    part = {"_target_": "genlab.models.diffusion.samplers.ancestral.Ancestral", "steps": None, "eta": 0.5, "rho": 7.0}
    whole = {**part, "eta": 1.0, "last": None, "spacing": "trailing"}
    assert told(whole) == {"last": "null", "spacing": "trailing"}
    of_part = {"inner": "Ancestral", "inner.eta": 0.5}
    assert told({**whole, "inner": part}) == {"last": "null", "spacing": "trailing", **of_part}
    assert told(None) == told({"_target_": "os.system", "eta": 3}) == {}
