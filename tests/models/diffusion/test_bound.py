"""Laws of the variational bound: its terms in closed form, the published code's, and an estimate without bias."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from closed_form import C, M, ideal_denoiser, published_beta
from scipy import stats
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.core.units import from_levels
from genlab.models.contract import Nll
from genlab.models.diffusion.bound import VariationalBound, discretized_normal
from genlab.models.diffusion.denoiser import Denoised
from genlab.models.diffusion.schedule import Cosine, LinearBeta, Schedule, match

every_level = pytest.mark.parametrize("levels", [2, 17, 256])
variances = pytest.mark.parametrize("variance", ["posterior", "transition"])
POINT = Field((1,))


def bound(x_0, denoise, schedule=None, t="all", variance="posterior", field=POINT, bounded=False, rng=None) -> Nll:
    rng = rng or Rng(0, torch.arange(len(x_0)))
    return VariationalBound(t, variance)(schedule or LinearBeta(100), denoise, x_0, field, rng, bounded)


# The normal mass on bins


@every_level
def test_the_masses_of_all_levels_sum_to_one(levels):
    x = from_levels(torch.arange(levels), levels, torch.float64)[:, None]
    mean = torch.tensor([-1.5, -1.0, -0.31, 0.0, 0.999, 3.0], dtype=torch.float64)
    for log_variance in (-9.0, -4.0, 0.0, 3.0):
        mass = discretized_normal(x, mean, torch.full_like(mean, log_variance), levels).exp()
        torch.testing.assert_close(mass.sum(0), torch.ones_like(mean), rtol=1e-9, atol=0)


@every_level
def test_the_masses_are_differences_of_the_distribution_function(levels):
    x = from_levels(torch.arange(levels), levels, torch.float64)
    mean, deviation = torch.tensor([0.2, 0.3], dtype=torch.float64)
    edges = torch.cat([x.new_tensor([-math.inf]), (x[1:] + x[:-1]) / 2, x.new_tensor([math.inf])])
    expected = torch.distributions.Normal(mean, deviation).cdf(edges).diff()
    found = discretized_normal(x, mean, 2 * deviation.log(), levels)
    torch.testing.assert_close(found.exp(), expected.clamp(min=1e-12), rtol=1e-9, atol=1e-15)


def test_the_levels_of_single_precision_data_are_recognized():
    """Also at the edges, whose bins are open: a mean far outside is certain of the outer level."""
    x = from_levels(torch.tensor([0, 255]), 256)
    mean = torch.tensor([-9.0, 9.0])
    assert discretized_normal(x, mean, torch.zeros(2, dtype=torch.float64), 256).abs().max() < 1e-12


# Each term


class Nodes:
    """Noise in three values at which a quadratic's mean is its weighted sum, one value a row."""

    def __init__(self, eps: Tensor) -> None:
        self.eps = eps

    def stage(self, name: str) -> "Nodes":
        return self

    def normal_like(self, x: Tensor) -> Tensor:
        return self.eps


def expected(schedule: Schedule, variance: str, denoise=None) -> tuple[Nll, dict[str, Tensor]]:
    """The bound's terms at nine nodes, and their expectation over data N(M, C^2) and noise, exact for quadratics."""
    node = torch.tensor([-math.sqrt(3), 0, math.sqrt(3)], dtype=torch.float64)
    weight = torch.tensor([1 / 6, 2 / 3, 1 / 6], dtype=torch.float64)
    z, eps = node.repeat_interleave(3)[:, None], node.repeat(3)[:, None]
    found = bound(M + C * z, denoise or ideal_denoiser(schedule), schedule, variance=variance, rng=Nodes(eps))
    weights = weight.repeat_interleave(3) * weight.repeat(3)
    return found, {name: weights @ term for name, term in {**found.terms, "nats": found.nats}.items()}


