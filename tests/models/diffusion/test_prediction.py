"""Laws of predictions: the published targets, and that all of them are one model in several coordinates."""

import pytest
import torch
from closed_form import CONTINUOUS, SCHEDULES
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.models.conditioning import Unconditional
from genlab.models.diffusion.model import GaussianDiffusion
from genlab.models.diffusion.prediction import NEEDS_SIGNAL, TABLE, Kind, target
from genlab.models.diffusion.schedule import LinearBeta, Schedule, match
from genlab.models.diffusion.weighting import Likelihood, Simple, Times, Unit, Weighting
from genlab.networks.condition import Condition

T = torch.linspace(0.001, 0.999, 50, dtype=torch.float64)
kinds = pytest.mark.parametrize("kind", TABLE)
WEIGHTINGS = {"simple": Simple(), "likelihood": Likelihood(), "velocity": Unit("velocity"), "edm": Unit("edm")}
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


# The table


@kinds
@schedules
def test_a_network_that_hits_its_target_gives_back_the_data(schedule, kind):
    alpha, sigma = schedule(T)
    x_0, eps = normal(2, 50)
    of_x_0, of_eps, _ = target(kind, alpha, sigma)
    c_skip, c_out, *_ = TABLE[kind](alpha, sigma)
    found = c_skip * (alpha * x_0 + sigma * eps) + c_out * (of_x_0 * x_0 + of_eps * eps)
    torch.testing.assert_close(found, x_0, rtol=1e-9, atol=1e-9)


@kinds
@schedules
def test_a_squared_error_is_worth_that_of_eps(schedule, kind):
    """x_0's error follows from F's, and eps = (x_t - alpha x_0) / sigma from x_0's."""
    alpha, sigma = schedule(T)
    c_out, worth = TABLE[kind](alpha, sigma).c_out, target(kind, alpha, sigma).worth
    error = normal(50)
    torch.testing.assert_close(worth * error**2, (alpha * (c_out * error) / sigma) ** 2, rtol=1e-12, atol=0)


