"""Laws of the bound in continuous time: its terms in closed form, the likelihood in the limit, no bias."""

import math

import pytest
import torch
from closed_form import CONTINUOUS, C, M, ideal_denoiser
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.core.units import from_levels
from genlab.models.contract import Nll
from genlab.models.diffusion.bound import VariationalBound
from genlab.models.diffusion.continuous import VariancePreserving
from genlab.models.diffusion.continuous_bound import ContinuousBound, level_nats
from genlab.models.diffusion.denoiser import Denoised
from genlab.models.diffusion.learned import LearnedSnr
from genlab.models.diffusion.process import diffuse
from genlab.models.diffusion.schedule import LinearBeta, Schedule, Table, match

SCHEDULES = {**CONTINUOUS, "learned": LearnedSnr(hidden=8).eval().requires_grad_(False)}
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
POINT = Field((1,))
DATA = torch.tensor([[-1.0], [M], [0.9]], dtype=torch.float64)


class Middles:
    """Noise in three values at which a quadratic's mean is its weighted sum, one a row; the middles of strata."""

    node = torch.tensor([-math.sqrt(3), 0, math.sqrt(3)], dtype=torch.float64)
    weight = torch.tensor([1 / 6, 2 / 3, 1 / 6], dtype=torch.float64)

    def __init__(self, data: int) -> None:
        self.eps = self.node.repeat(data)[:, None]

    def stage(self, name: str) -> "Middles":
        return self

    def uniform(self, k: int, dtype: torch.dtype) -> Tensor:
        return torch.full((len(self.eps), k), 0.5, dtype=dtype)

    def normal_like(self, x: Tensor) -> Tensor:
        return self.eps


def expected(schedule: Schedule, t: int = 400, t_min: float | None = None, x_0: Tensor = DATA) -> dict[str, Tensor]:
    """The terms for each of x_0 (B, 1) in expectation over noise, with the ideal denoiser of data N(M, C^2)."""
    rows = x_0.repeat_interleave(3, dim=0)
    found = ContinuousBound(t, t_min)(schedule, ideal_denoiser(schedule), rows, POINT, Middles(len(x_0)), False)
    assert found.bound == "upper"
    terms = {**found.terms, "nats": found.nats}
    return {name: term.view(-1, 3) @ Middles.weight for name, term in terms.items()}


@schedules
def test_every_term_equals_its_closed_form(schedule):
    """With u = SNR C^2 + 1 and d = x_0 - M, which E|x_0 - x_0^|^2 = (d^2 + SNR C^4) / u^2 follows from:

    1/2 int E|x_0 - x_0^|^2 d SNR = (d^2 / C^2 (1 / u_1 - 1 / u_0) + log(u_0 / u_1) + 1 / u_0 - 1 / u_1) / 2
    """
    found = expected(schedule)
    ends = torch.tensor([schedule.t_min, schedule.t_max], dtype=torch.float64)
    (alpha, sigma), (u_0, u_1) = schedule(ends), schedule.log_snr(ends).exp() * C**2 + 1
    d = DATA[:, 0] - M
    diffusion = (d**2 / C**2 * (1 / u_1 - 1 / u_0) + (u_0 / u_1).log() + 1 / u_0 - 1 / u_1) / 2
    torch.testing.assert_close(found["diffusion"], diffusion, rtol=2e-4, atol=0)
    q, p = Normal(alpha[1] * DATA[:, 0], sigma[1]), Normal(0, schedule.prior_scale)
    torch.testing.assert_close(found["prior"], kl_divergence(q, p), rtol=1e-6, atol=1e-12)
    left = 0.5 * math.log(2 * math.pi * math.e) + (sigma[0] / alpha[0]).log()
    torch.testing.assert_close(found["reconstruction"], left.expand(3), rtol=1e-12, atol=0)
    total = found["prior"] + found["diffusion"] + found["reconstruction"]
    torch.testing.assert_close(found["nats"], total, rtol=1e-12, atol=0)


