"""Laws of the times that samplers pass, and of the ranges that their estimates are kept in."""

import numpy as np
import pytest
import torch
from closed_form import ideal_denoiser
from diffusers import DDIMScheduler
from every_schedule import EVERY, double, schedules
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.diffusion.denoiser import Denoised
from genlab.models.diffusion.samplers.ancestral import Ancestral
from genlab.models.diffusion.samplers.euler import Euler
from genlab.models.diffusion.samplers.heun import Heun
from genlab.models.diffusion.samplers.sampler import Clipped
from genlab.models.diffusion.samplers.spacing import spaced_times
from genlab.models.diffusion.schedule import LinearBeta, Schedule

CONTINUOUS = {name: schedule for name, schedule in EVERY.items() if schedule.steps is None}
continuous = pytest.mark.parametrize("schedule", CONTINUOUS.values(), ids=CONTINUOUS.keys())


def noise(schedule: Schedule, times: Tensor) -> Tensor:
    alpha, sigma = schedule(times)
    return sigma / alpha


@schedules
@pytest.mark.parametrize("steps", [2, 9, 30])
def test_log_snr_spacing_has_equal_parts_of_log_snr(schedule, steps):
    times = spaced_times(schedule, "log_snr", steps)
    parts = schedule.log_snr(times[:-1]).diff()
    torch.testing.assert_close(parts, parts.mean().expand(steps - 1), rtol=1e-8, atol=0)
    assert (times[0], times[-2], times[-1]) == (schedule.t_max, schedule.t_min, 0)


@schedules
@pytest.mark.parametrize(("steps", "rho"), [(2, 7.0), (18, 7.0), (25, 3.0), (10, 1.0)])
def test_karras_spacing_is_edms(schedule, steps, rho):
    """(max^(1 / rho) + i / (N - 1) (min^(1 / rho) - max^(1 / rho)))^rho of sigma / alpha, and 0."""
    times = spaced_times(schedule, "karras", steps, rho=rho)
    largest, smallest = noise(schedule, double(schedule.t_max, schedule.t_min)).tolist()
    i = torch.arange(steps, dtype=torch.float64)
    published = (largest ** (1 / rho) + i / (steps - 1) * (smallest ** (1 / rho) - largest ** (1 / rho))) ** rho
    torch.testing.assert_close(noise(schedule, times[:-1]), published, rtol=1e-8, atol=0)
    assert times[-1] == 0


@schedules
def test_a_path_in_log_snr_sets_out_with_some_signal(schedule):
    """Not where there is none, or so little that the first step would go through many times of it."""
    assert noise(schedule, double(schedule.t_max)) < 1001
    assert noise(schedule, double(schedule.t_max)) >= min(noise(schedule, double(1.0)), 80)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10, 16, 50, 75, 300, 1000])
