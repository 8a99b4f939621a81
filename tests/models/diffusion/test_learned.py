"""Laws of schedules that learn: what they are at first, that they stay monotone, and by which gradients they learn."""

import math

import pytest
import torch
from closed_form import C, M, ideal_denoiser
from torch import Tensor

from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.models.conditioning import Unconditional
from genlab.models.diffusion.bound import VariationalBound
from genlab.models.diffusion.continuous_bound import ContinuousBound
from genlab.models.diffusion.learned import LearnedBeta, LearnedSnr
from genlab.models.diffusion.model import GaussianDiffusion
from genlab.models.diffusion.process import diffuse
from genlab.models.diffusion.schedule import Schedule, Table
from genlab.models.diffusion.times import LowDiscrepancy
from genlab.networks.mlp import MLP

POINT = Field((1,))
# Three values at which a quadratic's mean is its weighted sum: of the data's noise, and of that of each time.
NODE, WEIGHT = torch.tensor([-math.sqrt(3), 0, math.sqrt(3)]).double(), torch.tensor([1 / 6, 2 / 3, 1 / 6]).double()


def snr(hidden: int = 16, seed: int = 0, size: float = 2.0) -> LearnedSnr:
    """A schedule that has learned something."""
    torch.manual_seed(seed)
    schedule = LearnedSnr(hidden=hidden)
    if hidden:
        with torch.no_grad():
            for weight in (schedule.steepness, schedule.height, schedule.centre):
                weight += size * torch.randn_like(weight)
    return schedule.eval()


def table_bound(schedule: Schedule) -> Tensor:
    """The bound in all terms, in expectation over data N(M, C^2) and noise, with the ideal denoiser."""
    z, eps = NODE.repeat_interleave(3)[:, None], NODE.repeat(3)[:, None]
    weight = WEIGHT.repeat_interleave(3) * WEIGHT.repeat(3)
    x_0, bound, denoise = M + C * z, VariationalBound("all"), ideal_denoiser(schedule)
    total = sum(bound.ends(schedule, x_0, POINT, Rng(0, torch.arange(9))).values())
    for i in range(1, schedule.steps + 1):
        t = torch.full((9,), i / schedule.steps, dtype=torch.float64)
        total = total + bound.term(schedule, x_0, t, denoise(diffuse(schedule, x_0, t, eps), t), POINT) / schedule.steps
    return weight @ total


# Betas


def test_betas_at_first_take_equal_parts_of_the_signals_variance():
    steps = 40
    t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    alpha, sigma = LearnedBeta(steps, first=1e-3)(t)
    expected = (1 - 1e-3) * (1 - torch.arange(steps).double() / steps)
    torch.testing.assert_close(alpha.detach() ** 2, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close((alpha**2 + sigma**2).detach(), torch.ones_like(t), rtol=1e-14, atol=0)


def test_a_learned_table_is_the_table_of_its_betas():
    schedule, t = LearnedBeta(30), torch.linspace(0.001, 1, 77, dtype=torch.float64)
    alpha = torch.cat([torch.ones(1), schedule(torch.arange(1, 31).double() / 30)[0].detach()])
    table = Table(1 - (alpha[1:] / alpha[:-1]) ** 2)
    torch.testing.assert_close(schedule.log_snr(t).detach(), table.log_snr(t), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(schedule.time(schedule.log_snr(t)), t, rtol=1e-9, atol=0)


def test_the_first_beta_is_fixed_and_the_others_are_weights_unless_they_are_not_to_learn():
    assert [w.numel() for w in LearnedBeta(30).parameters() if w.requires_grad] == [29]
    assert not [w for w in LearnedBeta(30, learn=False).parameters() if w.requires_grad]


def test_the_gradient_of_the_bound_by_the_betas_is_that_of_finite_differences():
    schedule, step = LearnedBeta(8).double(), 1e-5
    table_bound(schedule).backward()
    for i in range(7):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                schedule.logit[i] += sign * step
                values.append(table_bound(schedule).item())
                schedule.logit[i] -= sign * step
        assert schedule.logit.grad[i].item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-6, abs=1e-8)
    assert schedule.logit.grad.abs().min() > 1e-4


def test_betas_that_learn_lower_the_bound():
    schedule = LearnedBeta(12)
    optimizer, bounds = torch.optim.Adam(schedule.parameters(), lr=0.1), []
    for _ in range(25):
        loss = table_bound(schedule)
        bounds.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    entropy = 0.5 * math.log(2 * math.pi * math.e * C**2)
    assert entropy < bounds[-1] < bounds[0] - 0.01


# Log-SNR


@pytest.mark.parametrize("hidden", [0, 16, 1024])
def test_gamma_rises_from_end_to_end(hidden):
    schedule, t = snr(hidden), torch.linspace(1e-3, 1, 2000, dtype=torch.float64)
    log_snr = schedule.log_snr(t).detach()
    assert (log_snr.diff() < 0).all()
    torch.testing.assert_close(log_snr[[0, -1]], torch.tensor([13.3, -5.0]).double(), rtol=1e-6, atol=0)
    alpha, sigma = (c.detach() for c in schedule(t))
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(t), rtol=1e-14, atol=0)
    torch.testing.assert_close(2 * (alpha.log() - sigma.log()), log_snr, rtol=1e-9, atol=1e-9)


