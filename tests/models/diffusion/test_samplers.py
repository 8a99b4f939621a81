"""Laws of samplers: what the papers' code does, the data's distribution where the denoiser is ideal, and no more.

With data N(M, C^2) the ideal denoiser is affine, and so is a sampler then: what comes out is a constant plus a sum of
coefficient times noise. `Impulses` are noises that bring each coefficient to light, so that mean and standard deviation
are had exactly, without a sample drawn.
"""

import numpy as np
import pytest
import torch
from closed_form import SCHEDULES, TABLES, C, M, ideal_denoiser, marginal, published_beta, shipped
from diffusers import DDIMScheduler, DDPMScheduler
from diffusers.schedulers import scheduling_ddpm
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.diffusion.denoiser import Denoised
from genlab.models.diffusion.prediction import TABLE
from genlab.models.diffusion.process import posterior
from genlab.models.diffusion.samplers.ancestral import Ancestral
from genlab.models.diffusion.samplers.sampler import Sampler, State
from genlab.models.diffusion.samplers.spacing import spaced_times
from genlab.models.diffusion.schedule import LinearBeta, Schedule, match

schedules = pytest.mark.parametrize("schedule", TABLES.values(), ids=TABLES.keys())
CHOICES = [
    {"eta": 0.0},
    {"eta": 0.5},
    {"eta": 1.0},
    {"eta": 1.0, "noise": "transition"},
    {"eta": 0.0, "spacing": "quadratic"},
    {"eta": 1.0, "spacing": "quadratic"},
]
choices = pytest.mark.parametrize("choice", CHOICES, ids=lambda c: " ".join(map(str, c.values())))


class Impulses:
    """Noise for one row each: none in row 0, and in row i + 1 only the i-th that is drawn, which is 1."""

    def __init__(self) -> None:
        self.drawn = 1

    def stage(self, name: str) -> "Impulses":
        return self

    def normal_like(self, x: Tensor) -> Tensor:
        self.drawn += 1
        z = torch.zeros_like(x)
        z[self.drawn] = 1
        return z


def mean_and_deviation(sampler: Sampler, schedule: Schedule) -> tuple[float, float]:
    """Of the samples, where the data are N(M, C^2) and x starts from its marginal."""
    times = sampler.times(schedule)
    mean, deviation = marginal(schedule, times[0])
    x = mean.repeat(2 * len(times) + 2, 1)
    x[1] += deviation
    out = sampler(schedule, ideal_denoiser(schedule), x, Impulses())[:, 0]
    return out[0].item(), (out[1:] - out[0]).norm().item()


@schedules
@choices
def test_samplers_return_the_data_distribution(schedule, choice):
    """To the first order of the steps: the error halves where they are twice as many."""
    errors = []
    for steps in (50, 100):
        mean, deviation = mean_and_deviation(Ancestral(steps, **choice), schedule)
        errors.append(max(abs(mean - M), abs(deviation - C)))
    assert errors[1] < 0.04
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize("schedule", shipped("schedule").values(), ids=shipped("schedule"))
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_data_distribution_is_returned_on_every_shipped_schedule(eta, schedule):
    mean, deviation = mean_and_deviation(Ancestral(500, eta, spacing="log_snr"), schedule)
    assert mean == pytest.approx(M, abs=0.02)
    assert deviation == pytest.approx(C, abs=0.02)


@choices
def test_the_noise_of_every_step_and_row_is_its_own(choice):
    """Samples drawn with real noise have the mean and deviation that independent noises would give."""
    schedule, sampler, n = SCHEDULES["linear"], Ancestral(20, **choice), 4000
    rng = Rng(0, torch.arange(n))
    start, spread = marginal(schedule, sampler.times(schedule)[0])
    x_1 = start + spread * rng.stage("start").normal(1, dtype=torch.float64)
    x = sampler(schedule, ideal_denoiser(schedule), x_1, rng)
    mean, deviation = mean_and_deviation(sampler, schedule)
    assert x.mean().item() == pytest.approx(mean, abs=4 * deviation / n**0.5)
    assert x.std().item() == pytest.approx(deviation, abs=4 * deviation / (2 * n) ** 0.5)


