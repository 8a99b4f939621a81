"""What shows trouble: of scores and samples whose trouble is known."""

import pytest
import torch

from genlab.models.adversarial.signs import Drift, mean_distance, pair_accuracy, relative, troubles

CALM = {
    "critic/accuracy": 0.7,
    "generator/gradient_norm": 0.3,
    "critic/gradient_norm": 0.2,
    "generator/spread": 0.9,
    "generator/drift": 0.05,
}


def test_accuracy_is_the_area_under_the_curve():
    """Of two normal distributions of one deviation at distance d it is Phi(d / sqrt 2), whatever is added to scores."""
    generator = torch.Generator().manual_seed(0)
    real, made = (torch.randn(2000, generator=generator) for _ in range(2))
    for distance in (0.0, 1.0, 3.0):
        expected = torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor(distance / 2**0.5))
        found = pair_accuracy(real + distance + 100, made + 100)
        assert float(found) == pytest.approx(float(expected), abs=0.02)
    assert pair_accuracy(real, real) == 0.5
    assert pair_accuracy(torch.ones(3), torch.zeros(4)) == 1
    assert pair_accuracy(torch.zeros(3), torch.zeros(4)) == 0.5


def test_the_mean_distance_is_of_different_rows():
    x = torch.randn(7, 2, 3)
    pairs = [(a - b).norm() for i, a in enumerate(x) for j, b in enumerate(x) if i != j]
    assert float(mean_distance(x)) == pytest.approx(float(torch.stack(pairs).mean()), rel=1e-4)
    assert mean_distance(x[:1]) == 0


def test_spread_is_one_of_data_themselves_and_where_it_cannot_be_told():
    x = torch.randn(500, 2)
    unit = mean_distance(x)
    assert relative(mean_distance(x), unit) == 1
    assert relative(mean_distance(0.1 * x), unit) == pytest.approx(0.1, rel=1e-3)
    assert relative(mean_distance(torch.ones(500, 2)), unit) < 1e-3
    assert relative(torch.zeros(()), mean_distance(x[:1])) == 1


def test_drift_is_how_far_samples_moved():
    drift = Drift(torch.randn(4, 3), (3,))
    drift.update(lambda z: z)
    drift.update(lambda z: z + torch.tensor([3.0, 0.0, 4.0]))
    assert float(drift.moved) == pytest.approx(5)
    drift.update(lambda z: z + torch.tensor([3.0, 0.0, 4.0]))
    assert float(drift.moved) == 0


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        ("separation", {"critic/accuracy": 1.0}),
        ("vanishing gradient", {"critic/accuracy": 0.995, "generator/gradient_norm": 1e-3}),
        ("mode collapse", {"generator/spread": 0.05}),
        ("no equilibrium", {"generator/drift": 0.8}),
    ],
)
def test_each_trouble_has_its_line(kind, bad):
    assert troubles(CALM, 10_000) == {}
    found = troubles({**CALM, **bad}, 10_000)
    assert list(found) == [kind]
    assert "\n" not in found[kind]
    assert troubles({**CALM, **bad}, 10) == {}


def test_small_gradients_are_no_trouble_where_the_critic_is_not_sure():
    assert troubles({**CALM, "generator/gradient_norm": 1e-6}, 10_000) == {}


def test_nothing_that_was_not_logged_is_trouble():
    assert troubles({}, 10_000) == {}
