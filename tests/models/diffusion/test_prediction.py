"""Laws of predictions: one model in several coordinates."""

import pytest
import torch
from closed_form import SCHEDULES

from genlab.models.diffusion.prediction import TABLE, target

T = torch.linspace(0.001, 1, 50, dtype=torch.float64)
kinds = pytest.mark.parametrize("kind", TABLE)
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@kinds
@schedules
def test_a_network_that_hits_its_target_gives_back_the_data(schedule, kind):
    alpha, sigma = schedule(T)
    x_0, eps = normal(2, 50)
    of_x_0, of_eps, _ = target(kind, alpha, sigma)
    c_skip, c_out, _ = TABLE[kind](alpha, sigma)
    found = c_skip * (alpha * x_0 + sigma * eps) + c_out * (of_x_0 * x_0 + of_eps * eps)
    torch.testing.assert_close(found, x_0, rtol=1e-9, atol=1e-9)


@kinds
@schedules
def test_a_squared_error_is_worth_that_of_eps(schedule, kind):
    """x_0's error follows from F's, and eps = (x_t - alpha x_0) / sigma from x_0's."""
    alpha, sigma = schedule(T)
    c_out, worth = TABLE[kind](alpha, sigma).c_out, target(kind, alpha, sigma).worth
    error = normal(50)
    torch.testing.assert_close(worth * error**2, (alpha * (c_out * error) / sigma) ** 2, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("eps", lambda alpha, sigma, x_0, eps: eps),
        ("x0", lambda alpha, sigma, x_0, eps: x_0),
        ("v", lambda alpha, sigma, x_0, eps: alpha * eps - sigma * x_0),
    ],
)
def test_targets_are_the_published_ones(kind, wanted):
    alpha, sigma = SCHEDULES["cosine"](T)
    x_0, eps = normal(2, 50)
    of_x_0, of_eps, _ = target(kind, alpha, sigma)
    torch.testing.assert_close(of_x_0 * x_0 + of_eps * eps, wanted(alpha, sigma, x_0, eps), rtol=1e-9, atol=1e-9)


@kinds
def test_targets_have_the_scale_of_the_data_at_every_time(kind):
    """So that no coordinate asks a network for numbers of another size at one end."""
    of_x_0, of_eps, _ = target(kind, *SCHEDULES["linear"](T))
    torch.testing.assert_close(of_x_0**2 + of_eps**2, torch.ones_like(T), rtol=1e-6, atol=1e-6)
