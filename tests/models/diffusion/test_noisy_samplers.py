"""Laws of the samplers that add noise: reverse diffusion, Euler-Maruyama, predictor-corrector, annealed Langevin."""

import math
from itertools import pairwise

import pytest
import torch
from closed_form import C, M, ideal_denoiser, marginal
from every_schedule import EVERY, double, nonlinear, schedules, start
from test_samplers import Impulses, mean_and_deviation
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.diffusion.denoiser import Denoised
from genlab.models.diffusion.samplers.analytic import Analytic
from genlab.models.diffusion.samplers.ancestral import Ancestral
from genlab.models.diffusion.samplers.annealed_langevin import AnnealedLangevin, best_size
from genlab.models.diffusion.samplers.euler_maruyama import EulerMaruyama
from genlab.models.diffusion.samplers.heun import Heun
from genlab.models.diffusion.samplers.predictor_corrector import PredictorCorrector
from genlab.models.diffusion.samplers.reverse_diffusion import ReverseDiffusion
from genlab.models.diffusion.samplers.rk45 import RungeKutta
from genlab.models.diffusion.samplers.sampler import Sampler
from genlab.models.diffusion.schedule import Geometric, LinearBeta, Schedule, match


def score_of(schedule: Schedule, x_t: Tensor, t: Tensor) -> Tensor:
    alpha, sigma = (match(c, x_t) for c in schedule(t))
    return (alpha * nonlinear(schedule)(x_t, t).x_0 - x_t) / sigma**2


@schedules
@pytest.mark.parametrize(
    ("sampler", "tolerance"),
    [
        (EulerMaruyama(150, spacing="log_snr"), 0.01),
        (EulerMaruyama(150, spacing="karras"), 0.01),
        (ReverseDiffusion(150, spacing="log_snr"), 0.02),
        (ReverseDiffusion(150, spacing="karras"), 0.025),
    ],
    ids=lambda v: f"{v.name} {v.spacing}" if isinstance(v, Sampler) else "",
)
def test_samplers_return_the_data_distribution(schedule, sampler, tolerance):
    mean, deviation = mean_and_deviation(sampler, schedule)
    assert mean == pytest.approx(M, abs=tolerance)
    assert deviation == pytest.approx(C, abs=tolerance)


@pytest.mark.parametrize("name", ["linear", "cosine", "no signal at the end", "vp", "subvp", "straight"])
@pytest.mark.parametrize("sampler", [EulerMaruyama(300), ReverseDiffusion(300)], ids=lambda s: s.name)
def test_equal_parts_of_time_serve_too_where_noise_is_not_exponential_in_it(name, sampler):
    """On the straight path, whose steps near t = 1 change all of the little signal, too."""
    mean, deviation = mean_and_deviation(sampler, EVERY[name])
    assert mean == pytest.approx(M, abs=0.02)
    assert deviation == pytest.approx(C, abs=0.03)


def drawn(sampler: Sampler, schedule: Schedule, n: int = 200, values: int = 64) -> Tensor:
    """Samples (n, values) where the data are N(M, C^2) and x starts from its marginal."""
    rng = Rng(0, torch.arange(n))
    mean, deviation = marginal(schedule, sampler.times(schedule)[0])
    x = mean + deviation * rng.stage("start").normal(values, dtype=torch.float64)
    return sampler(schedule, ideal_denoiser(schedule), x, rng)


@schedules
@pytest.mark.parametrize(
    ("sampler", "bias"),
    [
        (PredictorCorrector(ReverseDiffusion(), steps=60, spacing="log_snr"), 0.035),
        (PredictorCorrector(Ancestral(), steps=60, spacing="karras"), 0.02),
        (PredictorCorrector(EulerMaruyama(), snr=0.1, corrections=2, steps=60, spacing="log_snr"), 0.025),
    ],
    ids=["pc", "with ancestral steps", "with two small corrections"],
)
def test_predictor_corrector_returns_the_data_distribution_but_for_langevins_bias(schedule, sampler, bias):
    """The bias is that of `test_the_corrector_keeps_the_marginal_of_its_time`; the rest is chance, within 4 sigma."""
    x = drawn(sampler, schedule)
    assert x.mean().item() == pytest.approx(M, abs=0.01 + 4 * C / x.numel() ** 0.5)
    assert x.std().item() == pytest.approx(C, abs=bias + 4 * C / (2 * x.numel()) ** 0.5)


def exactly(sampler: AnnealedLangevin, schedule: Schedule) -> tuple[float, float]:
    """The mean and deviation of the samples, from impulses for all the noises that are drawn."""
    mean, deviation = marginal(schedule, sampler.times(schedule)[0])
    calls = sampler.evaluations(schedule)
    assert calls is not None
    x = mean.repeat(calls + 2, 1)
    x[1] += deviation
    out = sampler(schedule, ideal_denoiser(schedule), x, Impulses())[:, 0]
    return out[0].item(), (out[1:] - out[0]).norm().item()