def test_trailing_spacing_is_that_of_diffusers(steps):
    scheduler = DDIMScheduler(num_train_timesteps=1000, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    passed = (spaced_times(LinearBeta(), "trailing", steps)[:-1] * 1000).round().long() - 1
    assert passed.tolist() == scheduler.timesteps.tolist()


@continuous
@pytest.mark.parametrize("steps", [1, 5, 40])
def test_in_continuous_time_equal_parts_are_of_time_itself(schedule, steps):
    uniform, trailing = (spaced_times(schedule, spacing, steps) for spacing in ("uniform", "trailing"))
    np.testing.assert_allclose(uniform[:-1], np.linspace(1, schedule.t_min, steps), rtol=1e-12)
    np.testing.assert_allclose(trailing, np.linspace(1, 0, steps + 1), rtol=1e-12, atol=1e-15)
    assert uniform[-1] == 0


@schedules
@pytest.mark.parametrize("spacing", ["uniform", "trailing", "log_snr", "karras"])
@pytest.mark.parametrize("steps", [1, 2, 7, 9])
@pytest.mark.parametrize("last", [True, False])
def test_times_fall_in_as_many_steps_as_asked(schedule, spacing, steps, last):
    times = spaced_times(schedule, spacing, steps, last)
    assert times.dtype == torch.float64
    assert len(times) == steps + 1
    assert (times.diff() < 0).all()
    assert times[0] <= 1
    assert times[-1] == (0 if last else schedule.t_min)
    if not last and spacing in ("uniform", "trailing"):
        assert times[0] == 1


@pytest.mark.parametrize("total", [25, 97, 1000])
def test_without_the_last_step_the_times_are_the_tables_own(total):
    for steps in sorted({1, 2, 7, total // 2, 2 * total // 3, total - 2, total - 1}):
        numbers = spaced_times(LinearBeta(total), "uniform", steps, last=False) * total
        torch.testing.assert_close(numbers.round(), numbers, rtol=0, atol=1e-9)
        assert (numbers.diff() < -0.5).all()
    assert torch.equal(spaced_times(LinearBeta(total), "uniform", None, last=False), numbers / total)


@pytest.mark.parametrize(
    ("name", "spacing", "steps", "last", "message"),
    [
        ("vp", "uniform", None, True, "sampler.steps: the model's schedule is continuous and has no steps of its own"),
        (
            "vp",
            "quadratic",
            10,
            True,
            "sampler.spacing=quadratic: picks steps of a table, and the model's schedule",
        ),
        (
            "linear",
            "uniform",
            1001,
            True,
            "sampler.steps=1001: the model's schedule has 1000 steps; choose from 1 to",
        ),
        (
            "linear",
            "trailing",
            1000,
            False,
            "sampler.steps=1000: the model's schedule has 1000 steps; choose from 1 to 9",
        ),
        (
            "geometric",
            "quadratic",
            11,
            True,
            "sampler.steps=11: the model's schedule has 10 steps; choose from 1 to 10",
        ),
        ("linear", "quadratic", 10, False, "sampler.last=false: quadratic spacing ends at the data; choose another"),
        ("linear", "quadratic", 1, True, "sampler.steps=1: quadratic spacing has two ends; choose at least 2"),
    ],
)
def test_times_that_a_schedule_has_not_are_named(name, spacing, steps, last, message):
    for sampler in (Ancestral(steps, spacing=spacing, last=last), Euler(steps, spacing=spacing, last=last)):
        with pytest.raises(UserError) as error:
            sampler.evaluations(EVERY[name])
        assert str(error.value).startswith(message)


@pytest.mark.parametrize("spacing", ["log_snr", "karras"])
def test_between_the_steps_of_a_table_there_are_as_many_as_asked(spacing):
    assert len(spaced_times(EVERY["geometric"], spacing, 64)) == 65


def test_rho_must_be_above_0():
    with pytest.raises(ValueError, match="rho must be above 0, not 0"):
        Heun(rho=0)


def clipped(x_0: Tensor, dynamic: bool) -> Tensor:
    return Clipped(lambda x_t, t: Denoised(x_t), dynamic)(x_0, double(0.5)).x_0


def test_static_thresholding_clips_to_the_range():
    torch.testing.assert_close(clipped(double(-3.0, -0.5, 0.2, 1.1)[None], False), double(-1.0, -0.5, 0.2, 1.0)[None])


def test_dynamic_thresholding_is_imagens():
    """s = max(1, percentile(|x_0|, 99.5)) of each sample, and x_0 = clip(x_0, -s, s) / s."""
    x = torch.stack([torch.linspace(-3, 2, 12), torch.linspace(-0.4, 0.9, 12)]).double().reshape(2, 3, 2, 2)
    found = clipped(x, True)
    for row, out in zip(x.numpy(), found.numpy(), strict=True):
        s = max(1, np.percentile(np.abs(row), 99.5))
        np.testing.assert_allclose(out, np.clip(row, -s, s) / s, rtol=1e-12)
    assert found[0].abs().max() == 1
    assert torch.equal(found[1], x[1])


def test_what_else_a_denoiser_says_is_kept():
    between = torch.ones(1, 3)
    out = Clipped(lambda x_t, t: Denoised(x_t, between))(3 * torch.ones(1, 3), double(0.5))
    assert out.between is between


@pytest.mark.parametrize(("clip", "largest"), [(True, 1.0), ("dynamic", 1.0), (False, 3.0), (None, 1.0)])
def test_a_sampler_clips_as_it_is_told(clip, largest):
    """Dynamic thresholding too leaves nothing outside the range."""
    rng = Rng(0, torch.arange(2))
    x = 3 * torch.linspace(-1, 1, 2000, dtype=torch.float64).expand(2, 2000)
    out = Ancestral(3, eta=0, clip=clip)(LinearBeta(), lambda x_t, t: Denoised(x), x, rng, bounded=True)
    assert out.abs().max().item() == pytest.approx(largest)
    inside = (x.abs() < 0.5)[0]
    assert torch.equal(out[:, inside], x[:, inside]) == (clip != "dynamic")


def test_clipping_depends_on_the_sample_alone():
    x = torch.stack([torch.linspace(-3, 3, 20), torch.linspace(-9, 9, 20)]).double()
    for dynamic in (False, True):
        assert torch.equal(clipped(x, dynamic)[:1], clipped(x[:1], dynamic))


def test_ideal_estimates_of_data_within_the_range_are_left_alone():
    schedule, t = EVERY["vp"], double(0.3)
    x = torch.full((1, 4), 0.2, dtype=torch.float64)
    for dynamic in (False, True):
        assert torch.equal(Clipped(ideal_denoiser(schedule), dynamic)(x, t).x_0, ideal_denoiser(schedule)(x, t).x_0)
