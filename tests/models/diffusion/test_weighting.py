"""Laws of weightings, and the losses of the papers, written out: each model's file trains what its paper says."""

import math
from pathlib import Path

import hydra
import pytest
import torch
from closed_form import CONTINUOUS, C, times
from omegaconf import OmegaConf, open_dict
from torch import Tensor, nn

from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.models.conditioning import Unconditional
from genlab.models.diffusion.bound import VariationalBound
from genlab.models.diffusion.continuous import VariancePreserving
from genlab.models.diffusion.model import GaussianDiffusion
from genlab.models.diffusion.prediction import TABLE
from genlab.models.diffusion.schedule import Geometric, LinearBeta, match
from genlab.models.diffusion.weighting import Likelihood, Simple, Times, Unit
from genlab.runner.build import build
from genlab.runner.schema import register

CONFIGS = Path(__file__).parents[3] / "configs"
SPEC = {"x": Field((2,))}
ROWS = 200


def of_file(name: str, *overrides: str) -> GaussianDiffusion:
    """The model that a training command makes, on points of the plane, with weights that are not zero."""
    register()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        composed = hydra.compose("train", [f"model={name}", "data=toy2d", "network.width=8", *overrides])
    with open_dict(composed):
        composed.spec = {"x": {"shape": [2]}}
    torch.manual_seed(0)
    made = build(OmegaConf.to_container(composed.model, resolve=True), "model", extra={"spec": SPEC})
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return made.double().eval()