@schedules
@pytest.mark.parametrize(
    ("sampler", "bias"),
    [
        (AnnealedLangevin(10), 0.055),
        (AnnealedLangevin(40, repeats=25), 0.025),
        (AnnealedLangevin(100, repeats=5, size=None), 0.055),
        (AnnealedLangevin(100, repeats=20, size=None), 0.03),
    ],
    ids=["ncsn", "more levels", "ncsnv2", "more repeats"],
)
def test_annealed_langevin_returns_the_data_distribution_but_for_its_bias(schedule, sampler, bias):
    """Samples are wider than the data, the less so the slower the noise is lowered."""
    mean, deviation = exactly(sampler, schedule)
    assert mean == pytest.approx(M, abs=1e-3)
    assert C - 1e-3 < deviation < C + bias


def test_the_noises_of_annealed_langevin_are_its_own():
    """Samples drawn with real noise have the deviation that independent noises would give."""
    schedule, sampler = EVERY["vp"], AnnealedLangevin(5, repeats=4)
    x = drawn(sampler, schedule)
    mean, deviation = exactly(sampler, schedule)
    assert x.mean().item() == pytest.approx(mean, abs=4 * deviation / x.numel() ** 0.5)
    assert x.std().item() == pytest.approx(deviation, abs=4 * deviation / (2 * x.numel()) ** 0.5)


@schedules
def test_the_corrector_keeps_the_marginal_of_its_time(schedule):
    """But for the bias of a step e = 2 snr^2 d^2, which widens a deviation d by e / (4 d^2) of it, and for 1 / D from
    each of the two norms, which vary from step to step."""
    t, values = double(0.5), 64
    mean, deviation = marginal(schedule, t)
    rng = Rng(1, torch.arange(1000))
    x = mean + deviation * rng.stage("start").normal(values, dtype=torch.float64)
    corrector = PredictorCorrector(ReverseDiffusion(), corrections=60)
    out = corrector.corrected(schedule, ideal_denoiser(schedule), x, t, schedule(t)[0], rng.stage("a"))
    left = ((out - mean) * (x - mean)).mean() / deviation**2
    assert left.item() == pytest.approx((1 - 2 * 0.16**2) ** 60, abs=0.02)
    assert ((out.mean() - mean) / deviation).item() == pytest.approx(0, abs=4 / x.numel() ** 0.5)
    wider = 1 + 0.16**2 / 2 + 2 / values
    assert (out.std() / deviation).item() == pytest.approx(wider, abs=0.004 + 4 / (2 * x.numel()) ** 0.5)


@pytest.mark.parametrize("name", ["vp", "ve"])
def test_euler_maruyama_is_the_published_loop(name):
    """`EulerMaruyamaPredictor` with the drift and diffusion of `VPSDE` and `VESDE`, over the steps that are taken."""
    schedule, (x, rng) = EVERY[name], start()
    x = x * schedule.prior_scale
    sampler = EulerMaruyama(30, last=False)
    ours = sampler(schedule, nonlinear(schedule), x, rng)
    draw = rng.stage("sampler")
    for t, s in pairwise(sampler.times(schedule)):
        if name == "vp":
            beta = 0.1 + t * (20 - 0.1)
            drift, diffusion = -0.5 * beta * x, beta.sqrt()
        else:
            drift, diffusion = torch.zeros_like(x), 0.01 * (50 / 0.01) ** t * math.sqrt(2 * math.log(50 / 0.01))
        dt = s - t
        x_mean = x + (drift - diffusion**2 * score_of(schedule, x, t)) * dt
        x = x_mean + diffusion * (-dt).sqrt() * draw.normal_like(x)
    torch.testing.assert_close(ours, x, rtol=1e-8, atol=1e-8)


def discretized(schedule: Schedule) -> list[tuple[Tensor, Tensor]]:
    """(sqrt(1 - beta_i), beta_i) of the steps of a VP table, (1, sigma_i^2 - sigma_{i-1}^2) of a VE one, from the last.

    As `discretize` in score SDE's code.
    """
    sigma = schedule(torch.arange(schedule.steps + 1, dtype=torch.float64) / schedule.steps)[1]
    if isinstance(schedule, Geometric):
        return [(double(1.0), now**2 - before**2) for before, now in pairwise(sigma)][::-1]
    beta = torch.linspace(1e-4 * 20, 0.02 * 20, schedule.steps, dtype=torch.float64)
    return [((1 - b).sqrt(), b) for b in beta.flip(0)]


