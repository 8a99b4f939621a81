"""Laws of schedules: the published tables and processes, and what follows from signal and noise alone."""

import math

import pytest
import torch
from closed_form import CONTINUOUS, SCHEDULES, TABLES, published_beta, shipped, times
from diffusers import DDPMScheduler
from diffusers.schedulers.scheduling_ddpm import rescale_zero_terminal_snr
from scipy.stats import norm

from genlab.models.diffusion.continuous import (
    LinearSigma,
    Straight,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
)
from genlab.models.diffusion.schedule import Cosine, Geometric, LinearBeta, Table

schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
PUBLISHED = [("linear", LinearBeta, "linear"), ("cosine", Cosine, "squaredcos_cap_v2")]
T = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)

# Tables


@pytest.mark.parametrize(("name", "table", "theirs"), PUBLISHED, ids=["linear", "cosine"])
def test_tables_are_the_published_ones(name, table, theirs):
    beta = published_beta(name)
    alpha, sigma = table()(times(table()))
    torch.testing.assert_close(alpha**2, (1 - beta).cumprod(0), rtol=1e-11, atol=0)
    torch.testing.assert_close(sigma**2, 1 - (1 - beta).cumprod(0), rtol=1e-11, atol=0)
    single = DDPMScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule=theirs).betas
    torch.testing.assert_close(beta.float(), single, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("steps", [100, 250, 4000])
def test_other_lengths_are_rescaled_as_published(steps):
    for name, table, _ in PUBLISHED:
        alpha, _ = table(steps)(times(table(steps)))
        torch.testing.assert_close(alpha**2, (1 - published_beta(name, steps)).cumprod(0), rtol=1e-10, atol=0)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_the_transition_of_one_step_has_the_variance_beta(name):
    schedule = SCHEDULES[name]
    t = times(schedule)
    torch.testing.assert_close(schedule.transition_variance(t - 1e-3, t), published_beta(name), rtol=1e-9, atol=0)


@pytest.mark.parametrize(("name", "table", "theirs"), PUBLISHED, ids=["linear", "cosine"])
def test_the_table_without_signal_at_its_end_is_the_published_one(name, table, theirs):
    schedule = table(zero_terminal_snr=True)
    alpha, sigma = schedule(times(schedule))
    published = (1 - rescale_zero_terminal_snr(published_beta(name))).cumprod(0).sqrt()
    torch.testing.assert_close(alpha[:-1], published[:-1], rtol=1e-9, atol=0)
    assert published[-1] == 0
    assert 0 < alpha[-1] < 1e-19
    assert sigma[-1] == 1
    torch.testing.assert_close(alpha[0], table()(times(table()))[0][0], rtol=1e-14, atol=0)
    assert (schedule.log_snr(torch.linspace(1e-5, 1, 5000, dtype=torch.float64)).diff() < 0).all()


@pytest.mark.parametrize("cast", ["half", "bfloat16", "float"])
def test_a_cast_model_keeps_its_schedule_in_double(cast):
    """A table in half precision would have alpha = 1 for its first steps."""
    model = torch.nn.Sequential(LinearBeta(), torch.nn.Linear(1, 1))
    getattr(model, cast)()
    t = times(model[0])
    for found, exact in zip(model[0](t), LinearBeta()(t), strict=True):
        assert torch.equal(found, exact)


def test_the_table_is_no_weight():
    assert not LinearBeta().state_dict()
    assert not list(LinearBeta().parameters())


def test_any_table_of_betas_is_a_schedule():
    beta = torch.tensor([0.1, 0.5, 0.2])
    alpha, _ = Table(beta)(torch.tensor([1 / 3, 2 / 3, 1.0], dtype=torch.float64))
    torch.testing.assert_close(alpha**2, (1 - beta.double()).cumprod(0), rtol=1e-14, atol=0)


def test_noise_levels_are_in_geometric_progression():
    schedule = Geometric(10, 0.02, 2.0)
    alpha, sigma = schedule(times(schedule))
    assert (alpha == 1).all()
    expected = torch.logspace(math.log10(0.02), math.log10(2.0), 10, dtype=torch.float64)
    torch.testing.assert_close(sigma, expected, rtol=1e-12, atol=0)


def test_the_many_levels_follow_the_papers_second_technique():
    """Neighbours' shells overlap: about half of the one lies within three deviations of the other's radius."""
    schedule, dimensions = shipped("schedule")["geometric_232"], 3 * 32 * 32
    sigma = schedule(times(schedule))[1]
    ratio = float(sigma[1] / sigma[0])
    shift = math.sqrt(2 * dimensions) * (ratio - 1)
    assert norm.cdf(shift + 3 * ratio) - norm.cdf(shift - 3 * ratio) == pytest.approx(0.5, abs=0.1)
    assert (len(sigma), float(sigma[-1])) == (232, pytest.approx(2 * 50))


# Processes in continuous time


def beta(t: torch.Tensor) -> torch.Tensor:
    """The rate of the score SDE paper's diffusions, and its integral."""
    return 0.1 + 19.9 * t


INTEGRAL = 0.1 * T + 0.5 * 19.9 * T**2
RATES = {
    "vp": (VariancePreserving(), -0.5 * beta(T), beta(T)),
    "subvp": (SubVariancePreserving(), -0.5 * beta(T), beta(T) * -torch.expm1(-2 * INTEGRAL)),
    "ve": (VarianceExploding(), 0 * T, (0.01 * 5000**T) ** 2 * 2 * math.log(5000)),
    "edm": (LinearSigma(), 0 * T, 2 * 80**2 * T),
    "straight": (Straight(), -1 / (1 - T), 2 * T / (1 - T)),
}
MARGINALS = {
    "vp": ((-0.5 * INTEGRAL).exp(), (1 - (-INTEGRAL).exp()).sqrt()),
    "subvp": ((-0.5 * INTEGRAL).exp(), 1 - (-INTEGRAL).exp()),
    "ve": (T**0, 0.01 * 5000**T),
    "edm": (T**0, 80 * T),
    "straight": (1 - T, T),
}


@pytest.mark.parametrize("name", MARGINALS)
def test_signal_and_noise_are_the_published_ones(name):
    alpha, sigma = CONTINUOUS[name](T)
    torch.testing.assert_close(alpha, MARGINALS[name][0], rtol=1e-12, atol=0)
    torch.testing.assert_close(sigma, MARGINALS[name][1], rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", RATES)
def test_drift_and_diffusion_are_the_published_ones(name):
    schedule, f, g_squared = RATES[name]
    found = schedule.rates(T)
    torch.testing.assert_close(found[0], f, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found[1], g_squared, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        (VariancePreserving(), 999 * T),
        (SubVariancePreserving(), 999 * T),
        (VarianceExploding(), math.log(0.01) + T * math.log(5000)),
        (LinearSigma(), (80 * T).log() / 4),
        (Straight(), 1000 * T),
    ],
    ids=["vp", "subvp", "ve", "edm", "straight"],
)
def test_the_network_is_told_what_was_published(schedule, told):
    torch.testing.assert_close(schedule.level(T), told, rtol=1e-12, atol=1e-12)


# What holds for all


@pytest.mark.parametrize("name", [*TABLES, "vp"])
def test_variance_is_preserved(name):
    alpha, sigma = SCHEDULES[name](torch.linspace(0, 1, 777, dtype=torch.float64))
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha), rtol=1e-15, atol=0)


