"""Laws of the likelihood by the probability-flow ODE: the closed form of normal data, and bounds of discrete data."""

import math

import pytest
import torch
from closed_form import shipped
from torch import Tensor
from torchdiffeq import odeint

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.core.units import bits_per_dim, from_levels
from genlab.models.contract import Nll
from genlab.models.diffusion.bound import VariationalBound
from genlab.models.diffusion.continuous import Straight, VariancePreserving
from genlab.models.diffusion.denoiser import Denoised, Denoiser
from genlab.models.diffusion.flow_ode import field as flow
from genlab.models.diffusion.ode_likelihood import ProbabilityFlow
from genlab.models.diffusion.schedule import Cosine, LinearBeta, Schedule, match

SCHEDULES = {
    **shipped("schedule"),
    "linear without signal at the end": LinearBeta(zero_terminal_snr=True),
    "cosine of 50": Cosine(50),
}
schedules = pytest.mark.parametrize("name", SCHEDULES)
# Of the data below: axes that are not the coordinates', so that the Jacobian has entries off its diagonal.
MEAN = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
AXES = torch.linalg.qr(torch.tensor([[1.0, 2.0, 0.0], [0.5, -1.0, 1.0], [1.0, 0.0, 2.0]], dtype=torch.float64))[0]
SPREAD = torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64)
POINT = Field((3,))


def correlated(schedule: Schedule) -> Denoiser:
    """E[x_0 | x_t] for x_0 ~ N(MEAN, AXES SPREAD^2 AXES^T)."""

    def denoise(x_t: Tensor, t: Tensor) -> Denoised:
        alpha, sigma = (match(c, x_t) for c in schedule(t))
        gain = alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2)
        return Denoised(MEAN + ((x_t - alpha * MEAN) @ AXES * gain) @ AXES.T)

    return denoise


def points(n: int) -> Tensor:
    return MEAN + SPREAD * Rng(5, torch.arange(n)).stage("points").normal(3, dtype=torch.float64) @ AXES.T


def log_density(x: Tensor) -> Tensor:
    scale = AXES @ torch.diag(SPREAD)
    return torch.distributions.MultivariateNormal(MEAN, scale @ scale.T).log_prob(x)


def log_density_along_the_flow(schedule: Schedule, x: Tensor, start: float) -> Tensor:
    """That of the flow from the prior, which is linear: along each axis x_1 = mean_1 + s_1 / s_0 (x_0 - mean_0)."""
    (alpha_0, alpha_1), (sigma_0, sigma_1) = schedule(torch.tensor([start, 1.0], dtype=torch.float64))
    first, last = ((a**2 * SPREAD**2 + s**2).sqrt() for a, s in ((alpha_0, sigma_0), (alpha_1, sigma_1)))
    x_1 = alpha_1 * MEAN + (alpha_0 * (x - MEAN) @ AXES * (last / first)) @ AXES.T
    prior = torch.distributions.Normal(0, schedule.prior_scale).log_prob(x_1).sum(1)
    return prior + (alpha_0 * last / first).log().sum()


@torch.no_grad()
def asked(x: Tensor, denoise: Denoiser, schedule: Schedule, field: Field = POINT, **options) -> Nll:
    return ProbabilityFlow(**options)(
        schedule, denoise, x, field, Rng(0, torch.arange(len(x))), field.levels is not None
    )


# Normal data


@schedules
def test_the_exact_trace_gives_the_density_of_the_flow(name):
    """To 1e-3 nats, of about 1 to 20."""
    schedule, x = SCHEDULES[name], points(6)
    start = 1 / schedule.steps if schedule.steps else 1e-5
    found = asked(x, correlated(schedule), schedule, trace="exact")
    torch.testing.assert_close(-found.nats, log_density_along_the_flow(schedule, x, start), rtol=0, atol=1e-3)
    assert found.bound == "exact"
    assert found.terms.keys() == {"prior", "divergence"}


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("vp", 0.02),
        ("subvp", 0.02),
        ("ve", 0.02),
        ("edm", 0.01),
        ("straight", 1e-3),
        ("linear", 0.02),
        ("cosine", 0.02),
    ],
)
def test_that_of_the_data_but_for_what_is_left_of_them_in_the_noise(name, error):
    """In nats, the mean over data: what the prior's mean and width, and the smallest noise, are off by."""
    schedule, x = SCHEDULES[name], points(50)
    found = asked(x, correlated(schedule), schedule, trace="exact")
    assert found.nats.mean().item() == pytest.approx(-log_density(x).mean().item(), abs=error)