def network(x: Tensor, step: int) -> Tensor:
    """Some function of x and the step, neither affine nor small."""
    return torch.sin(3 * x.roll(1, -1) + x.flip(1) + step / 50)


def denoiser_of_network(schedule: Schedule):
    def denoise(x_t: Tensor, t: Tensor) -> Denoised:
        c_skip, c_out = (match(c, x_t) for c in TABLE["eps"](*schedule(t))[:2])
        return Denoised(c_skip * x_t + c_out * network(x_t, int(schedule.level(t).round())))

    return denoise


def in_double(scheduler, name: str):
    """diffusers' scheduler with its tables recomputed in double precision."""
    scheduler.betas = published_beta(name)
    scheduler.alphas_cumprod = (1 - scheduler.betas).cumprod(0)
    scheduler.one = scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    return scheduler


def start() -> tuple[Tensor, Rng]:
    rng = Rng(3, torch.arange(2))
    return rng.stage("start").normal(3, 4, 4, dtype=torch.float64), rng


tables = pytest.mark.parametrize("name", ["linear", "cosine"])
SETTINGS = {"num_train_timesteps": 1000, "clip_sample": False, "timestep_spacing": "leading", "steps_offset": 0}


variances = pytest.mark.parametrize(("noise", "theirs"), [("posterior", "fixed_small"), ("transition", "fixed_large")])


@tables
@variances
def test_fifty_ancestral_steps_are_those_of_diffusers(monkeypatch, name, noise, theirs):
    schedule, (x, rng) = SCHEDULES[name], start()
    scheduler = in_double(DDPMScheduler(**SETTINGS, variance_type=theirs), name)
    scheduler.set_timesteps(50)
    ours = Ancestral(50, noise=noise)(schedule, denoiser_of_network(schedule), x, rng)
    drawn = rng.stage("sampler")
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *_, **__: drawn.normal_like(x))
    for timestep in scheduler.timesteps.tolist():
        x = scheduler.step(network(x, timestep), timestep, x).prev_sample
    torch.testing.assert_close(ours, x, rtol=1e-5, atol=1e-5)


@tables
@variances
@pytest.mark.parametrize("timestep", [999, 500, 1, 0])
def test_one_step_of_the_whole_table_is_that_of_diffusers(monkeypatch, name, noise, theirs, timestep):
    schedule, (x, rng) = SCHEDULES[name], start()
    scheduler = in_double(DDPMScheduler(**SETTINGS, variance_type=theirs), name)
    t, s = torch.tensor([timestep + 1, timestep], dtype=torch.float64) / 1000
    ours = Ancestral(noise=noise).step(schedule, denoiser_of_network(schedule), State(x), t, s, rng.stage("a")).x
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *_, **__: rng.stage("a").normal_like(x))
    theirs_next = scheduler.step(network(x, timestep), timestep, x).prev_sample
    torch.testing.assert_close(ours, theirs_next, rtol=1e-9, atol=1e-9)


def learned_variance(x: Tensor, step: int) -> Tensor:
    """What a network says of the variance, in [-1, 1]."""
    return torch.cos(2 * x + step / 50)


def denoiser_of_two_outputs(schedule: Schedule):
    def denoise(x_t: Tensor, t: Tensor) -> Denoised:
        v = learned_variance(x_t, int(schedule.level(t).round()))
        return denoiser_of_network(schedule)(x_t, t)._replace(between=(v + 1) / 2)

    return denoise


@tables
@pytest.mark.parametrize("steps", [50, 1000])
def test_steps_of_learned_variance_are_those_of_diffusers(monkeypatch, name, steps):
    """Of any length, the two variances between which it lies being those of the steps that are taken."""
    schedule, (x, rng) = SCHEDULES[name], start()
    scheduler = in_double(DDPMScheduler(**SETTINGS, variance_type="learned_range"), name)
    scheduler.set_timesteps(steps)
    ours = Ancestral(steps, noise="learned")(schedule, denoiser_of_two_outputs(schedule), x, rng)
    drawn, unsaid = rng.stage("sampler"), Ancestral(steps)(schedule, denoiser_of_two_outputs(schedule), x, rng)
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *_, **__: drawn.normal_like(x))
    for timestep in scheduler.timesteps.tolist():
        output = torch.cat([network(x, timestep), learned_variance(x, timestep)], dim=1)
        x = scheduler.step(output, timestep, x).prev_sample
    torch.testing.assert_close(ours, x, rtol=1e-5, atol=1e-5)
    assert torch.equal(unsaid, ours)