@schedules
def test_log_snr_falls_between_the_steps_too(schedule):
    log_snr = schedule.log_snr(torch.linspace(1e-5, schedule.t_max, 5000, dtype=torch.float64))
    assert log_snr.isfinite().all()
    assert (log_snr.diff() < 0).all()


@schedules
def test_time_is_the_inverse_of_log_snr(schedule):
    t = torch.linspace(1e-4, schedule.t_max, 5001, dtype=torch.float64)
    torch.testing.assert_close(schedule.time(schedule.log_snr(t)), t, rtol=1e-9, atol=1e-12)
    log_snr = torch.linspace(*schedule.log_snr(t)[[0, -1]].tolist(), 501, dtype=torch.float64)
    torch.testing.assert_close(schedule.log_snr(schedule.time(log_snr)), log_snr, rtol=1e-8, atol=1e-8)
    assert schedule.time(log_snr[None, :]).shape == (1, 501)


@schedules
def test_rates_are_what_moves_signal_and_noise(schedule):
    """alpha' = f alpha and (sigma^2)' = 2 f sigma^2 + g^2; the differences stay within a step of the table."""
    t, h = (torch.arange(20, 980, 7, dtype=torch.float64) + 0.5) / 1000, 1e-5
    (alpha, sigma), (f, g_squared) = schedule(t), schedule.rates(t)
    (alpha_after, sigma_after), (alpha_before, sigma_before) = schedule(t + h), schedule(t - h)
    torch.testing.assert_close(f * alpha, (alpha_after - alpha_before) / (2 * h), rtol=1e-5, atol=1e-8)
    noise = (sigma_after**2 - sigma_before**2) / (2 * h)
    torch.testing.assert_close(2 * f * sigma**2 + g_squared, noise, rtol=1e-5, atol=1e-8)
    assert (g_squared > 0).all()


