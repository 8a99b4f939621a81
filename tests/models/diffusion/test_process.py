"""Laws of the Gaussian process: Bayes, the published posterior, and divergences that equal their definition."""

import math

import pytest
import torch
from closed_form import SCHEDULES, published_beta, times
from torch.distributions import Normal, kl_divergence

from genlab.models.diffusion.process import diffuse, normal_kl, posterior, prior_kl
from genlab.models.diffusion.schedule import LinearBeta

schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@schedules
@pytest.mark.parametrize(("s", "t"), [(0.3, 0.6), (0.001, 1.0), (0.5, 0.5001)])
def test_posterior_obeys_bayes(schedule, s, t):
    """q(x_s | x_t, x_0) q(x_t | x_0) = q(x_t | x_s) q(x_s | x_0), at random points."""
    s, t = torch.tensor([s, t], dtype=torch.float64)
    (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule(s), schedule(t)
    x_0, z_s, z_t = normal(3, 64)
    v = schedule.transition_variance(s, t)
    x_s = alpha_s * x_0 + sigma_s * z_s
    x_t = alpha_t / alpha_s * x_s + v.sqrt() * z_t
    of_x_t, of_x_0, variance = posterior(schedule, t, s)
    mean = of_x_t * x_t + of_x_0 * x_0
    left = Normal(mean, variance.sqrt()).log_prob(x_s) + Normal(alpha_t * x_0, sigma_t).log_prob(x_t)
    right = Normal(alpha_t / alpha_s * x_s, v.sqrt()).log_prob(x_t) + Normal(alpha_s * x_0, sigma_s).log_prob(x_s)
    torch.testing.assert_close(left, right, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_posterior_is_the_published_one(name):
    """DDPM's equations 6 and 7, at every step of the table."""
    beta = published_beta(name)
    bar = (1 - beta).cumprod(0)
    before = torch.cat([bar.new_ones(1), bar[:-1]])
    t = times(SCHEDULES[name])
    of_x_t, of_x_0, variance = posterior(SCHEDULES[name], t, t - 1e-3)
    torch.testing.assert_close(of_x_0, before.sqrt() * beta / (1 - bar), rtol=1e-8, atol=0)
    torch.testing.assert_close(of_x_t, (1 - beta).sqrt() * (1 - before) / (1 - bar), rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(variance, (1 - before) / (1 - bar) * beta, rtol=1e-8, atol=1e-16)


@schedules
def test_the_posterior_at_the_data_is_the_data(schedule):
    t = times(schedule)
    of_x_t, of_x_0, variance = posterior(schedule, t, torch.zeros_like(t))
    assert (of_x_t == 0).all()
    assert (of_x_0 == 1).all()
    assert (variance == 0).all()


def test_noised_data_have_the_marginal_mean_and_variance():
    schedule, t = LinearBeta(), torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    alpha, sigma = schedule(t)
    x_0, eps = normal(2, 3, 2)
    expected = torch.stack([a * x + s * e for a, s, x, e in zip(alpha, sigma, x_0, eps, strict=True)])
    torch.testing.assert_close(diffuse(schedule, x_0, t, eps), expected, rtol=1e-15, atol=0)


def test_single_precision_stays_single():
    x = diffuse(LinearBeta(), torch.ones(3, 1, 2, 2), torch.rand(3, dtype=torch.float64), torch.ones(3, 1, 2, 2))
    assert x.dtype == torch.float32


def test_normal_kl_equals_its_definition():
    mean_1, log_variance_1, mean_2, log_variance_2 = normal(4, 50)
    one, two = (
        Normal(mean_1, (log_variance_1 / 2).exp()),
        Normal(mean_2, (log_variance_2 / 2).exp()),
    )
    found = normal_kl(mean_1, log_variance_1, mean_2, log_variance_2)
    torch.testing.assert_close(found, kl_divergence(one, two), rtol=1e-12, atol=1e-13)
    assert (normal_kl(mean_1, log_variance_1, mean_1, log_variance_1) == 0).all()


@schedules
def test_the_prior_term_equals_its_definition(schedule):
    alpha, sigma = schedule(torch.ones((), dtype=torch.float64))
    x_0 = normal(5, 1, 3, 3)
    end = Normal(alpha * x_0, sigma.expand_as(x_0))
    prior = Normal(torch.zeros_like(x_0), torch.full_like(x_0, schedule.prior_scale))
    expected = kl_divergence(end, prior).flatten(1).sum(1)
    torch.testing.assert_close(prior_kl(schedule, x_0), expected, rtol=1e-6, atol=1e-12)


def test_the_prior_term_of_the_linear_table_is_about_1e_5_bits_per_dimension():
    """Images have a mean square of about 1/3, as uniform pixels in [-1, 1] do."""
    x_0 = torch.linspace(-1, 1, 256).expand(4, 256)
    bits = prior_kl(LinearBeta(), x_0) / (256 * math.log(2))
    assert bits.mean().item() == pytest.approx(1e-5, rel=0.1)