def test_at_first_gamma_is_nearly_linear():
    schedule, t = LearnedSnr(), torch.linspace(1e-3, 1, 200, dtype=torch.float64)
    linear = torch.lerp(torch.tensor(13.3).double(), torch.tensor(-5.0).double(), (t - 1e-3) / (1 - 1e-3))
    assert (schedule.log_snr(t) - linear).abs().max() < 1
    torch.testing.assert_close(LearnedSnr(hidden=0).log_snr(t).detach(), linear, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("hidden", [0, 16])
def test_slopes_are_derivatives_and_differentiable(hidden):
    schedule, t = snr(hidden), torch.linspace(0.01, 0.99, 50, dtype=torch.float64, requires_grad=True)
    for slope, of in zip(schedule.slopes(t), (schedule(t)[0].log(), schedule.log_snr(t)), strict=True):
        (derivative,) = torch.autograd.grad(of.sum(), t, retain_graph=True)
        torch.testing.assert_close(slope, derivative, rtol=1e-9, atol=1e-9)
    total = schedule.slopes(t)[1].square().sum()
    gradients = torch.autograd.grad(total, list(schedule.parameters()), allow_unused=True)
    assert sum(g is not None and bool(g.abs().sum() > 0) for g in gradients) == (4 if hidden else 1)


@pytest.mark.parametrize(("hidden", "size"), [(0, 0.0), (16, 2.0), (16, 30.0)])
def test_times_are_found_from_log_snr(hidden, size):
    schedule, t = snr(hidden, size=size), torch.linspace(1e-3, 1, 300, dtype=torch.float64)
    found = schedule.time(schedule.log_snr(t))
    torch.testing.assert_close(schedule.log_snr(found).detach(), schedule.log_snr(t).detach(), rtol=1e-12, atol=1e-11)


def test_the_network_is_told_gamma_and_not_the_time():
    schedule, t = snr(), torch.tensor([1e-3, 0.3, 1.0], dtype=torch.float64)
    expected = 1000 * (13.3 - schedule.log_snr(t)) / 18.3
    torch.testing.assert_close(schedule.level(t), expected, rtol=1e-6, atol=1e-4)


def gaussian_term(schedule: Schedule, t: Tensor) -> Tensor:
    """The diffusion term at t (B,) in expectation over data N(M, C^2) and noise, with the ideal denoiser."""
    rows = torch.arange(9)
    x_0 = (M + C * NODE.repeat_interleave(3))[:, None]
    eps, weight = NODE.repeat(3)[:, None], WEIGHT.repeat_interleave(3) * WEIGHT.repeat(3)
    terms = []
    for row in rows:
        data, noise = x_0[row].expand(len(t), 1), eps[row].expand(len(t), 1)
        denoised = ideal_denoiser(schedule)(diffuse(schedule, data, t, noise), t)
        terms.append(ContinuousBound().term(schedule, data, t, denoised, POINT))
    return weight @ torch.stack(terms)


def test_what_lies_between_the_ends_changes_the_spread_of_the_bound_and_not_its_mean():
    t = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    terms = [gaussian_term(schedule, t).detach() for schedule in (snr(seed=0), snr(seed=1), snr(0))]
    for term in terms[1:]:
        torch.testing.assert_close(term.mean(), terms[0].mean(), rtol=2e-3, atol=0)
    assert len({round(term.std().item(), 3) for term in terms}) == 3


def test_a_schedule_that_learns_lowers_the_spread():
    schedule = LearnedSnr(hidden=32)
    interior = [schedule.centre, schedule.steepness, schedule.height]
    optimizer, t, spread = torch.optim.Adam(interior, lr=0.1), (torch.arange(64).double() + 0.5) / 64, []
    for _ in range(60):
        term = gaussian_term(schedule, t)
        spread.append(term.std().item())
        schedule.observe(term.detach())
        optimizer.zero_grad()
        term.mean().backward()
        optimizer.step()
    assert spread[-1] < 0.6 * spread[0]


def test_ends_learn_by_the_loss_and_what_lies_between_by_its_square():
    """Hooks act in training alone, so that gradients in evaluation are plain ones."""
    torch.manual_seed(0)
    schedule, network = LearnedSnr(hidden=4), MLP((1,), width=8, layers=1)
    parts = (network, schedule, None, LowDiscrepancy(), Unconditional())
    model = GaussianDiffusion({"x": POINT}, *parts, bound=ContinuousBound())
    with torch.no_grad():
        for weight in model.network.parameters():
            weight += 0.2 * torch.randn_like(weight)
    rng = Rng(0, torch.arange(6), step=3)
    x_0 = M + C * rng.stage("data").normal(1)
    weights = [schedule.ends, schedule.centre, schedule.steepness, schedule.height]

    def gradients(loss: Tensor) -> list[Tensor]:
        return [g.double() for g in torch.autograd.grad(loss, weights, retain_graph=True)]

    found = gradients(model.loss({"x": x_0}, rng, "model", 0)["loss"])
    model.eval()
    rows = [model.loss({"x": x_0[i : i + 1]}, rng.rows(slice(i, i + 1)), "model", 0) for i in range(6)]
    plain = [gradients(row["loss"]) for row in rows]
    lost = [(row["bound"] - row["prior"] - row["reconstruction"]).item() for row in rows]
    for k in range(4):
        factors = [1.0 if k == 0 else 2 * one for one in lost]
        expected = torch.stack([factor * row[k] for factor, row in zip(factors, plain, strict=True)]).mean(0)
        torch.testing.assert_close(found[k], expected, rtol=1e-3, atol=1e-5)
    assert max(lost) > 2 * min(lost)


@pytest.mark.parametrize("schedule", [LearnedBeta(10), snr()], ids=["betas", "log-SNR"])
def test_what_is_cast_still_computes_in_double(schedule):
    assert all(c.dtype == torch.float64 for c in schedule.bfloat16()(torch.tensor(0.5)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LearnedBeta(1), "steps must be at least 2, not 1"),
        (lambda: LearnedBeta(first=0.0), "first must lie between 0 and 1, not 0.0"),
        (lambda: LearnedSnr(first=6.0), "first=6.0 must be below last=5.0"),
        (lambda: LearnedSnr(hidden=-1), "hidden must be at least 0, not -1"),
        (lambda: LearnedSnr(t_min=0.0), "t_min must lie between 0 and 1, not 0.0"),
    ],
    ids=["short", "no noise", "falling", "hidden", "start"],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
