"""Samplers from the command line: each draws from a checkpoint, and a pair without meaning is named in one line."""

import json
from pathlib import Path

import pytest
import torch
from program import Program, entries

from genlab.runner import estimated

MINE = {
    "euler": ("sampler.steps=3",),
    "heun": ("sampler.steps=3", "sampler.churn=2"),
    "euler_maruyama": ("sampler.steps=3",),
    "reverse_diffusion": ("sampler.steps=3",),
    "predictor_corrector": ("sampler.steps=3", "sampler.corrections=2"),
    "annealed_langevin": ("sampler.steps=2", "sampler.repeats=2", "sampler.size=null"),
    "rk45": ("sampler.rtol=0.1", "sampler.atol=0.1"),
    "analytic": ("sampler.steps=3", "sampler.data=5"),
}
NFE = {"heun": 5, "predictor_corrector": 9, "annealed_langevin": 5, "rk45": None}


@pytest.fixture(autouse=True)
def _cache(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENLAB_CACHE", str(here / "cache"))


@pytest.mark.parametrize("name", MINE)
def test_a_sampler_draws_and_says_how(program: Program, here: Path, trained: Path, name: str) -> None:
    ended = program("sample", f"ckpt={trained}", "n=2", f"sampler={name}", *MINE[name], "out=out")
    assert ended.status == 0, ended
    record = json.loads((here / "out" / "samples.json").read_text())
    assert record["sampler"] == name
    assert record.get("nfe") == NFE.get(name, 3)
    assert (here / "out" / "000001.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("heun sampler.eta=1", "sampler.eta: Heun has no such option; it has steps, space, churn"),
        ("euler sampler.eta=1", "sampler.eta: Euler has no such option"),
        (
            "heun sampler.space=time sampler.churn=1",
            "sampler.churn=1 is added in sigma; choose space=sigma, or churn=0",
        ),
        ("rk45 sampler.steps=5", "sampler.steps: RungeKutta has no such option; it has rtol, atol, clip, last"),
        ("euler sampler.steps=21", "sampler.steps=21: the model's schedule has 20 steps; choose from 1 to 20"),
        (
            "euler sampler.spacing=karas",
            "sampler.spacing: must be one of uniform, trailing, quadratic, log_snr, karras",
        ),
        ("predictor_corrector sampler.predictor.steps=5", "sampler.predictor.steps=5: set steps beside it"),
        ("annealed_langevin sampler.size=2", "sampler.size must lie between 0 and 1, not 2"),
    ],
)
def test_pairs_without_meaning_are_named(program: Program, here: Path, trained: Path, words: str, message: str) -> None:
    first, *others = words.split()
    ended = program("sample", f"ckpt={trained}", "n=2", f"sampler={first}", *others, "out=out")
    assert ended.status == 2
    assert ended.err.startswith(f"genlab: {message}")
    assert ended.err.count("\n") == 1
    assert not entries(here)


def test_a_sampler_that_needs_a_trained_model_does_not_train_one(program: Program, here: Path) -> None:
    ended = program("train", "trainer=debug", "sampler=analytic")
    assert ended.status == 2
    assert ended.err.count("\n") == 1
    assert "sampler=analytic: it is estimated from a trained model; train with another" in ended.err


def test_estimates_are_made_once_and_kept(
    program: Program, here: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For one checkpoint, one set of times and one number of data; a damaged file is made anew."""
    asked: list[int] = []
    batches = estimated.batches
    monkeypatch.setattr(estimated, "batches", lambda model, data, n: asked.append(n) or batches(model, data, n))
    words = ("sample", f"ckpt={trained}", "n=1", "sampler=analytic", "sampler.steps=3", "sampler.data=5")
    assert program(*words, "out=one").status == 0
    (kept,) = (here / "cache" / "samplers").iterdir()
    assert program(*words, "out=two", "seed=1").status == 0
    assert asked == [5]
    assert program(*words, "out=three", "sampler.steps=4").status == 0
    assert program(*words, "out=four", "sampler.data=6").status == 0
    assert asked == [5, 5, 6]
    whole = kept.read_bytes()
    kept.write_bytes(whole[:100])
    assert program(*words, "out=five").status == 0
    assert asked == [5, 5, 6, 5]
    assert estimated.read(kept).keys() == {"unknown", "level"}
    assert (here / "one" / "000000.png").read_bytes() == (here / "five" / "000000.png").read_bytes()


def test_estimates_take_data_from_all_of_the_training_set() -> None:
    seen: list[torch.Tensor] = []

    class Ordered:
        def split(self, name: str) -> "Ordered":
            assert name == "train"
            return self

        def __len__(self) -> int:
            return 1000

        def batch(self, index: torch.Tensor) -> dict[str, torch.Tensor]:
            seen.append(index)
            return {"x": index}

    class Model:
        device = torch.device("cpu")

    assert sum(len(batch["x"]) for batch in estimated.batches(Model(), Ordered(), 300)) == 300
    numbers = torch.cat(seen)
    assert (numbers.diff() > 0).all()
    assert numbers[0] == 0
    assert numbers[-1] >= 996
