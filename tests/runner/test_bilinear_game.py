"""The bilinear game of two points, through the whole of training, against what theory says of its updates."""

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from program import Program

from genlab.models.adversarial import signs
from genlab.models.adversarial.optimistic_descent import OptimisticDescent
from genlab.runner.load import load

STEPS, ETA = 120, 0.1


def radii(program: Program, *words: str) -> tuple[list[float], str]:
    """sqrt(theta^2 + psi^2) before each step, as the two gradient norms have it, and what was said."""
    ended = program(
        *("train", "experiment=gan_bilinear", f"trainer.max_steps={STEPS}", f"optim.lr={ETA}", "hydra.run.dir=run"),
        *words,
    )
    assert ended.status == 0, ended.err
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    norms = [(row["train/critic/gradient_norm"], row["train/generator/gradient_norm"]) for row in rows]
    return [math.hypot(*pair) for pair in norms], ended.err


def test_simultaneous_steps_spiral_outwards(program: Program) -> None:
    """Each step multiplies the square of the radius by 1 + eta^2."""
    found, _ = radii(program, "model.updates=simultaneous")
    expected = [math.sqrt(2) * (1 + ETA**2) ** (n / 2) for n in range(STEPS)]
    assert found == pytest.approx(expected, rel=1e-4)


def test_alternating_steps_circle(program: Program) -> None:
    """theta^2 + psi^2 - eta theta psi never changes, psi being the new one."""
    found, _ = radii(program)
    assert max(found) < 1.1 * math.sqrt(2)
    assert min(found[-60:]) > 0.9 * math.sqrt(2)
    model = load("run", weights="raw")
    theta, psi = float(model.generator.point), float(model.critic.direction)
    assert theta**2 + psi**2 - ETA * theta * psi == pytest.approx(2 - ETA, rel=1e-4)


def test_a_step_ahead_arrives(program: Program) -> None:
    found, _ = radii(program, "optim=optimistic_descent", "model.updates=simultaneous")
    assert found[-1] < 0.8 * found[0]
    assert all(after < before for before, after in pairwise(found[10:]))


def test_a_price_of_slopes_arrives(program: Program) -> None:
    found, _ = radii(program, "penalty=r1", "penalty.weight=1")
    assert found[-1] < 0.01 * found[0]


def test_one_step_of_optimistic_descent_is_the_equation() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = OptimisticDescent([weight], lr=0.5)
    for gradient, expected in (([1.0, 0.0], [0.5, 2.0]), ([2.0, 1.0], [-1.0, 1.0]), ([0.0, 0.0], [0.0, 1.5])):
        weight.grad = torch.tensor(gradient)
        optimizer.step()
        assert weight.tolist() == expected
    with pytest.raises(ValueError, match="lr=0 must be above 0"):
        OptimisticDescent([weight], lr=0)


def test_points_that_circle_are_told_of(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """The drift is measured where data are one point, and no other trouble is seen there."""
    monkeypatch.setattr(signs, "SETTLED", 500)
    ended = program("train", "experiment=gan_bilinear", "trainer.max_steps=800", "trainer.log_every=100")
    assert ended.status == 0, ended.err
    told = [line for line in ended.err.splitlines() if line.startswith("genlab: step")]
    assert [line.split(", ")[1].split(":")[0] for line in told] == ["no equilibrium"]
