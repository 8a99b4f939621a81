"""The masses of bins, against the differences that they are, in extended precision and in the tails."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_ndtr

from genlab.core.units import from_levels, half_bin
from genlab.models.outputs.bins import log_logistic_bin, log_normal_bin, nearest_level

BINS = {"normal": log_normal_bin, "logistic": log_logistic_bin}
NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)
bins = pytest.mark.parametrize("bin", BINS.values(), ids=BINS)


def values(levels: int) -> torch.Tensor:
    return from_levels(torch.arange(levels), levels, torch.float64)


@bins
@pytest.mark.parametrize("levels", [2, 3, 256])
def test_the_levels_probabilities_sum_to_one(bin, levels):
    mean = torch.linspace(-3, 3, 41, dtype=torch.float64)[:, None, None]
    log_scale = torch.linspace(-7, 7, 57, dtype=torch.float64)[:, None]
    total = bin(values(levels), mean, log_scale, levels).exp().sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-11)


def normal_mass(a: float, b: float) -> float:
    """log of the normal distribution's mass between a and b, by a quadrature of the density over its largest value."""
    t = (a + b) / 2 + (b - a) / 2 * NODES
    exponent = -(t**2) / 2
    top = exponent.max()
    sum_ = (WEIGHTS * np.exp(exponent - top)).sum()
    return math.log((b - a) / 2 * sum_) + top - math.log(2 * math.pi) / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("log_scale", [-6.0, -4.0, -3.2, -2.5, -1.0, 0.0, 1.0, 6.5])
def test_normal_bins_hold_the_integral_of_the_density(dtype, log_scale):
    levels, v, scale = 256, np.arange(1, 255, 11), math.exp(log_scale)
    x = from_levels(torch.from_numpy(v), levels, dtype)
    for mean in (-0.93, 0.1234, 2.5):
        centre = (x.double().numpy() - mean) / scale
        half = half_bin(levels) / scale
        expected = torch.tensor([normal_mass(m - half, m + half) for m in centre], dtype=dtype)
        found = log_normal_bin(x, torch.tensor(mean, dtype=dtype), torch.tensor(log_scale, dtype=dtype), levels)
        # In single precision x itself is only known to 6e-8, which is 6e-8 / scale deviations.
        torch.testing.assert_close(found, expected, rtol=2e-6 if dtype == torch.float32 else 1e-11, atol=2e-5)


def test_open_bins_take_the_tails():
    mean, scale = torch.tensor(0.3, dtype=torch.float64), 0.2
    found = log_normal_bin(torch.tensor([-1.0, 1.0], dtype=torch.float64), mean, torch.tensor(math.log(scale)), 5)
    expected = log_ndtr([(-0.75 - 0.3) / scale, (0.3 - 0.75) / scale])
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-7, atol=0)


def test_logistic_bins_are_differences_of_sigmoids():
    mean, log_scale = torch.tensor(-0.2, dtype=torch.float64), torch.tensor(-1.5, dtype=torch.float64)
    inner = values(16)[1:-1]
    a, b = ((inner + sign * half_bin(16) - mean) / log_scale.exp() for sign in (-1, 1))
    expected = (b.sigmoid() - a.sigmoid()).log()
    torch.testing.assert_close(log_logistic_bin(inner, mean, log_scale, 16), expected, rtol=1e-11, atol=0)


@bins
@pytest.mark.parametrize("mean", [-1e4, -3.0, 0.0, 0.5, 1e4])
@pytest.mark.parametrize("log_scale", [-7.0, 0.0, 7.0])
def test_values_and_gradients_are_finite_in_single_precision(bin, mean, log_scale):
    m, s = (torch.full((256,), value, requires_grad=True) for value in (mean, log_scale))
    found = bin(values(256).float(), m, s, 256)
    found.sum().backward()
    assert found.isfinite().all()
    assert m.grad.isfinite().all()
    assert s.grad.isfinite().all()
    if abs(mean) == 1e4 and log_scale < 7:
        assert (m.grad[1:-1] * math.copysign(1, mean) < 0).all(), "far bins still pull the mean to themselves"


@pytest.mark.parametrize("mean", [-1e5, -30.0, 2.0, 1e3])
def test_far_normal_bins_pull_as_a_parabola_does(mean):
    m, scale = torch.full((254,), mean, requires_grad=True), 1e-2
    x = values(256)[1:-1].float()
    log_normal_bin(x, m, torch.tensor(math.log(scale)), 256).sum().backward()
    nearest_edge = x + math.copysign(half_bin(256), mean)
    torch.testing.assert_close(m.grad, (nearest_edge - mean) / scale**2, rtol=2e-3, atol=0)


@bins
def test_gradients_are_those_of_finite_differences(bin):
    mean = torch.linspace(-1.5, 1.5, 13, dtype=torch.float64, requires_grad=True)
    log_scale = torch.linspace(-3, 4, 13, dtype=torch.float64, requires_grad=True)
    x = values(13)
    assert torch.autograd.gradcheck(lambda m, s: bin(x, m, s, 13), (mean, log_scale), eps=1e-6, atol=1e-6)


def test_the_nearest_level_is_the_one_whose_bin_it_is():
    x = torch.tensor([-5.0, -0.51, -0.49, 0.1, 0.9, 7.0])
    assert nearest_level(x, 3).tolist() == [-1.0, -1.0, 0.0, 0.0, 1.0, 1.0]