@schedules
@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("eps", lambda alpha, sigma, x_0, eps: eps),
        ("x0", lambda alpha, sigma, x_0, eps: x_0),
        ("v", lambda alpha, sigma, x_0, eps: (alpha * eps - sigma * x_0) / (alpha**2 + sigma**2).sqrt()),
        ("score", lambda alpha, sigma, x_0, eps: sigma * -(alpha * x_0 + sigma * eps - alpha * x_0) / sigma**2),
        ("velocity", lambda alpha, sigma, x_0, eps: eps - x_0),
    ],
)
def test_targets_are_the_published_ones(schedule, kind, wanted):
    alpha, sigma = schedule(T)
    x_0, eps = normal(2, 50)
    of_x_0, of_eps, _ = target(kind, alpha, sigma)
    torch.testing.assert_close(of_x_0 * x_0 + of_eps * eps, wanted(alpha, sigma, x_0, eps), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale", [0.5, 0.75])
def test_edms_coordinates_are_the_published_ones(scale):
    """Its table 1, where alpha = 1; and there too, where the data are scaled by alpha, with noise sigma / alpha."""
    sigma = CONTINUOUS["edm"](T)[1]
    for alpha in (torch.ones_like(T), 1 - 0.9 * T):
        c_skip, c_out, c_in, c_noise = TABLE["edm"](alpha, alpha * sigma, scale)
        total = sigma**2 + scale**2
        torch.testing.assert_close(c_skip * alpha, scale**2 / total, rtol=1e-12, atol=0)
        torch.testing.assert_close(c_out, sigma * scale / total.sqrt(), rtol=1e-12, atol=0)
        torch.testing.assert_close(c_in * alpha, 1 / total.sqrt(), rtol=1e-12, atol=0)
        torch.testing.assert_close(c_noise, sigma.log() / 4, rtol=1e-12, atol=1e-12)


@schedules
@pytest.mark.parametrize(
    ("kind", "scale", "expected"),
    [("eps", 1, 1), ("x0", 1, 1), ("v", 1, 1), ("score", 1, 1), ("velocity", 1, 2), ("edm", 0.5, 1), ("edm", 0.7, 1)],
)
def test_targets_have_the_scale_of_the_data_at_every_time(schedule, kind, scale, expected):
    """So that no coordinate asks a network for numbers of another size at one end."""
    of_x_0, of_eps, _ = target(kind, *schedule(T), scale)
    variance = (of_x_0 * scale) ** 2 + of_eps**2
    torch.testing.assert_close(variance, torch.full_like(T, expected), rtol=1e-6, atol=1e-6)


@schedules
def test_edm_shows_its_network_unit_variance(schedule):
    alpha, sigma = schedule(T)
    c_in = TABLE["edm"](alpha, sigma, 0.7).c_in
    torch.testing.assert_close(c_in**2 * ((0.7 * alpha) ** 2 + sigma**2), torch.ones_like(T), rtol=1e-12, atol=0)


# One model in six coordinates


@schedules
def test_converting_from_one_prediction_to_the_next_changes_nothing_but_rounding(schedule):
    """Round all six and back, at any x_t and whatever the network said."""
    alpha, sigma = schedule(T)
    x_t, output = normal(2, 50)
    now = output
    for kind, following in zip(TABLE, [*list(TABLE)[1:], "eps"], strict=True):
        c_skip, c_out, *_ = TABLE[kind](alpha, sigma)
        x_0 = c_skip * x_t + c_out * now
        c_skip, c_out, *_ = TABLE[following](alpha, sigma)
        now = (x_0 - c_skip * x_t) / c_out
    condition = 1 / torch.minimum(alpha, sigma).clamp(max=1)
    assert ((now - output).abs() < 1e-13 * condition**2 * (1 + x_t.abs())).all()


class Same(nn.Module):
    """One model in any coordinates: eps^ = sin(3 x_t + 5 t), put as the network's own output at time `t` (B,)."""

    def __init__(self, kind: Kind, schedule: Schedule) -> None:
        super().__init__()
        self.kind, self.schedule, self.t = kind, schedule, T

    def forward(self, x: Tensor, level: Tensor, condition: Condition | None = None) -> Tensor:
        alpha, sigma = (match(c, x) for c in self.schedule(self.t))
        c_skip, c_out, c_in, c_noise = TABLE[self.kind](*self.schedule(self.t))
        assert torch.equal(level, self.schedule.level(self.t) if c_noise is None else c_noise)
        x_t = x / match(c_in, x)
        x_0 = (x_t - sigma * torch.sin(3 * x_t + match(5 * self.t, x))) / alpha
        return (x_0 - match(c_skip, x) * x_t) / match(c_out, x)


class Given(Times):
    """Times that are known beforehand."""

    def forward(self, schedule: Schedule, rng: Rng) -> Tensor:
        return T


def model(kind: Kind, schedule: Schedule, weighting: Weighting) -> GaussianDiffusion:
    network = Same(kind, schedule)
    return GaussianDiffusion({"x": Field((3,))}, network, schedule, weighting, Given(), Unconditional(), kind)


def kinds_of(schedule: Schedule) -> list[Kind]:
    """Those that the schedule leaves enough signal for."""
    ends = schedule is SCHEDULES["straight"]
    return [kind for kind in TABLE if not (ends and kind in NEEDS_SIGNAL)]


@schedules
def test_equivalent_networks_have_the_same_estimates(schedule):
    x_t, kinds = normal(50, 3), kinds_of(schedule)
    first = model(kinds[0], schedule, Simple()).denoiser({})(x_t, T).x_0
    alpha, sigma = (match(c, x_t) for c in schedule(T))
    torch.testing.assert_close((x_t - alpha * first) / sigma, torch.sin(3 * x_t + 5 * T[:, None]), rtol=1e-6, atol=1e-6)
    for kind in kinds:
        torch.testing.assert_close(
            model(kind, schedule, Simple()).denoiser({})(x_t, T).x_0, first, rtol=1e-8, atol=1e-8
        )


@schedules
@pytest.mark.parametrize("weighting", WEIGHTINGS.values(), ids=WEIGHTINGS)
def test_equivalent_networks_have_the_same_loss(schedule, weighting):
    batch, rng = {"x": normal(50, 3)}, Rng(0, torch.arange(50))
    models = [model(kind, schedule, weighting) for kind in kinds_of(schedule)]
    losses = [each.loss(batch, rng, "model", 0)["loss"].item() for each in models]
    assert losses == pytest.approx([losses[0]] * len(losses), rel=1e-6)
    assert losses[0] > 0.1


# Where there is no signal


@kinds
def test_only_predictions_that_say_something_of_the_data_go_without_signal(kind):
    schedule = LinearBeta(zero_terminal_snr=True)
    if kind in NEEDS_SIGNAL:
        with pytest.raises(UserError, match=f"model.prediction={kind}: the schedule leaves no signal at t = 1"):
            model(kind, schedule, Simple())
        return
    x_1, one = normal(50, 3), torch.ones(50, dtype=torch.float64)
    c_skip, c_out, *_ = TABLE[kind](*schedule(one))
    assert (c_out.abs() > 0.5).all()
    assert (match(c_skip, x_1) * x_1 + match(c_out, x_1)).isfinite().all()
