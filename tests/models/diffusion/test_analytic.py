"""Laws of Analytic-DPM: with the best variance, ever so few steps keep the deviation of Gaussian data."""

import math

import pytest
import torch
from closed_form import C, M, ideal_denoiser, marginal
from every_schedule import EVERY, double, schedules
from test_samplers import Impulses, mean_and_deviation
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Field
from genlab.models.diffusion.denoiser import Denoised, Denoiser
from genlab.models.diffusion.samplers.analytic import Analytic
from genlab.models.diffusion.samplers.ancestral import Ancestral
from genlab.models.diffusion.samplers.sampler import State
from genlab.models.diffusion.schedule import LinearBeta, Schedule


class Ideal:
    """What the estimate asks of a model."""

    device = torch.device("cpu")

    def __init__(self, schedule: Schedule, levels: int | None = None, values: int = 64) -> None:
        self.schedule, self.spec = schedule, {"x": Field((values,), levels=levels)}
        self.bounded = levels is not None

    def denoiser(self, batch: Batch, rng: Rng) -> Denoiser:
        return ideal_denoiser(self.schedule)


def gaussian(n: int, values: int = 64) -> Tensor:
    return M + C * Rng(7, torch.arange(n)).stage("data").normal(values, dtype=torch.float64)


def unknown(schedule: Schedule, t: Tensor) -> Tensor:
    """The variance of x_0 given x_t."""
    alpha, sigma = schedule(t)
    return C**2 * sigma**2 / (alpha**2 * C**2 + sigma**2)


def informed(sampler: Analytic, schedule: Schedule, level: float = math.inf) -> Analytic:
    """The sampler that knows the exact variances."""
    exact = unknown(schedule, sampler.times(schedule)[:-1])
    return sampler.given({"unknown": exact, "level": torch.tensor(level, dtype=torch.float64)})


@schedules
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [3, 10])
def test_few_steps_return_the_exact_deviation(schedule, eta, steps):
    """That of the estimate at the smallest time, where x is distributed as the process has it; DDPM's is too small."""
    sampler = informed(Analytic(steps, eta, spacing="log_snr"), schedule)
    mean, deviation = mean_and_deviation(sampler, schedule)
    last = sampler.times(schedule)[-2]
    alpha, _ = schedule(last)
    assert mean == pytest.approx(M, abs=1e-9)
    assert deviation == pytest.approx((alpha * C**2 / marginal(schedule, last)[1]).item(), abs=1e-7)
    _, narrow = mean_and_deviation(Ancestral(steps, eta, spacing="log_snr"), schedule)
    assert narrow < deviation - 0.02