@pytest.mark.parametrize("probe", ["rademacher", "normal"])
@pytest.mark.parametrize("name", ["vp", "ve", "edm", "straight", "linear"])
def test_hutchinsons_trace_is_right_on_average(name, probe):
    """Every row is the same point with a probe of its own, so their spread is that of the estimate."""
    schedule, n = SCHEDULES[name], 200
    x = points(1).expand(n, 3)
    exact = asked(x[:1], correlated(schedule), schedule, trace="exact")
    found = asked(x, correlated(schedule), schedule, probe=probe)
    error = found.nats.std().item() / math.sqrt(n)
    assert 0 < error < 0.3
    assert found.nats.mean().item() == pytest.approx(exact.nats.item(), abs=4 * error)
    torch.testing.assert_close(found.terms["prior"], exact.terms["prior"].expand(n), rtol=1e-4, atol=1e-4)
    assert found.bound == "estimate"


def test_repeats_are_averaged():
    schedule, n = VariancePreserving(), 100
    x = points(1).expand(n, 3)
    once, often = (asked(x, correlated(schedule), schedule, repeats=repeats).nats.std() for repeats in (1, 8))
    assert often < 0.5 * once


@pytest.mark.parametrize("schedule", [VariancePreserving(), Straight()], ids=["vp", "straight"])
def test_the_clock_changes_nothing(schedule):
    """The same ODE by the schedule's own time, with the Jacobian's whole trace, to 1e-9."""
    x, start = points(4), 1e-3
    rate = flow(schedule, correlated(schedule))

    def change(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        jacobian = torch.autograd.functional.jacobian(lambda y: rate(y, t), state[0])
        return rate(state[0], t), torch.einsum("idid->i", jacobian)

    ends = torch.tensor([start, 1.0], dtype=torch.float64)
    entered = x * schedule(ends[0])[0]
    x_1, along = odeint(change, (entered, x.new_zeros(4)), ends, rtol=1e-9, atol=1e-9, options={"step_t": ends[1:]})
    prior = torch.distributions.Normal(0, schedule.prior_scale).log_prob(x_1[-1]).sum(1)
    expected = prior + along[-1] + 3 * schedule(ends[0])[0].log()
    found = asked(x, correlated(schedule), schedule, trace="exact", rtol=1e-9, atol=1e-9, t_min=start)
    torch.testing.assert_close(-found.nats, expected, rtol=0, atol=1e-6)


# Discrete data


@pytest.mark.parametrize("levels", [2, 5, 17])
def test_a_model_of_uniform_pixels_has_the_bits_of_its_levels(levels):
    """The levels' bins reach half a bin beyond [-1, 1], and their edges are as wide as the smallest noise."""
    schedule, edge = VariancePreserving(), levels / (levels - 1)

    def denoise(x_t: Tensor, t: Tensor) -> Denoised:
        alpha, sigma = (match(c, x_t) for c in schedule(t))
        x_t, scale = x_t / alpha, sigma / alpha
        low, high = (-edge - x_t) / scale, (edge - x_t) / scale
        density = (-0.5 * low**2).exp() - (-0.5 * high**2).exp()
        mass = math.sqrt(math.pi / 2) * (torch.special.erf(high / math.sqrt(2)) - torch.special.erf(low / math.sqrt(2)))
        return Denoised(x_t + scale * density / mass)

    x = from_levels(torch.arange(levels), levels, torch.float64)[:, None].expand(levels, 2)
    field = Field((2,), levels=levels)
    found = asked(x, denoise, schedule, field, trace="exact")
    bits = bits_per_dim(found.nats, field)
    torch.testing.assert_close(bits, torch.full_like(bits, math.log2(levels)), rtol=0, atol=2e-3)
    assert found.bound == "upper"
    assert found.terms.keys() == {"prior", "divergence", "dequantisation"}


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_the_dequantised_and_the_stepwise_bound_are_above_the_entropy(trace):
    """The model is N(0, 1/4) and the data are its masses on the bins of 17 levels, as many of each as they ask for."""
    levels, n, schedule = 17, 1000, LinearBeta()

    def denoise(x_t: Tensor, t: Tensor) -> Denoised:
        alpha, sigma = (match(c, x_t) for c in schedule(t))
        return Denoised(alpha / (alpha**2 + 4 * sigma**2) * x_t)

    values = from_levels(torch.arange(levels), levels, torch.float64)
    edges = torch.cat([values.new_tensor([-math.inf]), (values[1:] + values[:-1]) / 2, values.new_tensor([math.inf])])
    mass = torch.distributions.Normal(values.new_tensor(0.0), 0.5).cdf(edges).diff()
    place = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    x = values[torch.searchsorted(mass.cumsum(0), place)][:, None]
    entropy, field = -(mass * mass.log()).sum().item(), Field((1,), levels=levels)
    by_flow = asked(x, denoise, schedule, field, trace=trace).nats
    stepwise = VariationalBound(50, "transition")(schedule, denoise, x, field, Rng(0, torch.arange(n)), False).nats
    for nats in (by_flow, stepwise):
        assert nats.mean().item() > entropy - 4 * nats.std().item() / math.sqrt(n)
    # By the flow in closed form: E_u -log N(x + u; 0, 1/4) - log w.
    width = 2 / (levels - 1)
    closed = (2 * (x**2 + width**2 / 12) + 0.5 * math.log(math.pi / 2) - math.log(width)).mean().item()
    error = (by_flow - 2 * x[:, 0] ** 2).std().item() / math.sqrt(n)
    assert by_flow.mean().item() == pytest.approx(closed, abs=4 * error + 0.002)
    assert entropy < closed < entropy + 0.1


def test_bins_of_repeats_are_entered_at_other_places():
    x, field = from_levels(torch.arange(5), 5, torch.float64)[:, None], Field((1,), levels=5)
    schedule = LinearBeta(100)

    def denoise(x_t: Tensor, t: Tensor) -> Denoised:
        alpha, sigma = (match(c, x_t) for c in schedule(t))
        return Denoised(alpha / (alpha**2 + sigma**2) * x_t)

    one, two = (asked(x, denoise, schedule, field, trace="exact", repeats=repeats) for repeats in (1, 2))
    assert (one.nats != two.nats).all()
    assert torch.equal(one.terms["dequantisation"], two.terms["dequantisation"])
    assert "mean of 2 paths" in two.how


# What every estimator keeps


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_terms_sum_and_data_do_not_depend_on_their_batch(trace):
    """Although data that are solved for together share their steps, to the tolerance that a step is held to."""
    x, schedule = points(6), Cosine()
    denoise, rng = correlated(schedule), Rng(3, torch.arange(6))
    estimator = ProbabilityFlow(trace)
    whole = estimator(schedule, denoise, x, POINT, rng, False)
    torch.testing.assert_close(torch.stack(list(whole.terms.values())).sum(0), whole.nats, rtol=1e-12, atol=0)
    for rows in (slice(0, 1), slice(1, 6)):
        some = estimator(schedule, denoise, x[rows], POINT, rng.rows(rows), False)
        torch.testing.assert_close(some.nats, whole.nats[rows], rtol=1e-4, atol=1e-4)


def test_it_needs_no_gradients_from_outside_and_leaves_none():
    weight = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
    schedule = VariancePreserving()
    with torch.no_grad():
        found = asked(points(2), lambda x_t, t: Denoised(weight * x_t.tanh()), schedule)
    assert not found.nats.requires_grad
    assert weight.grad is None


def test_the_network_is_asked_in_the_precision_of_the_data():
    seen = set()

    def denoise(x_t: Tensor, t: Tensor) -> Denoised:
        seen.add(x_t.dtype)
        return Denoised(0.5 * x_t)

    found = asked(points(2).float(), denoise, VariancePreserving())
    assert seen == {torch.float32}
    assert found.nats.dtype == torch.float64


def test_wrong_settings_are_named():
    for options, message in (
        ({"repeats": 0}, "repeats must be at least 1, not 0"),
        ({"rtol": 0.0}, r"rtol=0.0 and atol=1e-05 must be above 0"),
        ({"t_min": 1.0}, r"t_min must lie between 0 and 1, not 1\.0"),
    ):
        with pytest.raises(ValueError, match=message):
            ProbabilityFlow(**options)


def test_what_cannot_be_done_is_said_in_a_line():
    schedule, image = VariancePreserving(), Field((3, 32, 32))
    with pytest.raises(UserError, match=r"estimator.trace=exact: the data have 3072 dimensions"):
        asked(torch.zeros(1, *image.shape), lambda x_t, t: Denoised(x_t), schedule, image, trace="exact")
    with pytest.raises(UserError, match=r"estimator=ode: the solver came to a halt"):
        asked(points(2), lambda x_t, t: Denoised(x_t / 0.0), schedule)