@schedules
def test_there_is_no_noise_at_the_data(schedule):
    alpha, sigma = schedule(torch.zeros((), dtype=torch.float64))
    assert (alpha, sigma) == (1, 0)
    assert schedule.log_snr(torch.zeros((), dtype=torch.float64)) == torch.inf


@schedules
def test_transitions_compose(schedule):
    """v_ru = v_su + (alpha_u / alpha_s)^2 v_rs: noise that came in two parts is the noise of both."""
    r, s, u = torch.tensor([0.0, 0.21, 0.215], dtype=torch.float64)
    alpha_s, alpha_u = schedule(s)[0], schedule(u)[0]
    parts = schedule.transition_variance(s, u) + (alpha_u / alpha_s) ** 2 * schedule.transition_variance(r, s)
    torch.testing.assert_close(parts, schedule.transition_variance(r, u), rtol=1e-12, atol=0)


@pytest.mark.parametrize("schedule", [*TABLES.values(), Geometric()], ids=[*TABLES, "geometric"])
def test_the_network_is_told_the_steps_counted_from_0(schedule):
    assert torch.equal(schedule.level(times(schedule)).float(), torch.arange(schedule.steps).float())


@pytest.mark.parametrize(("name", "schedule"), shipped("schedule").items(), ids=shipped("schedule"))
def test_shipped_schedules_run_from_data_to_noise(name, schedule):
    """NCSN's noise is but as large as the range of the data, as published."""
    ends = torch.tensor([1e-4, 1], dtype=torch.float64)
    alpha, sigma = (c.detach() for c in schedule(ends))
    assert sigma[0] / alpha[0] < 0.03
    assert alpha[1] / sigma[1] < (0.6 if name == "geometric" else 0.1)
    assert sigma[1].item() == pytest.approx(schedule.prior_scale, rel=0.01)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearBeta(1), "steps must be at least 2, not 1"),
        (lambda: LinearBeta(10), r"last \* 1000 / steps = 2 must be below 1"),
        (lambda: LinearBeta(first=0.03), "first=0.03 and last=0.02 must satisfy 0 < first <= last"),
        (lambda: Cosine(1), "steps must be at least 2, not 1"),
        (lambda: Cosine(largest=1.0), "largest must lie between 0 and 1, not 1.0"),
        (lambda: Geometric(1), "steps must be at least 2, not 1"),
        (lambda: Geometric(low=2.0), "low=2.0 and high=2.0 must satisfy 0 < low < high"),
        (lambda: VarianceExploding(low=0.0), "low=0.0 and high=50.0 must satisfy 0 < low < high"),
        (lambda: LinearSigma(high=0.001), "low=0.002 and high=0.001 must satisfy 0 < low < high"),
        (lambda: VariancePreserving(first=30.0), "first=30.0 and last=20.0 must satisfy 0 < first < last"),
        (lambda: VariancePreserving(t_min=0.0), "t_min must lie between 0 and 1, not 0.0"),
        (lambda: Straight(t_min=0.5), "t_min must lie between 0 and 0.5, not 0.5"),
    ],
    ids=[
        *("short", "steep", "falling", "short cosine", "all noise", "one level", "level", "no noise", "falling sigma"),
        *("falling rate", "no start", "no middle"),
    ],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
