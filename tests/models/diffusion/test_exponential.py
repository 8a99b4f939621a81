"""Laws of the exponential integrators' weights: polynomials are integrated exactly, over steps of any length."""

import math

import pytest
import torch
from closed_form import SCHEDULES
from scipy.integrate import quad
from torch import Tensor

from genlab.models.diffusion.denoiser import Denoised
from genlab.models.diffusion.samplers.exponential import OF_HALF_LOG_SNR, Integral, fejer, lagrange, with_signal
from genlab.models.diffusion.schedule import LinearBeta, Schedule

CPU = torch.device("cpu")


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("points", [1, 2, 8, 9, 48])
def test_the_rule_is_exact_for_polynomials_of_lower_degree_than_it_has_points(points):
    theta, weight = fejer(points, CPU)
    assert ((theta > 0) & (theta < 1)).all()
    for degree in range(points):
        assert weight @ theta**degree == pytest.approx(1 / (degree + 1), rel=1e-13)


@pytest.mark.parametrize("h", [1e-9, 0.1, 3, 15])
def test_the_rule_of_the_weights_is_exact_for_exponentials_times_cubes(h):
    """int_0^1 exp(-h u) = -expm1(-h) / h, and by parts m_k = (k m_{k-1} - exp(-h)) / h."""
    theta, weight = fejer(48, CPU)
    assert weight @ (-h * theta).exp() == pytest.approx(-math.expm1(-h) / h, rel=1e-14)
    wanted = quad(lambda u: u**3 * math.exp(-h * u), 0, 1, epsabs=0, epsrel=1e-13)[0]
    assert weight @ (theta**3 * (-h * theta).exp()) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_the_polynomials_interpolate(n):
    nodes, at = double(-0.3, 0.9, 1.0, 4.0)[:n], double(-2.0, 0.1, 0.9, 7.0)
    basis = lagrange(nodes, at)
    torch.testing.assert_close(lagrange(nodes, nodes), torch.eye(n, dtype=torch.float64), rtol=0, atol=0)
    for degree in range(n):
        torch.testing.assert_close(nodes**degree @ basis, at**degree, rtol=1e-12, atol=1e-12)


def exact_step(schedule: Schedule, integrand: str, f, t: Tensor, s: Tensor, x_t: float) -> float:
    """x_s where the integrand is f(lambda)."""
    alpha, sigma = schedule(torch.stack([t, s]))
    start, end = (alpha / sigma).log().tolist()
    part = [start + i / 20 * (end - start) for i in range(1, 20)]
    if integrand == "data":
        area = quad(lambda at: math.exp(at - end) * f(at), start, end, points=part, epsrel=1e-12, limit=200)[0]
        return (sigma[1] / sigma[0] * x_t + alpha[1] * area).item()
    area = quad(lambda at: math.exp(end - at) * f(at), start, end, points=part, epsrel=1e-12, limit=200)[0]
    return (alpha[1] / alpha[0] * x_t - sigma[1] * area).item()


STEPS = {
    "short": (0.3001, 0.3, [0.3002, 0.3004, 0.30045]),
    "long": (0.6, 0.3, [0.7, 0.9, 0.95]),
    "back": (0.5, 0.3, [0.3, 0.7]),
}


@pytest.mark.parametrize(("t", "s", "others"), STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("variable", ["log_snr", "rho", "time"])
@pytest.mark.parametrize("integrand", ["data", "noise"])
@pytest.mark.parametrize("name", ["vp", "edm", "straight", "ve"])
def test_a_polynomial_through_all_that_is_known_is_integrated_exactly(name, integrand, variable, t, s, others):
    """By a node at the end as well, as a corrector has it. Any number of nodes gives all degrees below."""
    schedule, integral = SCHEDULES[name], Integral(integrand, variable)
    nodes = [*double(t, *others)]
    t, s = double(t, s)
    for degree in range(len(nodes)):

        def f(half_log_snr: float, degree=degree) -> float:
            v = OF_HALF_LOG_SNR[variable](schedule, double(half_log_snr)).item()
            return 0.3 - (v - 0.7) ** degree

        def at(time: Tensor) -> Tensor:
            return double(f(0.5 * schedule.log_snr(time).item()))

        for n in range(degree + 1, len(nodes) + 1):
            found = integral(schedule, double(1.3), t, s, [(node, at(node)) for node in nodes[:n]])
            assert found.item() == pytest.approx(exact_step(schedule, integrand, f, t, s, 1.3), rel=1e-9)


@pytest.mark.parametrize(
    "published", [[1], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12], [55 / 24, -59 / 24, 37 / 24, -9 / 24]]
)
@pytest.mark.parametrize("integrand", ["data", "noise"])
def test_over_short_equal_steps_the_shares_are_those_of_adams_and_bashforth(integrand, published):
    schedule, h = SCHEDULES["vp"], 1e-5
    nodes = 0.4 - h * torch.arange(len(published), dtype=torch.float64)
    shares = Integral(integrand).shares(schedule, nodes[0], double(h).squeeze(), nodes)
    torch.testing.assert_close(shares, double(*published), rtol=0, atol=1e-4)


@pytest.mark.parametrize("integrand", ["data", "noise"])
def test_the_value_in_the_middle_stands_for_all_of_the_step_where_it_is_told_to(integrand):
    """The published weights of DPM-Solver-2 and DPM-Solver++2: with r = h_before / h, 1 + 1 / (2 r) and -1 / (2 r)."""
    schedule = SCHEDULES["vp"]
    s, t, before = double(0.3, 0.5, 0.6)
    half = 0.5 * schedule.log_snr(torch.stack([s, t, before]))
    r = (half[1] - half[2]) / (half[0] - half[1])
    once = Integral(integrand).coefficients(schedule, t, s, [t])
    twice = Integral(integrand, midpoint=True).coefficients(schedule, t, s, [t, before])
    torch.testing.assert_close(twice[0], once[0], rtol=1e-14, atol=0)
    torch.testing.assert_close(twice[1:] / once[1], torch.stack([1 + 0.5 / r, -0.5 / r]), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["linear", "straight", "edm"])
def test_a_step_to_the_data_by_the_noise_is_the_estimate_of_the_data(name):
    """There is no noise there, so lambda is infinite; one estimate is all that can be used."""
    schedule, x_t = SCHEDULES[name], double(0.3, -2.0)[:, None]
    t, zero = double(0.02, 0)
    for integrand in ("data", "noise"):
        integral = Integral(integrand)
        m_t = integral.estimate(schedule, lambda x, t: Denoised(x.sin()), x_t, t)
        torch.testing.assert_close(integral(schedule, x_t, t, zero, [(t, m_t)]), x_t.sin(), rtol=1e-12, atol=1e-12)


def test_the_state_keeps_its_precision_and_the_weights_theirs():
    schedule = LinearBeta()
    t, s, before = double(0.5, 0.4999, 0.6)
    known = [(t, torch.ones(2, 3)), (before, torch.zeros(2, 3))]
    out = Integral("noise")(schedule, torch.ones(2, 3), t, s, known)
    assert out.dtype == torch.float32
    exact = Integral("noise")(schedule, torch.ones(1, dtype=torch.float64), t, s, [(t, double(1)), (before, double(0))])
    torch.testing.assert_close(out.double(), exact.expand(2, 3), rtol=1e-6, atol=0)


def test_methods_in_log_snr_set_out_where_there_is_signal():
    times = double(1, 0.9995, 0.5, 0)
    assert with_signal(SCHEDULES["vp"], times).tolist() == times.tolist()
    assert with_signal(SCHEDULES["straight"], times).tolist() == [0.999, 0.5, 0]
