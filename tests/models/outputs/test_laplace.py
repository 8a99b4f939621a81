"""Laplace's distribution: its density, the masses of its bins in both tails and within, and its learned scale."""

import math

import pytest
import torch

from genlab.core.units import from_levels, half_bin
from genlab.models.outputs.laplace import Laplace, log_laplace_bin


@pytest.mark.parametrize("log_scale", [-7.0, -3.0, 0.0, 5.0])
def test_the_levels_probabilities_sum_to_one(log_scale):
    mean = torch.linspace(-3, 3, 41, dtype=torch.float64)[:, None]
    x = from_levels(torch.arange(256), 256, torch.float64)
    total = log_laplace_bin(x, mean, torch.tensor(log_scale, dtype=torch.float64), 256).exp().sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-11)


def test_bins_are_differences_of_the_distribution_function():
    x, scale = from_levels(torch.arange(1, 15), 16, torch.float64), 0.2
    law = torch.distributions.Laplace(torch.tensor(0.21, dtype=torch.float64), scale)
    expected = (law.cdf(x + half_bin(16)) - law.cdf(x - half_bin(16))).log()
    found = log_laplace_bin(
        x, torch.tensor(0.21, dtype=torch.float64), torch.tensor(math.log(scale), dtype=torch.float64), 16
    )
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("mean", [-1e4, -1.0, 0.0, 0.004, 1e4])
@pytest.mark.parametrize("log_scale", [-7.0, 0.0, 7.0])
def test_values_and_gradients_are_finite_in_single_precision(mean, log_scale):
    m, s = (torch.full((256,), value, requires_grad=True) for value in (mean, log_scale))
    found = log_laplace_bin(from_levels(torch.arange(256), 256), m, s, 256)
    found.sum().backward()
    assert found.isfinite().all()
    assert m.grad.isfinite().all()
    assert s.grad.isfinite().all()


def test_gradients_are_those_of_finite_differences():
    mean = torch.linspace(-1.5, 1.45, 13, dtype=torch.float64, requires_grad=True)
    log_scale = torch.linspace(-3, 4, 13, dtype=torch.float64, requires_grad=True)
    x = from_levels(torch.arange(13), 13, torch.float64)
    assert torch.autograd.gradcheck(lambda m, s: log_laplace_bin(x, m, s, 13), (mean, log_scale), eps=1e-7, atol=1e-6)


def test_the_density_and_its_learned_scale():
    torch.manual_seed(0)
    output, parameters, x = Laplace((1, 2), scale=0.3), torch.randn(3, 1, 2), torch.randn(3, 1, 2)
    expected = torch.distributions.Laplace(parameters, 0.3).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(output.log_prob(parameters, x), expected)
    learned = Laplace((1, 500))
    optimizer = torch.optim.Adam(learned.parameters(), 1e-2)
    errors = 0.05 * torch.distributions.Laplace(0.0, 1.0).sample((1, 1, 500))
    for _ in range(150):
        optimizer.zero_grad()
        (-learned.log_prob(torch.zeros(1, 1, 500), errors).sum()).backward()
        optimizer.step()
    # The likeliest scale is the mean size of the errors.
    assert learned.spread(errors).exp().item() == pytest.approx(errors.abs().mean().item(), rel=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 0.0}, "scale must be a positive number or shared, not 0.0"),
        ({"levels": 1}, "levels must be at least 2, or null for a density, not 1"),
        ({"bounds": (1.0, 0.0)}, "bounds must be two rising numbers"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Laplace((1, 2), **options)
