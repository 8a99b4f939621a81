"""Laws of the probability-flow ODE and of its solvers Euler, Heun and rk45, and of the way back from data to noise."""

import math
from itertools import pairwise

import pytest
import torch
from closed_form import C, M, ideal_denoiser, marginal
from every_schedule import EVERY, double, estimate, nonlinear, schedules, start
from oracles import k_diffusion
from test_samplers import Impulses, mean_and_deviation
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.diffusion.continuous import LinearSigma, Straight, VariancePreserving
from genlab.models.diffusion.denoiser import Denoised
from genlab.models.diffusion.flow_ode import angle, field, radius, solve, time_of_angle, turning, velocity
from genlab.models.diffusion.samplers.ancestral import Ancestral
from genlab.models.diffusion.samplers.euler import Euler
from genlab.models.diffusion.samplers.heun import Heun
from genlab.models.diffusion.samplers.rk45 import RungeKutta
from genlab.models.diffusion.samplers.sampler import Sampler, State
from genlab.models.diffusion.schedule import LinearBeta, Schedule, derivatives, match

SMOOTH = {name: EVERY[name] for name in ("vp", "edm", "straight")}
smooth = pytest.mark.parametrize("schedule", SMOOTH.values(), ids=SMOOTH.keys())


def exact_flow(schedule: Schedule, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The probability-flow ODE of N(M, C^2) keeps how many standard deviations x is from its mean."""
    (mean_t, deviation_t), (mean_s, deviation_s) = marginal(schedule, t), marginal(schedule, s)
    return mean_s + deviation_s / deviation_t * (x_t - mean_t)


def spread_out(schedule: Schedule, t: Tensor) -> Tensor:
    """(9, 1), from -2 to 2 standard deviations at t."""
    mean, deviation = marginal(schedule, t)
    return mean + deviation * torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]


@schedules
def test_the_field_is_the_papers(schedule):
    """f x + g^2 / 2 (x - alpha x_0) / sigma^2, and alpha' and sigma' are derivatives."""
    t = double(0.0155, 0.3005, 0.8003)
    x_t, x_0 = double(0.3, -2.0, 1.7), double(-0.5, 0.1, 0.9)
    (alpha, sigma), (f, g_squared) = schedule(t), schedule.rates(t)
    papers = f * x_t + g_squared / 2 * (x_t - alpha * x_0) / sigma**2
    torch.testing.assert_close(velocity(schedule, x_t, x_0, t), papers, rtol=1e-9, atol=1e-9)
    for slope, before, after in zip(derivatives(schedule, t), schedule(t - 1e-7), schedule(t + 1e-7), strict=True):
        torch.testing.assert_close(slope, (after - before) / 2e-7, rtol=1e-5, atol=1e-8)


def test_the_field_of_the_straight_path_is_flow_matchings_velocity_at_its_very_end_too():
    t, x_t, x_0 = double(1.0), double(1.2), double(0.4)
    torch.testing.assert_close(velocity(Straight(), x_t, x_0, t), x_t - x_0)  # eps = x_t there.
    torch.testing.assert_close(velocity(Straight(), x_t, x_0, double(0.5)), 2 * x_t - 2 * x_0)


@schedules
def test_the_angle_is_a_clock(schedule):
    t = torch.linspace(schedule.t_min, 1, 100, dtype=torch.float64)
    phi = angle(schedule, t)
    assert (phi.diff() > 0).all()
    assert 0 < phi[0] < 0.03
    assert phi[-1] <= math.pi / 2
    back = time_of_angle(schedule, phi)
    for found, wanted in zip((angle(schedule, back), radius(schedule, back)), (phi, radius(schedule, t)), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=0)
    assert back[-1] == 1


@schedules
def test_both_clocks_tell_of_one_path(schedule):
    """d(x / r)/dt = dy/dphi dphi/dt."""
    t, step = double(0.3005), 1e-6
    denoise = ideal_denoiser(schedule)
    x = double(0.3, -1.5)[:, None]
    before, after = (
        (x + h * field(schedule, denoise)(x, t)) / radius(schedule, t + h) for h in (double(-step), double(step))
    )
    phi = angle(schedule, t + step) - angle(schedule, t - step)
    turned = turning(schedule, denoise)(x / radius(schedule, t), angle(schedule, t))
    torch.testing.assert_close((after - before) / phi, turned, rtol=1e-5, atol=1e-6)


@schedules
@pytest.mark.parametrize(
    ("sampler", "tolerance"),
    [
        (Euler(100, spacing="karras"), 0.1),
        (Euler(100, spacing="log_snr", last=False), 0.11),
        (Heun(40), 0.015),
        (Heun(40, space="time"), 0.015),
        (Heun(40, last=False), 0.02),
        (Heun(80, churn=8), 0.01),
        (RungeKutta(), 5e-4),
    ],
    ids=["euler", "euler not to the data", "heun", "heun in time", "heun not to the data", "churn", "rk45"],
)
def test_samplers_return_the_data_distribution(schedule, sampler, tolerance):
    mean, deviation = mean_and_deviation(sampler, schedule)
    if not sampler.last:
        noisy_mean, noisy = (c.item() for c in marginal(schedule, double(schedule.t_min)))
        mean, deviation = mean + M - noisy_mean, deviation + C - noisy
    assert mean == pytest.approx(M, abs=tolerance)
    assert deviation == pytest.approx(C, abs=tolerance)


@pytest.mark.parametrize("name", ["linear", "cosine", "no signal at the end", "vp", "subvp", "straight"])
@pytest.mark.parametrize(
    "sampler", [Euler(100), Heun(40, space="time", spacing="uniform"), Heun(40, spacing="uniform")]
)
def test_equal_parts_of_time_serve_too_where_noise_is_not_exponential_in_it(name, sampler):
    """They begin at t = 1, where the straight path has no signal, or at t_max in sigma / alpha."""
    mean, deviation = mean_and_deviation(sampler, EVERY[name])
    assert mean == pytest.approx(M, abs=0.02)
    assert deviation == pytest.approx(C, abs=0.02)


def observed_order(make, schedule: Schedule, steps: int) -> float:
    """By how much the error before the last step falls where the steps are twice as many, as a power of two."""
    errors = []
    for n in (steps, 2 * steps):
        sampler = make(n)
        t = sampler.times(schedule)[0]
        x = spread_out(schedule, t)
        out = sampler(schedule, ideal_denoiser(schedule), x, Impulses())
        wanted = exact_flow(schedule, x, t, double(schedule.t_min))
        errors.append((out - wanted).abs().max())
    return (errors[0] / errors[1]).log2().item()


@smooth
@pytest.mark.parametrize("space", ["sigma", "time"])
@pytest.mark.parametrize("spacing", ["log_snr", "karras"])
def test_heun_is_of_second_order(schedule, space, spacing):
    order = observed_order(lambda n: Heun(n, space=space, spacing=spacing, last=False), schedule, 100)
    assert order == pytest.approx(2, abs=0.15)


@smooth
def test_euler_is_of_first_order(schedule):
    order = observed_order(lambda n: Euler(n, spacing="log_snr", last=False), schedule, 200)
    assert order == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("name", ["edm", "vp", "linear"])
@pytest.mark.parametrize(
    "churn",
    [
        {},
        {"churn": 40.0, "churn_min": 0.05, "churn_max": 50.0, "churn_noise": 1.003},
        {"churn": 1.0, "churn_max": 30.0},
    ],
    ids=["no churn", "edm's churn for imagenet", "a little churn"],
)
def test_heun_is_that_of_k_diffusion(monkeypatch, name, churn):
    """EDM's own, for which k-diffusion has been seen to stand; on other schedules in x / alpha and sigma / alpha."""
    sampling = k_diffusion()
    schedule, (y, rng) = EVERY[name], start()
    sampler = Heun(**churn)
    times = sampler.times(schedule)
    alpha, sigma = schedule(times)
    ours = sampler(schedule, nonlinear(schedule), alpha[0] * sigma[0] / alpha[0] * y, rng)
    drawn = rng.stage("sampler")
    monkeypatch.setattr(torch, "randn_like", drawn.normal_like)
    published = {f"s_{key.removeprefix('churn_').replace('m', 'tm', 1)}": v for key, v in churn.items()}
    theirs = sampling.sample_heun(
        lambda y, n: estimate(y, match(n, y)), y * sigma[0] / alpha[0], sigma / alpha, disable=True, **published
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    assert (ours.abs() > 0.1).any()


def test_the_times_of_heun_are_edms():
    """sigma_i = (max^(1 / 7) + i / (N - 1) (min^(1 / 7) - max^(1 / 7)))^7, and 0."""
    i = torch.arange(18, dtype=torch.float64)
    published = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    sigma = LinearSigma()(Heun().times(LinearSigma()))[1]
    torch.testing.assert_close(sigma[:-1], published, rtol=1e-12, atol=0)
    assert sigma[-1] == 0


@schedules
def test_churn_never_asks_for_more_noise_than_there_is(schedule):
    asked = []

    def seen(x_t: Tensor, t: Tensor) -> Denoised:
        asked.append(t)
        return ideal_denoiser(schedule)(x_t, t)

    x, rng = start()
    Heun(10, churn=100)(schedule, seen, x * schedule.prior_scale, rng)
    assert min(asked) > 0
    assert max(asked) <= 1 + 1e-12
    assert any((t - max(asked)).abs() > 1e-3 for t in asked)


def test_euler_on_the_straight_path_is_flow_matchings_and_ddim():
    """x <- x + (s - t) v with v = E[eps - x_0 | x_t], from t = 1, where v is x minus the mean of the data."""
    schedule, x = Straight(), start()[0]
    ours = Euler(20)(schedule, ideal_denoiser(schedule), x, Impulses())
    ddim = Ancestral(20, eta=0)(schedule, ideal_denoiser(schedule), x, Impulses())
    times = [*torch.linspace(1, 1e-3, 20, dtype=torch.float64).tolist(), 0.0]
    for t, s in pairwise(times):
        known = (1 - t) * C**2 / ((1 - t) ** 2 * C**2 + t**2) * (x - (1 - t) * M)
        x_0 = M + known
        x = x + (s - t) * (x - x_0) / t
    torch.testing.assert_close(ours, x, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ddim, x, rtol=1e-10, atol=1e-10)


@schedules
def test_rk45_follows_the_exact_flow(schedule):
    one, last = double(1.0), double(schedule.t_min)
    x = spread_out(schedule, one)
    out = RungeKutta(last=False)(schedule, ideal_denoiser(schedule), x, Impulses())
    torch.testing.assert_close(out, exact_flow(schedule, x, one, last), rtol=0, atol=2e-5)


@schedules
def test_rk45_asks_the_network_where_it_knows_and_seldom(schedule):
    asked = []

    def seen(x_t: Tensor, t: Tensor) -> Denoised:
        asked.append(t)
        return ideal_denoiser(schedule)(x_t, t)

    RungeKutta()(schedule, seen, spread_out(schedule, double(1.0)), Impulses())
    assert min(asked) >= schedule.t_min * (1 - 1e-9)
    assert max(asked) <= 1
    assert len(asked) < 60


def test_tolerances_of_rk45_are_kept_by_each_row_of_a_batch():
    """One row that turns fast among many that do not; a mean over the batch would leave its error 10 times as large."""
    rate = torch.zeros(100, 1, dtype=torch.float64)
    rate[0] = 30

    def turn(y: Tensor, clock: Tensor) -> Tensor:
        return rate * torch.cos(rate * clock)

    zero, one = double(0.0, 1.0)
    whole = solve(turn, torch.zeros(100, 1, dtype=torch.float64), zero, one, 1e-5, 1e-5)
    assert whole[0].item() == pytest.approx(math.sin(30), abs=3e-5)
    assert (whole[1:] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_network_of_rk45_is_asked_in_its_own_precision(dtype):
    asked = set()

    def seen(x_t: Tensor, t: Tensor) -> Denoised:
        asked.add((x_t.dtype, t.dtype))
        return ideal_denoiser(Straight())(x_t, t)

    assert RungeKutta()(Straight(), seen, start()[0].to(dtype), Impulses()).dtype == dtype
    assert asked == {(dtype, torch.float64)}


SAMPLERS: list[Sampler] = [
    Euler(7),
    Euler(7, last=False),
    Heun(7),
    Heun(7, last=False),
    Heun(1),
    Heun(7, space="time", churn_noise=2),
    Heun(7, churn=3),
]
samplers = pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: f"{s.name} {s.steps} {'to data' * s.last}")


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


def test_heun_takes_two_evaluations_a_step_and_one_in_the_last():
    assert Heun(18).evaluations(LinearSigma()) == 35
    assert RungeKutta().evaluations(LinearSigma()) is None


@samplers
@pytest.mark.parametrize("name", ["vp", "edm"])
def test_a_sample_does_not_depend_on_its_batch(sampler, name):
    schedule, (x, rng) = EVERY[name], start(6)
    x = x * schedule.prior_scale
    whole = sampler(schedule, nonlinear(schedule), x, rng)
    for part in (slice(0, 1), slice(1, 6), slice(4, 6)):
        assert torch.equal(sampler(schedule, nonlinear(schedule), x[part], rng.rows(part)), whole[part])


def test_a_sample_of_rk45_depends_on_its_batch_within_the_tolerances_only():
    schedule, (x, rng) = EVERY["vp"], start(6)
    whole = RungeKutta()(schedule, ideal_denoiser(schedule), x, rng)
    alone = RungeKutta()(schedule, ideal_denoiser(schedule), x[2:3], rng.rows(slice(2, 3)))
    torch.testing.assert_close(alone, whole[2:3], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sampler", [Euler(5), Heun(5), RungeKutta()], ids=lambda s: s.name)
@pytest.mark.parametrize(("clip", "bounded", "clipped"), [(None, 1, 0), (True, 0, 1), (False, 1, 0)])
def test_estimates_are_clipped_where_told_alone(sampler, clip, bounded, clipped):
    """Clipped estimates are not those of a differential equation's right-hand side."""
    sampler.clip = clip
    out = sampler(LinearBeta(), lambda x_t, t: Denoised(torch.full_like(x_t, 3.0)), *start(), bool(bounded))
    torch.testing.assert_close(out, torch.full_like(out, 1.0 if clipped else 3.0))


def round_trip(sampler: Sampler, schedule: Schedule) -> float:
    """How far data are from what the sampler makes of their noise, the largest of several."""
    denoise, x_0 = ideal_denoiser(schedule), torch.linspace(-0.8, 0.9, 5, dtype=torch.float64)[:, None]
    x_1 = sampler.invert(schedule, denoise, x_0)
    return (sampler(schedule, denoise, x_1, Impulses()) - x_0).abs().max().item()


@smooth
@pytest.mark.parametrize(
    ("make", "order"),
    [
        (lambda n: Ancestral(n, eta=0, spacing="log_snr"), 1),
        (lambda n: Euler(n, spacing="log_snr"), 1),
        (lambda n: Heun(n, spacing="log_snr"), 2),
        (lambda n: Heun(n, space="time", spacing="log_snr"), 2),
    ],
    ids=["ddim", "euler", "heun", "heun in time"],
)
def test_data_come_back_from_their_noise_to_the_order_of_the_steps(schedule, make, order):
    """Heun's errors there and back cancel to one order more."""
    errors = [round_trip(make(n), schedule) for n in (50, 100)]
    assert errors[1] < 0.12
    assert math.log2(errors[0] / errors[1]) > order - 0.15


@schedules
def test_the_way_back_ends_where_the_exact_flow_does(schedule):
    """A datum x_0 is m deviations from the mean of the data, and so is its noise from the mean of x_1."""
    denoise, x_0 = ideal_denoiser(schedule), torch.linspace(-0.8, 0.9, 5, dtype=torch.float64)[:, None]
    mean, deviation = marginal(schedule, double(1.0))
    x_1 = RungeKutta().invert(schedule, denoise, x_0)
    torch.testing.assert_close((x_1 - mean) / deviation, (x_0 - M) / C, rtol=0, atol=4e-3)
    assert round_trip(RungeKutta(), schedule) < 1e-3


@pytest.mark.parametrize("sampler", [Ancestral(4, eta=0), Euler(4), Heun(4), RungeKutta()], ids=lambda s: s.name)
def test_the_data_are_left_by_the_noise_that_the_network_sees_in_them_at_the_smallest_time(sampler):
    schedule, seen = VariancePreserving(), []

    def denoise(x_t: Tensor, t: Tensor) -> Denoised:
        seen.append((x_t, t))
        return Denoised(0.5 * x_t)

    x_0 = start()[0]
    sampler.invert(schedule, denoise, x_0)
    assert seen[0][1] == schedule.t_min
    assert torch.equal(seen[0][0], x_0)
    alpha, _ = schedule(double(schedule.t_min))
    torch.testing.assert_close(seen[1][0], alpha * x_0 + x_0 - alpha * 0.5 * x_0, rtol=1e-7, atol=0)


@pytest.mark.parametrize(
    "sampler", [Ancestral(10), Ancestral(10, eta=0.1), Heun(churn=1)], ids=["ancestral", "eta 0.1", "churn"]
)
def test_samplers_that_add_noise_cannot_be_run_backwards(sampler):
    with pytest.raises(UserError, match="it cannot be run backwards; choose ddim, euler, heun or rk45"):
        sampler.invert(LinearBeta(), ideal_denoiser(LinearBeta()), start()[0])


def test_a_step_is_the_samplers_and_the_last_is_the_estimate():
    schedule, x = VariancePreserving(), start()[0]
    denoise, t = nonlinear(schedule), double(0.05)
    for sampler in (Euler(), Heun(), RungeKutta()):
        out = sampler.finish(schedule, denoise, State(x), t, Rng(0, torch.arange(2)))
        assert torch.equal(out.x, denoise(x, t).x_0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Heun(churn=-1), "churn must be at least 0, not -1"),
        (lambda: Heun(churn=2, space="time"), "churn=2 is added in sigma; choose space=sigma, or churn=0"),
        (lambda: RungeKutta(rtol=0), "rtol=0 and atol=1e-05 must be above 0"),
        (lambda: Euler(0), "steps must be at least 1, not 0"),
    ],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