@variances
@pytest.mark.parametrize("schedule", [LinearBeta(100), Cosine(50), LinearBeta(1000)], ids=["linear", "cosine", "1000"])
def test_every_term_equals_its_closed_form(schedule, variance):
    """With v_q the posterior's variance, v_p the model's, and E|x_0 - x_0^|^2 = C^2 sigma^2 / (alpha^2 C^2 + sigma^2):

    E L_{i-1} = (v_q / v_p - 1 - log(v_q / v_p) + of_x_0^2 E|x_0 - x_0^|^2 / v_p) / 2
    """
    _, found = expected(schedule, variance)
    name = "cosine" if isinstance(schedule, Cosine) else "linear"
    beta = published_beta(name, schedule.steps)
    bar = (1 - beta).cumprod(0)
    before = torch.cat([bar.new_ones(1), bar[:-1]])
    v_q = (1 - before) / (1 - bar) * beta
    v_p = torch.cat([v_q[1:2], (v_q if variance == "posterior" else beta)[1:]])
    left = C**2 * (1 - bar) / (bar * C**2 + 1 - bar)
    of_x_0 = before.sqrt() * beta / (1 - bar)
    between = (v_q / v_p - 1 - (v_q / v_p).log() + of_x_0**2 * left / v_p)[1:] / 2
    first = (left[0] / v_p[0] + v_p[0].log() + math.log(2 * math.pi)) / 2
    last = (bar[-1] * (M**2 + C**2) + (1 - bar[-1]) - 1 - (1 - bar[-1]).log()) / 2
    torch.testing.assert_close(found["L_t"], torch.cat([first[None], between, last[None]]), rtol=1e-7, atol=1e-12)
    torch.testing.assert_close(found["L_0"], first, rtol=1e-9, atol=0)
    torch.testing.assert_close(found["L_T"], last, rtol=1e-7, atol=1e-12)
    torch.testing.assert_close(found["L_1..T-1"], between.sum(), rtol=1e-8, atol=0)


@pytest.mark.parametrize(("variance", "gap"), [("posterior", 0.6), ("transition", 0.15)])
def test_the_bound_of_the_ideal_denoiser_is_above_the_entropy_and_near(variance, gap):
    """The gap is what the variances cost: neither is that of the true reverse step, and the wider is nearer to it."""
    entropy = 0.5 * math.log(2 * math.pi * math.e * C**2)
    _, found = expected(LinearBeta(1000), variance)
    assert entropy < found["nats"].item() < entropy + gap


def test_no_denoiser_has_a_lower_bound_than_the_ideal_one():
    schedule = LinearBeta(100)
    ideal = ideal_denoiser(schedule)
    _, best = expected(schedule, "posterior")
    for shift, scale in ((0.01, 1.0), (-0.01, 1.0), (0.0, 1.01), (0.0, 0.99)):
        _, worse = expected(schedule, "posterior", lambda x, t, a=shift, b=scale: Denoised(a + b * ideal(x, t).x_0))
        assert (worse["L_t"][:-1] > best["L_t"][:-1]).all()


def published_terms(name: str, steps: int, variance: str, x_0, noise, network, v) -> np.ndarray:
    """Improved DDPM's `_vb_terms_bpd` in nats, with the exact distribution function; x_0 holds 256 levels."""
    beta = published_beta(name, steps).numpy()
    bar = np.cumprod(1 - beta)
    before = np.append(1.0, bar[:-1])
    posterior_variance = beta * (1 - before) / (1 - bar)
    log_clipped = np.log(np.append(posterior_variance[1], posterior_variance[1:]))
    log_large = np.log(np.append(posterior_variance[1], beta[1:]))
    log_beta = np.log(beta)
    terms = []
    for t in range(steps):
        x_t = np.sqrt(bar[t]) * x_0 + np.sqrt(1 - bar[t]) * noise[t]
        guess = (np.sqrt(1 / bar[t]) * x_t - np.sqrt(1 / bar[t] - 1) * network(x_t, t)).clip(-1, 1)
        of_x_0, of_x_t = (
            beta[t] * np.sqrt(before[t]) / (1 - bar[t]),
            (1 - before[t]) * np.sqrt(1 - beta[t]) / (1 - bar[t]),
        )
        true, mean = of_x_0 * x_0 + of_x_t * x_t, of_x_0 * guess + of_x_t * x_t
        part = (v(x_t, t) + 1) / 2
        log_p = {
            "posterior": log_clipped[t],
            "transition": log_large[t],
            "learned": part * log_beta[t] + (1 - part) * log_clipped[t],
        }[variance]
        log_q = log_clipped[t]
        kl = 0.5 * (-1 + log_p - log_q + np.exp(log_q - log_p) + (true - mean) ** 2 * np.exp(-log_p))
        plus = stats.norm.cdf(x_0 + 1 / 255, mean, np.exp(0.5 * log_p))
        minus = stats.norm.cdf(x_0 - 1 / 255, mean, np.exp(0.5 * log_p))
        mass = np.where(x_0 < -0.999, plus, np.where(x_0 > 0.999, 1 - minus, plus - minus))
        terms.append((kl if t else -np.log(mass.clip(1e-12))).sum((1, 2, 3)))
    prior = 0.5 * (-1 - np.log(1 - bar[-1]) + (1 - bar[-1]) + bar[-1] * x_0**2)
    return np.stack([*terms, prior.sum((1, 2, 3))], 1)