def test_the_bound_comes_to_the_likelihood_of_each_datum():
    """As the smallest time goes to 0; what is left is the distance of the process's end from the prior, below 1e-4."""
    exact = -Normal(M, C).log_prob(DATA[:, 0])
    gaps = [(expected(VariancePreserving(), 1500, t_min)["nats"] - exact).abs().max() for t_min in (1e-1, 1e-2, 1e-4)]
    assert gaps[1] < 0.3 * gaps[0]
    assert gaps[2] < 1e-3


def test_no_denoiser_has_a_lower_bound_than_the_ideal_one():
    schedule = VariancePreserving()
    ideal, x_0 = ideal_denoiser(schedule), M + C * Middles.node[:, None]
    rows = x_0.repeat_interleave(3, dim=0)
    weight = Middles.weight.repeat_interleave(3) * Middles.weight.repeat(3)

    def mean(denoise) -> float:
        return (weight @ ContinuousBound(50)(schedule, denoise, rows, POINT, Middles(3), False).nats).item()

    for shift, scale in ((0.01, 1.0), (-0.01, 1.0), (0.0, 1.01), (0.0, 0.99)):
        assert mean(lambda x, t, a=shift, b=scale: Denoised(a + b * ideal(x, t).x_0)) > mean(ideal)


def test_the_bound_of_many_steps_comes_to_it():
    """A table's KLs over [t_min, 1], in expectation over noise: the error halves where steps are twice as many."""
    schedule, t_min, x_0 = VariancePreserving(), 0.02, DATA[:1].expand(3, 1)
    limit = expected(schedule, 1000, t_min, DATA[:1])
    errors = []
    for steps in (100, 200, 400):
        times = torch.cat([torch.zeros(1), torch.linspace(t_min, 1, steps)]).double()
        alpha = schedule(times)[0]
        table = Table(1 - (alpha[1:] / alpha[:-1]) ** 2)
        found = VariationalBound("all")(table, ideal_denoiser(table), x_0, POINT, Middles(1), False)
        errors.append((Middles.weight @ found.terms["L_1..T-1"] - limit["diffusion"]).abs().item())
        torch.testing.assert_close(found.terms["L_T"][:1], limit["prior"], rtol=1e-6, atol=0)
    assert errors[1] < 0.6 * errors[0]
    assert errors[2] < 0.6 * errors[1]
    assert errors[2] < 0.05 * limit["diffusion"]


@schedules
def test_what_is_trained_is_the_bound(schedule):
    """The mean over all times of a datum's term in training is the diffusion term, that over log-SNR."""
    t = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    # Few times see little noise, so none is told from the data below this time.
    bound = ContinuousBound(t_min=0.05)
    mean = torch.zeros((), dtype=torch.float64)
    for eps, weight in zip(Middles.node, Middles.weight, strict=True):
        x_0 = DATA[:1].expand(len(t), 1)
        denoised = ideal_denoiser(schedule)(diffuse(schedule, x_0, t, eps.expand(len(t), 1)), t)
        mean = mean + weight * bound.term(schedule, x_0, t, denoised, POINT).mean()
    torch.testing.assert_close(mean[None], expected(schedule, t_min=0.05, x_0=DATA[:1])["diffusion"], rtol=3e-3, atol=0)


def off_by(x_0: Tensor, error: float, schedule: Schedule):
    """A denoiser that errs by a part of the noise, so that no term depends on noise."""

    def denoise(x_t: Tensor, t: Tensor) -> Denoised:
        alpha, sigma = (match(c, x_t) for c in schedule(t))
        return Denoised(x_0 + error * sigma / (alpha + sigma))

    return denoise


@pytest.mark.parametrize("k", [1, 5, 20])
def test_a_few_stratified_times_estimate_the_bound_without_bias(k):
    n, schedule = 2000, VariancePreserving()
    x_0 = torch.zeros(n, 1, dtype=torch.float64)

    def bound(t: int, rows: int) -> Nll:
        data = x_0[:rows]
        rng = Rng(k, torch.arange(rows))
        return ContinuousBound(t)(schedule, off_by(data, 0.3, schedule), data, POINT, rng, False)

    whole, part = bound(500, 1), bound(k, n)
    error = part.nats.std().item() / math.sqrt(n)
    assert part.nats.mean().item() == pytest.approx(whole.nats.item(), abs=4 * error + 1e-6)
    assert error > 0
    assert (part.terms["prior"] == whole.terms["prior"]).all()