@schedules
@pytest.mark.parametrize(("t", "s"), [(1.0, 0.4), (0.5, 0.495), (0.3, 0.1)])
def test_a_step_has_the_variance_of_the_reverse_process(schedule, t, s):
    """That of x_s given x_t, which for Gaussian data is S_s - (r S_s)^2 / S_t with the marginal variances S."""
    t, s = double(t), double(s)
    sampler = Analytic(2).given({"unknown": unknown(schedule, t).repeat(2), "level": double(math.inf)})
    x = torch.ones(3, 1, dtype=torch.float64)
    out = sampler.step(schedule, ideal_denoiser(schedule), State(x, steps=2), t, s, Impulses()).x
    (mean_s, deviation_s), (mean_t, deviation_t) = marginal(schedule, s), marginal(schedule, t)
    r = schedule(t)[0] / schedule(s)[0]
    variance = deviation_s**2 - (r * deviation_s**2 / deviation_t) ** 2
    mean = mean_s + r * (deviation_s / deviation_t) ** 2 * (1 - mean_t)
    torch.testing.assert_close(out[0], mean[None], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close((out[2] - out[0]) ** 2, variance[None], rtol=1e-6, atol=1e-12)


@schedules
def test_the_variances_are_estimated_from_data_and_noise(schedule):
    """To a few per cent where the network sees anything of the data, and between 0 and that of the data elsewhere."""
    sampler = Analytic(20, spacing="log_snr", data=200)
    found = sampler.estimate(Ideal(schedule), [{"x": part} for part in gaussian(200).split(64)])["unknown"]
    exact = unknown(schedule, sampler.times(schedule)[:-1])
    seen = exact < 0.9 * C**2
    assert seen.sum() > 5
    torch.testing.assert_close(found[seen], exact[seen], rtol=0.08, atol=0)
    assert (found >= 0).all()
    assert found.max().item() <= C**2 * 1.05


def test_the_estimate_does_not_depend_on_its_batches():
    x, sampler = gaussian(40), Analytic(5, data=40)
    whole, parts = (
        sampler.estimate(Ideal(EVERY["vp"]), [{"x": part} for part in x.split(size)])["unknown"] for size in (40, 7)
    )
    torch.testing.assert_close(whole, parts, rtol=1e-9, atol=1e-12)


def test_the_estimate_is_the_papers():
    """sigma^2 / alpha^2 (1 - E|eps|^2 / D), at the same noise up to |noise|^2, whose mean is D."""
    schedule, x_0 = EVERY["vp"], gaussian(60)
    sampler = Analytic(4, spacing="log_snr")
    found = sampler.estimate(Ideal(schedule), [{"x": x_0}])["unknown"]
    rng = Rng(0, torch.arange(60)).stage("analytic")
    for t, value in zip(sampler.times(schedule)[:-1], found, strict=True):
        (alpha, sigma), z = schedule(t), rng.normal_like(x_0)
        x_t = alpha * x_0 + sigma * z
        eps = (x_t - alpha * ideal_denoiser(schedule)(x_t, t).x_0) / sigma
        papers = (sigma / alpha) ** 2 * (z.square().mean() - eps.square().mean())
        torch.testing.assert_close(value, papers.clamp(min=0).minimum(x_0.var(0, correction=0).mean()))


def test_without_signal_the_data_vary_as_they_do():
    schedule = EVERY["straight"]
    found = Analytic(4, spacing="trailing").estimate(Ideal(schedule), [{"x": gaussian(60)}])["unknown"]
    assert found[0].item() == pytest.approx(gaussian(60).var(0, correction=0).mean().item())


@pytest.mark.parametrize(("visible", "levels"), [(1.0, 256), (2.0, 17), (None, 256), (1.0, None)])
def test_the_last_noise_is_hardly_seen(visible, levels):
    """E|noise| is at most `visible` grey levels in the step before the last, and as it is in the others."""
    schedule = LinearBeta()
    asked = Analytic(10, visible=visible, spacing="trailing")
    level = asked.estimate(Ideal(schedule, levels), [{"x": gaussian(20)}])["level"].item()
    assert level == (math.inf if levels is None else 2 / 255)
    free = informed(Analytic(10, visible=None, spacing="trailing"), schedule)
    sampler, times = informed(asked, schedule, level), free.times(schedule)

    def noise(sampler: Analytic, step: int) -> float:
        x = torch.zeros(3, 1, dtype=torch.float64)
        state = State(x, step=step, steps=10)
        out = sampler.step(schedule, ideal_denoiser(schedule), state, times[step], times[step + 1], Impulses()).x
        return (out[2] - out[0]).item()

    assert all(noise(sampler, step) == noise(free, step) for step in range(8))
    most = math.inf if visible is None else visible * level / math.sqrt(2 / math.pi)
    assert noise(sampler, 8) == pytest.approx(min(noise(free, 8), most))
    assert noise(free, 8) > 1.3 * 2 / 255


def test_a_sample_is_one_evaluation_a_step_and_its_own():
    schedule, rng = EVERY["vp"], Rng(5, torch.arange(6))
    x, calls = rng.stage("start").normal(3, dtype=torch.float64), []
    sampler = informed(Analytic(6), schedule)

    def counted(x_t: Tensor, t: Tensor) -> Denoised:
        calls.append(t)
        return ideal_denoiser(schedule)(x_t, t)

    whole = sampler(schedule, counted, x, rng)
    assert len(calls) == sampler.evaluations(schedule) == 6
    for part in (slice(0, 1), slice(4, 6)):
        assert torch.equal(sampler(schedule, counted, x[part], rng.rows(part)), whole[part])


def test_it_does_not_draw_before_it_knows():
    x, rng = gaussian(2), Rng(0, torch.arange(2))
    for sampler in (Analytic(5), Analytic(5).given({"unknown": torch.zeros(4), "level": torch.tensor(0.1)})):
        with pytest.raises(UserError, match="sampler=analytic: its variances are estimated from a trained model"):
            sampler(LinearBeta(), ideal_denoiser(LinearBeta()), x, rng)


def test_what_it_is_given_leaves_the_sampler_as_it_was():
    sampler = Analytic(5)
    sampler.given({"unknown": torch.zeros(5)})
    assert not sampler.known


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"eta": 2}, r"eta must be in \[0, 1\], not 2"),
        ({"data": 0}, "data must be at least 1, not 0"),
        ({"visible": 0}, "visible must be above 0, not 0; null leaves the noise as it is"),
    ],
    ids=str,
)
def test_wrong_settings_are_named(choice, message):
    with pytest.raises(ValueError, match=message):
        Analytic(**choice)