@pytest.mark.parametrize("variance", ["posterior", "transition", "learned"])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_every_term_of_images_is_that_of_the_published_code(name, variance):
    steps, rng = 40, Rng(1, torch.arange(3))
    schedule = LinearBeta(steps) if name == "linear" else Cosine(steps)
    x_0 = from_levels(rng.stage("data").integers(256, 3, 4, 4), 256, torch.float64)
    x_0[0, 0, 0], x_0[1, 0, 0] = -1, 1

    def network(x, t):
        return np.sin(3 * np.roll(x, 1, -1) + t)

    def v(x, t):
        return np.cos(2 * x + t)

    def denoise(x_t: Tensor, t: Tensor) -> Denoised:
        alpha, sigma = (match(c, x_t) for c in schedule(t))
        asked = x_t.numpy(), round(schedule.level(t)[0].item())
        eps, between = (torch.from_numpy(f(*asked)) for f in (network, v))
        return Denoised((x_t - sigma * eps) / alpha, (between + 1) / 2)

    drawn = rng.stage("bound")
    noise = [drawn.normal_like(x_0).numpy() for _ in range(steps)]
    field = Field((3, 4, 4), levels=256)
    found = bound(x_0, denoise, schedule, variance=variance, field=field, bounded=True, rng=rng)
    theirs = published_terms(name, steps, variance, x_0.numpy(), noise, network, v)
    torch.testing.assert_close(found.terms["L_t"], torch.from_numpy(theirs), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(found.nats, torch.from_numpy(theirs).sum(1), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("variance", "later"), [("posterior", "posterior"), ("transition", "beta")])
def test_the_first_variance_is_replaced_by_the_seconds_posterior_variance(variance, later):
    schedule = LinearBeta()
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    beta = published_beta("linear")
    bar = (1 - beta).cumprod(0)
    posterior = (beta[1:] * (1 - bar[:-1]) / (1 - bar[1:])).repeat_interleave(torch.tensor([2] + 998 * [1]))
    published = posterior if later == "posterior" else torch.cat([posterior[:1], beta[1:]])
    found = VariationalBound("all", variance).log_variance(schedule, t, (t * 1000 - 1).round() / 1000)
    torch.testing.assert_close(found, published.log(), rtol=1e-10, atol=0)


def test_variances_that_the_network_learned_are_taken_unless_told_otherwise():
    schedule, x_0 = LinearBeta(50), torch.zeros(2, 1, dtype=torch.float64)

    def denoise(x_t: Tensor, t: Tensor) -> Denoised:
        return Denoised(x_t / 2, torch.full_like(x_t, 0.3))

    nats = {v: bound(x_0, denoise, schedule, variance=v).nats for v in (None, "learned", "posterior")}
    assert torch.equal(nats[None], nats["learned"])
    assert not torch.equal(nats[None], nats["posterior"])
    of_ideal = (bound(x_0, ideal_denoiser(schedule), schedule, variance=v).nats for v in (None, "posterior"))
    assert torch.equal(*of_ideal)
    with pytest.raises(UserError, match=r"estimator.variance=learned: the model learned no variances"):
        bound(x_0, ideal_denoiser(schedule), schedule, variance="learned")


@variances
def test_what_is_trained_is_the_bound(variance):
    """The mean over all times of a datum's term in training, with the ends, is its bound."""
    schedule, x_0 = LinearBeta(50), torch.tensor([[0.3]], dtype=torch.float64)
    t = torch.arange(1, 51, dtype=torch.float64) / 50
    trained, data = VariationalBound(1, variance), x_0.expand(50, 1)
    term = trained.term(schedule, data, t, off_by(data, 0.1)(data, t), POINT).mean()
    ends = trained.ends(schedule, x_0, POINT, Rng(0, torch.arange(1)))
    whole = bound(x_0, off_by(x_0, 0.1), schedule, variance=variance).nats
    torch.testing.assert_close(term + sum(ends.values()), whole, rtol=1e-12, atol=0)


# Discrete data


@pytest.mark.parametrize(("levels", "variance"), [(2, "posterior"), (17, "transition"), (256, "transition")])
def test_the_bound_of_discrete_data_is_above_their_entropy_and_near(levels, variance):
    """The ideal denoiser is a sum over the levels; the gap is what normal steps, 300 of them, cannot follow."""
    schedule, n = LinearBeta(300), 200
    values = from_levels(torch.arange(levels), levels, torch.float64)
    probability = torch.softmax(1.5 * torch.sin(3 * values), 0)

    def denoise(x_t: Tensor, t: Tensor) -> Denoised:
        alpha, sigma = (match(c, x_t) for c in schedule(t))
        weight = torch.softmax(probability.log() - (x_t - alpha * values) ** 2 / (2 * sigma**2), dim=1)
        return Denoised((weight * values).sum(1, keepdim=True))

    # As many of each level as its probability asks for.
    place = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    x_0 = values[torch.searchsorted(probability.cumsum(0), place)][:, None]
    field = Field((1,), levels=levels)
    nats = bound(x_0, denoise, schedule, variance=variance, field=field, bounded=True).nats
    entropy = -(probability * probability.log()).sum().item()
    error = nats.std().item() / math.sqrt(n)
    assert entropy - 4 * error < nats.mean().item() < entropy + 0.4


# A part of the terms


def off_by(x_0: Tensor, error: float):
    """A denoiser that errs by the same everywhere, so that no term depends on noise."""
    return lambda x_t, t: Denoised(x_0 + error)


@variances
@pytest.mark.parametrize("k", [1, 7, 20, 98])
def test_a_few_stratified_terms_estimate_all_of_them_without_bias(k, variance):
    n = 1000
    x_0 = torch.zeros(n, 1, dtype=torch.float64)
    whole = bound(x_0[:1], off_by(x_0[:1], 0.1), variance=variance)
    part = bound(x_0, off_by(x_0, 0.1), t=k, variance=variance, rng=Rng(k, torch.arange(n)))
    error = part.nats.std().item() / math.sqrt(n)
    assert part.nats.mean().item() == pytest.approx(whole.nats.item(), abs=4 * error)
    assert error > 0
    assert (part.terms["L_0"] == whole.terms["L_0"]).all()
    assert (part.terms["L_T"] == whole.terms["L_T"]).all()


def test_more_strata_estimate_more_closely():
    x_0 = torch.zeros(1000, 1, dtype=torch.float64)
    spread = [bound(x_0, off_by(x_0, 0.1), t=k).nats.std().item() for k in (1, 4, 16, 64)]
    assert all(later < 0.5 * earlier for earlier, later in pairwise(spread))


@pytest.mark.parametrize("k", [99, 100, 1000])
def test_as_many_strata_as_terms_are_all_of_them(k):
    x_0 = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    denoise = ideal_denoiser(LinearBeta(100))
    torch.testing.assert_close(bound(x_0, denoise, t=k).nats, bound(x_0, denoise).nats, rtol=1e-14, atol=0)


@pytest.mark.parametrize("t", ["all", 5])
def test_the_terms_sum_to_the_bound(t):
    x_0 = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    found = bound(x_0, ideal_denoiser(LinearBeta(100)), t=t)
    assert found.bound == "upper"
    total = found.terms["L_T"] + found.terms["L_1..T-1"] + found.terms["L_0"]
    torch.testing.assert_close(found.nats, total, rtol=1e-14, atol=0)
    if t == "all":
        assert found.terms["L_t"].shape == (5, 101)
        torch.testing.assert_close(found.nats, found.terms["L_t"].sum(1), rtol=1e-13, atol=0)


@pytest.mark.parametrize("t", ["all", 5])
def test_the_bound_of_a_datum_does_not_depend_on_its_batch(t):
    x_0 = torch.linspace(-1, 1, 6, dtype=torch.float64)[:, None]
    rng, denoise = Rng(2, torch.arange(6)), ideal_denoiser(LinearBeta(100))
    whole = bound(x_0, denoise, t=t, rng=rng).nats
    for part in (slice(0, 1), slice(1, 6)):
        assert torch.equal(bound(x_0[part], denoise, t=t, rng=rng.rows(part)).nats, whole[part])


def test_estimates_outside_of_bounded_data_are_clipped():
    x_0 = torch.ones(4, 1, dtype=torch.float64)
    inside, outside = (bound(x_0, off_by(x_0, error), bounded=True).nats for error in (0.0, 3.0))
    assert torch.equal(inside, outside)
    assert (bound(x_0, off_by(x_0, 3.0)).nats > outside).all()


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="t must be at least 1 or all, not 0"):
        VariationalBound(0)


def test_a_schedule_without_steps_is_named():
    schedule = LinearBeta(100)
    schedule.steps = None
    with pytest.raises(UserError, match=r"estimator=vlb: .* the schedule is continuous"):
        bound(torch.zeros(1, 1), ideal_denoiser(schedule), schedule)