@pytest.mark.parametrize("schedule", [LinearBeta(50), Geometric(30, 0.02, 20.0)], ids=["vp", "ve"])
@pytest.mark.parametrize("corrections", [0, 1, 2])
def test_predictor_corrector_is_the_published_loop(schedule, corrections):
    """`LangevinCorrector` and then `ReverseDiffusionPredictor`, for each sample as in a batch of one, and `denoise`."""
    start_x, rng = start(3)
    start_x = start_x * schedule.prior_scale
    sampler: Sampler = ReverseDiffusion(None)
    if corrections:
        sampler = PredictorCorrector(ReverseDiffusion(), corrections=corrections, steps=None)
    states: list[Tensor] = []
    ours = sampler(schedule, nonlinear(schedule), start_x, rng, watch=lambda _, x: states.append(x))
    for row in range(3):
        x, draw = start_x[row : row + 1], rng.rows(slice(row, row + 1)).stage("sampler")
        for i, (root_alpha, beta) in enumerate(discretized(schedule)):
            torch.testing.assert_close(states[i][row : row + 1], x, rtol=1e-9, atol=1e-9)
            t = double((schedule.steps - i) / schedule.steps)
            for _ in range(corrections):
                grad = score_of(schedule, x, t)
                noise = draw.normal_like(x)
                step_size = (0.16 * noise.norm() / grad.norm()) ** 2 * 2 * root_alpha**2
                x = x + step_size * grad + (step_size * 2).sqrt() * noise
            x_mean = x - (root_alpha * x - x) + beta * score_of(schedule, x, t)
            x = x_mean + beta.sqrt() * draw.normal_like(x)
        # The mean of the last step differs from the estimate by what that step changes of the signal.
        torch.testing.assert_close(ours[row : row + 1], x_mean, rtol=0, atol=1e-3)


def test_annealed_langevin_is_the_published_loop():
    """`anneal_Langevin_dynamics` of NCSNv2's code, with step_lr for data in [-1, 1], and its last denoising."""
    schedule, (x, rng) = Geometric(10), start()
    ours = AnnealedLangevin(repeats=4)(schedule, nonlinear(schedule), 2 * x, rng)
    draw, x = rng.stage("sampler"), 2 * x
    sigmas = [2.0 * (0.02 / 2.0) ** (i / 9) for i in range(10)]
    step_lr = 0.2 * sigmas[-1] ** 2
    for i, sigma in enumerate(sigmas):
        step_size, t = step_lr * (sigma / sigmas[-1]) ** 2, double(1 - i / 10)
        for _ in range(4):
            grad = score_of(schedule, x, t)
            x = x + step_size * grad + math.sqrt(step_size * 2) * draw.normal_like(x)
    x = x + sigmas[-1] ** 2 * score_of(schedule, x, t)
    torch.testing.assert_close(ours, x, rtol=1e-8, atol=1e-8)


def test_the_signal_is_scaled_between_levels():
    """In x / alpha the dynamics are those of the schedule that has these sigma / alpha and keeps the signal."""
    straight, (x, rng) = EVERY["straight"], start()
    sampler = AnnealedLangevin(10, repeats=5, last=False)
    alpha, sigma = straight(sampler.times(straight)[:-1])
    ours = sampler(straight, nonlinear(straight), x, rng) / alpha[-1]
    draw, y = rng.stage("sampler"), x / alpha[0]
    edm = EVERY["edm"]
    for n in sigma / alpha:
        for _ in range(5):
            y = y + 0.2 * n**2 * score_of(edm, y, n / 80) + math.sqrt(0.4) * n * draw.normal_like(y)
    torch.testing.assert_close(ours, y, rtol=1e-7, atol=1e-7)


def test_the_size_of_ncsnv2s_steps_is_the_published_one():
    """6.2e-6 / 0.01^2 for CIFAR-10: 232 levels from 50 to 0.01, 5 repeats."""
    gamma = double((50 / 0.01) ** (1 / 231))
    assert best_size(gamma, 5).item() == pytest.approx(0.062, rel=0.03)


def test_the_size_of_ncsnv2s_steps_leaves_the_variance_nearest_to_the_levels_own():
    gamma, repeats = 1.2, 8

    def variance(size: float) -> float:
        """After the repeats, of a state that comes with that of the level before, in parts of the level's own."""
        v = gamma**2
        for _ in range(repeats):
            v = (1 - size) ** 2 * v + 2 * size
        return v

    best = best_size(double(gamma), repeats).item()
    assert 1 < variance(best) < min(variance(0.9 * best), variance(1.1 * best), gamma**2)


