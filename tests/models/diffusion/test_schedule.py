"""Laws of schedules: the published tables, and what follows from signal and noise alone."""

import pytest
import torch
from closed_form import SCHEDULES, published_beta, shipped, times
from diffusers import DDPMScheduler

from genlab.models.diffusion.schedule import Cosine, LinearBeta, Table

schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
TABLES = [("linear", LinearBeta, "linear"), ("cosine", Cosine, "squaredcos_cap_v2")]


@pytest.mark.parametrize(("name", "table", "theirs"), TABLES, ids=["linear", "cosine"])
def test_tables_are_the_published_ones(name, table, theirs):
    beta = published_beta(name)
    alpha, sigma = table()(times(table()))
    torch.testing.assert_close(alpha**2, (1 - beta).cumprod(0), rtol=1e-11, atol=0)
    torch.testing.assert_close(sigma**2, 1 - (1 - beta).cumprod(0), rtol=1e-11, atol=0)
    single = DDPMScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule=theirs).betas
    torch.testing.assert_close(beta.float(), single, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("steps", [100, 250, 4000])
def test_other_lengths_are_rescaled_as_published(steps):
    for name, table, _ in TABLES:
        alpha, _ = table(steps)(times(table(steps)))
        torch.testing.assert_close(alpha**2, (1 - published_beta(name, steps)).cumprod(0), rtol=1e-10, atol=0)


@schedules
def test_variance_is_preserved(schedule):
    alpha, sigma = schedule(torch.linspace(0, 1, 777, dtype=torch.float64))
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha), rtol=1e-15, atol=0)


@schedules
def test_log_snr_falls_between_the_steps_too(schedule):
    log_snr = schedule.log_snr(torch.linspace(1e-5, 1, 5000, dtype=torch.float64))
    assert (log_snr.diff() < 0).all()


@schedules
def test_there_is_no_noise_at_the_data(schedule):
    alpha, sigma = schedule(torch.zeros((), dtype=torch.float64))
    assert (alpha, sigma) == (1, 0)
    assert schedule.log_snr(torch.zeros((), dtype=torch.float64)) == torch.inf


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_the_transition_of_one_step_has_the_variance_beta(name):
    schedule = SCHEDULES[name]
    t = times(schedule)
    torch.testing.assert_close(schedule.transition_variance(t - 1e-3, t), published_beta(name), rtol=1e-9, atol=0)


@schedules
def test_transitions_compose(schedule):
    """v_ru = v_su + (alpha_u / alpha_s)^2 v_rs: noise that came in two parts is the noise of both."""
    r, s, u = torch.tensor([0.0, 0.21, 0.215], dtype=torch.float64)
    alpha_s, alpha_u = schedule(s)[0], schedule(u)[0]
    parts = schedule.transition_variance(s, u) + (alpha_u / alpha_s) ** 2 * schedule.transition_variance(r, s)
    torch.testing.assert_close(parts, schedule.transition_variance(r, u), rtol=1e-12, atol=0)


@schedules
def test_the_network_is_told_the_steps_counted_from_0(schedule):
    assert torch.equal(schedule.level(times(schedule)).float(), torch.arange(schedule.steps).float())


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


@pytest.mark.parametrize(("name", "schedule"), shipped("schedule").items(), ids=shipped("schedule"))
def test_shipped_schedules_run_from_data_to_noise(name, schedule):
    ends = torch.tensor([1e-4, 1], dtype=torch.float64)
    alpha, sigma = schedule(ends)
    assert sigma[0] / alpha[0] < 0.03
    assert alpha[1] / sigma[1] < 0.03


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearBeta(1), "steps must be at least 2, not 1"),
        (lambda: LinearBeta(10), r"last \* 1000 / steps = 2 must be below 1"),
        (lambda: LinearBeta(first=0.03), "first=0.03 and last=0.02 must satisfy 0 < first <= last"),
        (lambda: Cosine(1), "steps must be at least 2, not 1"),
        (lambda: Cosine(largest=1.0), "largest must lie between 0 and 1, not 1.0"),
    ],
    ids=["short", "steep", "falling", "short cosine", "all noise"],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_any_table_of_betas_is_a_schedule():
    beta = torch.tensor([0.1, 0.5, 0.2])
    alpha, _ = Table(beta)(torch.tensor([1 / 3, 2 / 3, 1.0], dtype=torch.float64))
    torch.testing.assert_close(alpha**2, (1 - beta.double()).cumprod(0), rtol=1e-14, atol=0)