def test_a_variance_that_was_not_learned_is_named():
    x, rng = start()
    with pytest.raises(UserError, match=r"sampler.noise=learned: the model learned no variances"):
        Ancestral(2, noise="learned")(LinearBeta(), denoiser_of_network(LinearBeta()), x, rng)


@tables
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_fifty_steps_of_ddim_are_those_of_diffusers(name, eta):
    schedule, (x, rng) = SCHEDULES[name], start()
    scheduler = in_double(DDIMScheduler(**SETTINGS, set_alpha_to_one=True), name)
    scheduler.set_timesteps(50)
    ours = Ancestral(50, eta=eta)(schedule, denoiser_of_network(schedule), x, rng)
    drawn = rng.stage("sampler")
    for timestep in scheduler.timesteps.tolist():
        noise = drawn.normal_like(x) if eta else None
        x = scheduler.step(network(x, timestep), timestep, x, eta=eta, variance_noise=noise).prev_sample
    torch.testing.assert_close(ours, x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("total", [100, 250, 1000, 4000])
def test_quadratic_spacing_is_that_of_the_published_code(total):
    """`int(s) for s in numpy.linspace(0, sqrt(0.8 T), S) ** 2`, with what is repeated taken once."""
    schedule = LinearBeta(total)
    for steps in (2, 3, 5, 10, 16, 20, 26, 50, 53, 69, 100):
        published = {int(s) for s in np.linspace(0, np.sqrt(total * 0.8), steps) ** 2}
        sampler = Ancestral(steps, spacing="quadratic")
        passed = (sampler.times(schedule)[:-1] * total).round().long() - 1
        assert passed.flip(0).tolist() == sorted(published)
        assert sampler.evaluations(schedule) == len(published)


@pytest.mark.parametrize("steps", [1, 2, 10, 50, 100, 250, 500, 1000])
def test_uniform_spacing_is_that_of_the_published_code(steps):
    passed = (spaced_times(LinearBeta(), "uniform", steps)[:-1] * 1000).round().long() - 1
    assert passed.flip(0).tolist() == list(range(0, 1000, 1000 // steps))


@pytest.mark.parametrize("spacing", ["uniform", "quadratic"])
@pytest.mark.parametrize("steps", [2, 7, 300, 999, None])
def test_times_fall_to_the_data_and_are_the_tables_own(spacing, steps):
    times = spaced_times(LinearBeta(), spacing, steps)
    assert times[-1] == 0
    assert (times.diff() < 0).all()
    assert len(times) - 1 <= (steps or 1000)
    assert spacing == "quadratic" or len(times) - 1 == (steps or 1000)
    torch.testing.assert_close((times * 1000).round() / 1000, times, rtol=1e-15, atol=0)


@choices
def test_evaluations_are_the_calls_of_the_denoiser(choice):
    calls = []

    def counted(x_t: Tensor, t: Tensor) -> Denoised:
        calls.append(t)
        return Denoised(x_t)

    sampler, schedule = Ancestral(40, **choice), LinearBeta(100)
    x, rng = start()
    sampler(schedule, counted, x, rng)
    assert len(calls) == sampler.evaluations(schedule)
    assert "spacing" not in choice or len(calls) < 40


@schedules
@pytest.mark.parametrize(("t", "s"), [(1.0, 0.9), (0.5, 0.495), (0.01, 0.005)])
@pytest.mark.parametrize("noise", ["posterior", "transition"])
def test_a_step_of_eta_1_draws_from_the_posterior_given_the_estimate(schedule, t, s, noise):
    t, s = torch.tensor([t, s], dtype=torch.float64)
    x = torch.ones(3, 1, dtype=torch.float64)
    of_x_t, of_x_0, variance = posterior(schedule, t, s)
    mean = of_x_t * x + of_x_0 * denoiser_of_network(schedule)(x, t).x_0
    if noise == "transition":
        variance = schedule.transition_variance(s, t)
    stepped = Ancestral(noise=noise).step(schedule, denoiser_of_network(schedule), State(x), t, s, Impulses()).x
    torch.testing.assert_close(stepped[:2], mean[:2], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(stepped[2] - stepped[0], variance.sqrt()[None], rtol=1e-7, atol=1e-9)


@choices
def test_the_last_step_gives_the_estimate_itself(choice):
    schedule, (x, rng) = LinearBeta(), start()
    t, s = torch.tensor([0.001, 0], dtype=torch.float64)
    denoise = denoiser_of_network(schedule)
    last = Ancestral(**choice).step(schedule, denoise, State(x), t, s, rng).x
    torch.testing.assert_close(last, denoise(x, t).x_0, rtol=1e-15, atol=0)


@choices
def test_a_sample_does_not_depend_on_its_batch(choice):
    schedule, rng = SCHEDULES["linear"], Rng(5, torch.arange(6))
    x = rng.stage("start").normal(3, 4, 4, dtype=torch.float64)
    sampler, denoise = Ancestral(10, **choice), denoiser_of_network(schedule)
    whole = sampler(schedule, denoise, x, rng)
    for part in (slice(0, 1), slice(1, 6), slice(4, 6)):
        assert torch.equal(sampler(schedule, denoise, x[part], rng.rows(part)), whole[part])


def test_ddim_draws_nothing():
    schedule, (x, rng) = LinearBeta(), start()

    def drawn(eta: float, seed: int) -> Tensor:
        return Ancestral(10, eta=eta)(schedule, denoiser_of_network(schedule), x, Rng(seed, rng.index))

    assert torch.equal(drawn(0, seed=0), drawn(0, seed=1))
    assert not torch.equal(drawn(0.1, seed=0), drawn(0.1, seed=1))


@pytest.mark.parametrize(("clip", "bounded", "clipped"), [(None, 1, 1), (None, 0, 0), (True, 0, 1), (False, 1, 0)])
def test_estimates_are_clipped_where_data_are_bounded_unless_told_otherwise(clip, bounded, clipped):
    x, rng = start()

    def far(x_t: Tensor, t: Tensor) -> Denoised:
        return Denoised(torch.full_like(x_t, 3.0))

    out = Ancestral(5, clip=clip)(LinearBeta(), far, x, rng, bool(bounded))
    assert (out == (1 if clipped else 3)).all()


def test_a_watch_sees_every_state_from_noise_to_sample():
    seen: list[tuple[float, Tensor]] = []
    x, rng = start()
    out = Ancestral(4, eta=0)(LinearBeta(), lambda x_t, t: Denoised(x_t / 2), x, rng, watch=lambda *at: seen.append(at))
    assert [progress for progress, _ in seen] == [0, 0.25, 0.5, 0.75, 1]
    assert torch.equal(seen[0][1], x)
    assert torch.equal(seen[-1][1], out)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"eta": 2}, r"eta must be in \[0, 1\], not 2"),
        ({"eta": 0.5, "noise": "transition"}, "noise=transition needs eta = 1, not 0.5"),
        ({"eta": 0.5, "noise": "learned"}, "noise=learned needs eta = 1, not 0.5"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
    ],
    ids=str,
)
def test_wrong_settings_are_named(choice, message):
    with pytest.raises(ValueError, match=message):
        Ancestral(**choice)


@pytest.mark.parametrize(
    ("steps", "spacing", "message"),
    [
        (1001, "uniform", "sampler.steps=1001: the model's schedule has 1000 steps; choose from 1 to 1000"),
        (1, "quadratic", "sampler.steps=1: quadratic spacing has two ends; choose at least 2"),
    ],
)
def test_steps_that_the_table_has_not_are_named(steps, spacing, message):
    with pytest.raises(UserError, match=message):
        Ancestral(steps, spacing=spacing).times(LinearBeta())