SAMPLERS: list[Sampler] = [
    EulerMaruyama(7),
    EulerMaruyama(7, last=False),
    ReverseDiffusion(7),
    PredictorCorrector(ReverseDiffusion(), steps=7),
    PredictorCorrector(Ancestral(), steps=7, corrections=3, last=False),
    PredictorCorrector(Heun(), steps=7, spacing="karras"),
    PredictorCorrector(EulerMaruyama(), steps=7, corrections=0),
    AnnealedLangevin(4, repeats=3),
    AnnealedLangevin(4, repeats=3, size=None, last=False),
]
NAMES = [f"{s.name} {i}" for i, s in enumerate(SAMPLERS)]
samplers = pytest.mark.parametrize("sampler", SAMPLERS, ids=NAMES)


@samplers
@pytest.mark.parametrize("name", ["linear", "straight"])
def test_evaluations_are_the_calls_of_the_denoiser(sampler, name):
    calls = []

    def counted(x_t: Tensor, t: Tensor) -> Denoised:
        calls.append(t)
        return Denoised(x_t / 2)

    x, rng = start()
    sampler(EVERY[name], counted, x, rng)
    assert len(calls) == sampler.evaluations(EVERY[name])


def test_the_published_numbers_of_evaluations():
    assert PredictorCorrector(ReverseDiffusion()).evaluations(EVERY["ve"]) == 2000
    assert AnnealedLangevin(None, repeats=5, last=False).evaluations(Geometric(232, 0.01, 50.0)) == 1160


@samplers
@pytest.mark.parametrize("name", ["vp", "edm"])
def test_a_sample_does_not_depend_on_its_batch(sampler, name):
    """Langevin's step is that of the sample's own norms."""
    schedule, (x, rng) = EVERY[name], start(6)
    x = x * schedule.prior_scale
    whole = sampler(schedule, nonlinear(schedule), x, rng)
    for part in (slice(0, 1), slice(1, 6), slice(4, 6)):
        torch.testing.assert_close(
            sampler(schedule, nonlinear(schedule), x[part], rng.rows(part)), whole[part], rtol=1e-12, atol=1e-12
        )


@samplers
def test_the_noise_depends_on_the_seed(sampler):
    (x, rng), schedule = start(), EVERY["vp"]
    out = [sampler(schedule, nonlinear(schedule), x, Rng(seed, rng.index)) for seed in (0, 0, 1)]
    assert torch.equal(out[0], out[1])
    assert torch.equal(out[0], out[2]) == (sampler.name == "predictor_corrector" and sampler.evaluations(schedule) == 0)


@samplers
def test_estimates_are_clipped_where_told_alone(sampler):
    x, rng = start()
    kept, sampler.clip = sampler.clip, True
    asked = []

    def far(x_t: Tensor, t: Tensor) -> Denoised:
        asked.append(t)
        return Denoised(torch.full_like(x_t, 3.0))

    try:
        assert sampler.last is False or (sampler(LinearBeta(), far, x, rng) <= 1 + 1e-12).all()
        sampler.clip = None
        assert sampler.last is False or (sampler(LinearBeta(), far, x, rng, bounded=True) > 2).all()
    finally:
        sampler.clip = kept


def test_a_score_that_vanishes_does_not_throw_a_sample_away():
    """In one dimension a sample may lie just where its score is 0, and the published step would be infinite."""
    schedule, t = EVERY["vp"], double(0.5)
    x = marginal(schedule, t)[0].reshape(1, 1)
    corrector = PredictorCorrector(ReverseDiffusion())
    out = corrector.corrected(schedule, ideal_denoiser(schedule), x, t, schedule(t)[0], Rng(0, torch.arange(1)))
    assert 0 < (out - x).abs().item() < 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PredictorCorrector(ReverseDiffusion(), snr=0), "snr must be above 0, not 0"),
        (lambda: PredictorCorrector(ReverseDiffusion(), corrections=-1), "corrections must be at least 0, not -1"),
        (lambda: PredictorCorrector(Analytic()), "predictor: analytic cannot be one; choose reverse_diffusion"),
        (lambda: PredictorCorrector(PredictorCorrector(Ancestral())), "predictor: predictor_corrector cannot be one"),
        (lambda: PredictorCorrector(RungeKutta()), "predictor: rk45 cannot be one"),
        (lambda: PredictorCorrector(Ancestral(5)), "predictor.steps=5: set steps beside it, for the whole"),
        (lambda: AnnealedLangevin(repeats=0), "repeats must be at least 1, not 0"),
        (lambda: AnnealedLangevin(size=1.5), "size must lie between 0 and 1, not 1.5"),
    ],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_size_to_be_chosen_needs_two_levels():
    with pytest.raises(UserError, match=r"sampler.size=null: NCSNv2's rule needs two levels; choose more steps"):
        AnnealedLangevin(1, size=None).evaluations(EVERY["vp"])