def drawn(model: GaussianDiffusion) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x_0, t, alpha, sigma and eps of a training batch, the coefficients (B, 1), and the loss of it."""
    rng = Rng(0, torch.arange(ROWS)).stage("train")
    x_0 = Rng(1, torch.arange(ROWS)).normal(2, dtype=torch.float64)
    t = model.times(model.schedule, rng)
    alpha, sigma = (c[:, None] for c in model.schedule(t))
    loss = model.loss({"x": x_0}, rng, "model", 0)["loss"]
    return x_0, t, alpha, sigma, rng.stage("noise").normal_like(x_0), loss


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


# The losses of the papers


@pytest.mark.parametrize("name", ["ncsn", "ncsnv2"])
def test_ncsn_is_denoising_score_matching_over_its_levels(name):
    """sigma^2 |s(x~, sigma) + (x~ - x) / sigma^2|^2 with the score s = F / sigma; the papers have half of it."""
    model = of_file(name)
    x_0, t, _, sigma, eps, loss = drawn(model)
    noisy = x_0 + sigma * eps
    score = model.network(noisy, model.schedule.steps * t - 1) / sigma
    same(loss, (sigma**2 * (score + (noisy - x_0) / sigma**2) ** 2).mean())
    levels = {"ncsn": (10, 0.02, 2.0), "ncsnv2": (232, 0.02, 100.0)}[name]
    assert (model.schedule.steps, model.schedule.low, model.schedule.high) == levels


@pytest.mark.parametrize("name", ["score_sde_vp", "score_sde_subvp", "score_sde_ve"])
@pytest.mark.parametrize("weighting", ["simple", "likelihood"])
def test_score_sdes_match_scores(name, weighting):
    """w |s + eps / std|^2 with w = std^2, or g^2 / 2 of the SDE for the likelihood."""
    model = of_file(name, f"weighting={weighting}")
    x_0, t, alpha, std, eps, loss = drawn(model)
    level, sign = (std[:, 0].log(), 1) if name == "score_sde_ve" else (999 * t, -1)
    score = sign * model.network(alpha * x_0 + std * eps, level) / std
    rate = 0.1 + 19.9 * t[:, None]
    if name == "score_sde_ve":
        g_squared = std**2 * 2 * math.log(model.schedule.high / model.schedule.low)
    elif name == "score_sde_vp":
        g_squared = rate
    else:
        g_squared = rate * -torch.expm1(-0.2 * t[:, None] - 19.9 * t[:, None] ** 2)
    weight = std**2 if weighting == "simple" else g_squared / 2
    same(loss, (weight * (score + eps / std) ** 2).mean())
    assert t.min() >= 1e-5


@pytest.mark.parametrize("scale", [0.5, 0.75])
def test_edms_loss_is_the_published_one(scale):
    model = of_file("edm", f"model.data_scale={scale}")
    x_0, _, _, sigma, eps, loss = drawn(model)
    noisy = x_0 + sigma * eps
    c_skip, c_out = scale**2 / (sigma**2 + scale**2), sigma * scale / (sigma**2 + scale**2).sqrt()
    c_in, c_noise = 1 / (scale**2 + sigma**2).sqrt(), sigma.log() / 4
    denoised = c_skip * noisy + c_out * model.network(c_in * noisy, c_noise[:, 0])
    weight = (sigma**2 + scale**2) / (sigma * scale) ** 2
    same(loss, (weight * (denoised - x_0) ** 2).mean())


@pytest.mark.parametrize("name", ["flow_matching", "rectified_flow"])
def test_flow_matching_is_the_error_of_the_velocity(name):
    model = of_file(name)
    x_0, t, _, _, eps, loss = drawn(model)
    velocity = model.network((1 - t[:, None]) * x_0 + t[:, None] * eps, 1000 * t)
    same(loss, (velocity - (eps - x_0)).square().mean())


def test_coupled_noise_takes_the_place_of_drawn_noise():
    model = of_file("rectified_flow")
    x_0, t, _, _, _, _ = drawn(model)
    noise = Rng(2, torch.arange(ROWS)).normal(2, dtype=torch.float64)
    spec = {**SPEC, "noise": Field((2,))}
    parts = (model.network, model.schedule, model.weighting, model.times, Unconditional(), "velocity")
    coupled = GaussianDiffusion(spec, *parts, coupled=True)
    assert coupled.reads == {"x", "noise"}
    loss = coupled.loss({"x": x_0, "noise": noise}, Rng(0, torch.arange(ROWS)).stage("train"), "model", 0)["loss"]
    velocity = model.network((1 - t[:, None]) * x_0 + t[:, None] * noise, 1000 * t)
    same(loss, (velocity - (noise - x_0)).square().mean())
    with pytest.raises(ValueError, match=r"model.coupled=true: the data have no noise of their own"):
        GaussianDiffusion(SPEC, *parts, coupled=True)


# What a weighting is


@pytest.mark.parametrize("kind", TABLE)
@pytest.mark.parametrize("schedule", [LinearBeta(100), CONTINUOUS["subvp"]], ids=["linear", "subvp"])
def test_unit_counts_an_error_of_its_targets_as_1(kind, schedule):
    """Whatever is predicted: here eps, whose error is turned into one of x_0 and that into one of F."""
    t = torch.linspace(0.01, 1, 100, dtype=torch.float64)
    alpha, sigma = schedule(t)
    of_x_0 = (sigma / alpha) * 0.3
    of_target = of_x_0 / TABLE[kind](alpha, sigma, 0.75).c_out
    same(Unit(kind, 0.75)(schedule, t) * 0.3**2, of_target**2)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_the_likelihoods_weight_is_half_the_fall_of_log_snr(name):
    schedule, t, h = CONTINUOUS[name], torch.linspace(0.02, 0.98, 49, dtype=torch.float64), 1e-6
    fall = (schedule.log_snr(t - h) - schedule.log_snr(t + h)) / (2 * h)
    torch.testing.assert_close(Likelihood()(schedule, t), fall / 2, rtol=1e-6, atol=0)


class OfX0(nn.Module):
    """An estimate of x_0 that is off, by time and place."""

    def forward(self, x_t: Tensor, level: Tensor, condition: object = None) -> Tensor:
        return torch.sin(x_t + match(level, x_t) / 7)


class Every(Times):
    """Each step of the table once, row by row."""

    def forward(self, schedule, rng):
        return times(schedule)


@pytest.mark.parametrize("schedule", [LinearBeta(60), Geometric(12)], ids=["linear", "geometric"])
def test_the_likelihoods_loss_of_a_table_is_its_bound(schedule):
    """The mean over all steps is L_0 + ... + L_{T-1} in nats a dimension, less L_0's logarithm of the variance."""
    model = GaussianDiffusion(SPEC, OfX0(), schedule, Likelihood(), Every(), Unconditional(), "x0")
    steps, x_0 = schedule.steps, torch.tensor([[0.3, -0.6]], dtype=torch.float64)
    rng = Rng(0, torch.arange(steps)).stage("train")
    loss = model.loss({"x": x_0.expand(steps, 2)}, rng, "model", 0)["loss"]

    class SameNoise:
        """What the loss drew at each step, in the order in which the bound asks: the first step, then the others."""

        def __init__(self) -> None:
            self.asked = 0

        def stage(self, name: str) -> "SameNoise":
            return self

        def normal_like(self, x: Tensor) -> Tensor:
            self.asked += 1
            return rng.stage("noise").normal(2, dtype=torch.float64)[self.asked - 1 :][:1]

    found = VariationalBound("all", "posterior")(schedule, model.denoiser({}), x_0, SPEC["x"], SameNoise(), False)
    first = torch.full((1,), 1 / steps, dtype=torch.float64)
    variance = VariationalBound("all").log_variance(schedule, first, 0 * first)
    constant = 0.5 * (variance + math.log(2 * math.pi))
    expected = (found.terms["L_0"] + found.terms["L_1..T-1"]) / 2 - constant
    torch.testing.assert_close(loss, expected[0], rtol=1e-6, atol=0)


def test_the_likelihoods_loss_in_continuous_time_is_the_information_that_noise_takes():
    """Of data N(0, C^2), with the error of their ideal denoiser: that of x_t about x_0, at t = 0.01 less at t = 1."""
    schedule, a = VariancePreserving(), 0.01
    t = a + (1 - a) * (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    alpha, sigma = schedule(t)
    posterior = C**2 * sigma**2 / (alpha**2 * C**2 + sigma**2)
    error = (alpha / sigma) ** 2 * posterior
    loss = (Likelihood()(schedule, t) * error).mean() * (1 - a)
    ends = torch.tensor([a, 1.0], dtype=torch.float64)
    alpha, sigma = schedule(ends)
    variance = alpha**2 * C**2 + sigma**2
    information = 0.5 * (variance / sigma**2).log()
    assert loss.item() == pytest.approx((information[0] - information[1]).item(), rel=1e-6)


def test_simple_counts_all_times_alike():
    t = torch.linspace(0.1, 1, 10, dtype=torch.float64)
    assert torch.equal(Simple()(LinearBeta(), t), torch.ones_like(t))


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="data_scale must be above 0, not 0"):
        Unit("edm", 0)