def test_the_bound_of_a_datum_does_not_depend_on_its_batch():
    x_0 = from_levels(torch.arange(6)[:, None], 6, torch.float64)
    rng, schedule, field = Rng(2, torch.arange(6)), VariancePreserving(), Field((1,), levels=6)
    bound = ContinuousBound(4, t_min=0.1)
    whole = bound(schedule, ideal_denoiser(schedule), x_0, field, rng, True).nats
    for part in (slice(0, 1), slice(1, 6)):
        found = bound(schedule, ideal_denoiser(schedule), x_0[part], field, rng.rows(part), True).nats
        torch.testing.assert_close(found, whole[part], rtol=1e-13, atol=0)


def test_estimates_outside_of_bounded_data_are_clipped():
    schedule, x_0 = VariancePreserving(), torch.ones(4, 1, dtype=torch.float64)
    rng = Rng(0, torch.arange(4))
    inside, outside, free = (
        ContinuousBound(3)(schedule, lambda x_t, t, e=error: Denoised(x_0 + e), x_0, POINT, rng, bounded).nats
        for error, bounded in ((0.0, True), (3.0, True), (3.0, False))
    )
    assert torch.equal(inside, outside)
    assert (free > outside).all()


# Discrete data


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("scale", [1e-3, 0.05, 1.0, 100.0])
def test_reconstruction_is_minus_the_log_of_bayes_rule_over_the_levels(levels, scale):
    rng = Rng(0, torch.arange(50))
    v, eps = rng.integers(levels, 3), rng.normal(3, dtype=torch.float64)
    scale = torch.tensor(scale, dtype=torch.float64)
    x_0, values = from_levels(v, levels, torch.float64), from_levels(torch.arange(levels), levels, torch.float64)
    seen = Normal(values, scale).log_prob((x_0 + scale * eps)[..., None])
    theirs = -seen.log_softmax(-1).gather(-1, v[..., None])[..., 0]
    torch.testing.assert_close(level_nats(x_0, scale, eps, levels), theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("levels", [2, 17])
def test_the_bound_of_discrete_data_is_above_their_entropy_and_near(levels):
    """The ideal denoiser is a sum over the levels, and infinitely many steps leave no gap but the prior's."""
    schedule, n = VariancePreserving(), 1000
    values = from_levels(torch.arange(levels), levels, torch.float64)
    probability = torch.softmax(1.5 * torch.sin(3 * values), 0)

    def denoise(x_t: Tensor, t: Tensor) -> Denoised:
        alpha, sigma = (match(c, x_t) for c in schedule(t))
        weight = torch.softmax(probability.log() - (x_t - alpha * values) ** 2 / (2 * sigma**2), dim=1)
        return Denoised((weight * values).sum(1, keepdim=True))

    place = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    x_0 = values[torch.searchsorted(probability.cumsum(0), place)][:, None]
    field = Field((1,), levels=levels)
    nats = ContinuousBound(100)(schedule, denoise, x_0, field, Rng(0, torch.arange(n)), True).nats
    entropy = -(probability * probability.log()).sum().item()
    error = nats.std().item() / math.sqrt(n)
    assert nats.mean().item() == pytest.approx(entropy, abs=4 * error + 2e-3)
    assert error < 0.05


# Mistakes


def test_a_table_is_named():
    for schedule in (LinearBeta(100), LinearBeta()):
        with pytest.raises(UserError, match=rf"estimator=continuous: .* a table of {schedule.steps} steps; .*vlb"):
            ContinuousBound()(schedule, ideal_denoiser(schedule), DATA, POINT, Rng(0, torch.arange(3)), False)


@pytest.mark.parametrize(
    ("choice", "message"),
    [({"t": 0}, "t must be at least 1, not 0"), ({"t_min": 1.0}, "t_min must lie between 0 and 1, not 1.0")],
    ids=["t", "t_min"],
)
def test_wrong_settings_are_named(choice, message):
    with pytest.raises(ValueError, match=message):
        ContinuousBound(**choice)
