"""Densities that integrate to one, bounds that hold, and what a flow refuses."""

import itertools

import pytest
import torch
from torch import nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.core.units import bits_per_dim, from_levels
from genlab.models.conditioning import ClassLabel, Unconditional
from genlab.models.flow.base import ConditionalNormal, Logistic, StandardNormal
from genlab.models.flow.conv1x1 import Conv1x1
from genlab.models.flow.coupling import Halves
from genlab.models.flow.dequantize import Uniform, Variational
from genlab.models.flow.glow import Glow
from genlab.models.flow.likelihood import FlowLikelihood
from genlab.models.flow.logit import Logit
from genlab.models.flow.model import Flow
from genlab.models.flow.nice import NICE
from genlab.models.flow.preprocess import Preprocess
from genlab.models.flow.realnvp import CheckerboardFlow, RealNVP, RealNVPVector
from genlab.models.flow.sampler import FlowSampler


def moved(model: nn.Module, by: float = 0.2) -> nn.Module:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += by * torch.randn_like(parameter)
    return model.double().eval()


def rng(count: int, seed: int = 0) -> Rng:
    return Rng(seed, torch.arange(count))


def points(transform, base, classes=None) -> Flow:
    torch.manual_seed(0)
    spec = {"x": Field((2,)), "label": Field((), classes=2)}
    return moved(Flow(spec, transform, base, Preprocess(), Unconditional() if classes is None else classes))


@pytest.mark.parametrize(
    "make",
    [
        lambda: points(RealNVPVector((2,), 4, [8]), StandardNormal()),
        lambda: points(NICE((2,), 4, [8]), Logistic()),
        lambda: points(RealNVPVector((2,), 4, [8], "batch", 4), ConditionalNormal((2,), 4), ClassLabel(2, 4)),
    ],
    ids=["realnvp", "nice", "of a class"],
)
def test_densities_of_the_plane_integrate_to_one(make):
    model = make()
    side = torch.linspace(-25, 25, 701, dtype=torch.float64)
    x = torch.cartesian_prod(side, side)
    batch = {"x": x, "label": torch.ones(len(x), dtype=torch.long)}
    found = model.nll(batch, rng(len(x)))
    assert found.bound == "exact"
    total = (-found.nats).exp().sum() * (side[1] - side[0]) ** 2
    torch.testing.assert_close(total, torch.ones_like(total), atol=2e-4, rtol=0)


def image(levels: int, shape, kind: str, alpha: float | None) -> Flow:
    """A small model of images with levels."""
    torch.manual_seed(0)
    seen = CheckerboardFlow(shape, 2, 8, 1, shape[0])
    dequantize = Uniform(levels) if kind == "uniform" else Variational(levels, seen)
    preprocess = Preprocess(dequantize, None if alpha is None else Logit(alpha))
    spec = {"x": Field(shape, levels=levels)}
    return moved(Flow(spec, RealNVP(shape, 1, 8, 1, "act"), StandardNormal(), preprocess, Unconditional()))


def probability(model: Flow, x: torch.Tensor, nodes: int = 24) -> torch.Tensor:
    """P(v) = the integral of p(y) over the cell of each v, for data of two numbers, by Gauss-Legendre quadrature."""
    import numpy as np

    levels = model.spec["x"].levels
    u, w = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(nodes))
    u, w = (u + 1) / 2, w / 2
    grid, weight = torch.cartesian_prod(u, u), torch.outer(w, w).flatten()
    total = []
    for v in x:
        y = ((v.flatten() + 1) * ((levels - 1) / 2) + grid) / levels
        y = y.view(-1, *v.shape)
        logit = model.preprocess.steps.transforms[1:]
        log_det = torch.zeros(len(y), dtype=y.dtype)
        for transform in logit:
            y, log_det = transform(y)
        z, more = model.transform(y)
        p = (model.base.log_prob(z.flatten(1)) + more + log_det).exp()
        total.append((p * weight).sum() / levels**2)
    return torch.stack(total)


@pytest.mark.parametrize("alpha", [None, 0.05])
@pytest.mark.parametrize("kind", ["uniform", "variational"])
@torch.no_grad()
def test_the_dequantized_bound_lies_above_the_truth_and_comes_down_to_it(kind, alpha):
    model = image(3, (1, 1, 2), kind, alpha)
    levels = torch.tensor(list(itertools.product(range(3), repeat=2))).view(9, 1, 1, 2)
    x = from_levels(levels, 3, torch.float64)
    truth = -probability(model, x).log()
    assert (-truth).exp().sum() < 1 + 1e-6
    assert (-truth).exp().sum() > (0.01 if alpha is None else 0.5)
    many = 1000
    index = torch.arange(9).repeat_interleave(many)
    draws = model.nll({"x": x[index]}, rng(9 * many), FlowLikelihood(1))
    assert draws.bound == "upper"
    bound = draws.nats.view(9, many)
    error = bound.std(1) / many**0.5
    assert (bound.mean(1) > truth - 4 * error).all()
    assert (bound.mean(1) > truth + 4 * error).any()
    # exp(-nll) of single draws is an unbiased estimate of the probability, but heavy-tailed where noise is learned.
    single = (-bound).exp()
    if kind == "uniform":
        assert ((single.mean(1) - (-truth).exp()).abs() < 5 * single.std(1) / many**0.5).all()
    tighter = model.nll({"x": x}, rng(9), FlowLikelihood(200)).nats
    if kind == "uniform":
        torch.testing.assert_close(tighter, truth, atol=0.3, rtol=0.05)
    assert (tighter - truth).mean() < (bound.mean(1) - truth).mean()


@torch.no_grad()
def test_binary_images_share_one_where_the_density_is_uniform():
    """A logistic base behind the logit is the uniform density on (0, 1), and a NICE that is new is the identity."""
    shape = (1, 2, 2)
    model = Flow(
        {"x": Field(shape, levels=2)},
        NICE(shape, 2, [4]),
        Logistic(),
        Preprocess(Uniform(2), Logit(1e-7)),
        Unconditional(),
    )
    model.double().eval()
    x = from_levels(torch.tensor(list(itertools.product(range(2), repeat=4))).view(16, *shape), 2, torch.float64)
    found = model.nll({"x": x}, rng(16))
    torch.testing.assert_close((-found.nats).exp().sum(), torch.ones((), dtype=torch.float64), atol=1e-4, rtol=0)
    torch.testing.assert_close(bits_per_dim(found.nats, model.spec["x"]), torch.ones(16).double(), atol=1e-4, rtol=0)


def test_a_uniform_density_costs_the_logarithm_of_the_levels():
    x = from_levels(torch.arange(12).view(3, 1, 2, 2) % 7, 7)
    for noise in (None, rng(3)):
        y, log_det = Uniform(7).eval()(x, None, noise)
        assert ((y > 0) & (y < 1)).all()
        torch.testing.assert_close(log_det, -4 * torch.full((3,), 7.0).log())
        torch.testing.assert_close(Uniform(7).inverse(y)[0], x)


@pytest.mark.parametrize("base", [StandardNormal(), Logistic()], ids=["normal", "logistic"])
def test_bases_draw_what_they_say(base):
    z = base.sample(rng(20_000), 1).double()
    grid = torch.linspace(-30, 30, 60_001, dtype=torch.float64)
    p = base.log_prob(grid[:, None]).exp()
    torch.testing.assert_close(p.sum() * 1e-3, torch.ones_like(p[0]), atol=1e-6, rtol=0)
    variance = (p * grid.square()).sum() * 1e-3
    torch.testing.assert_close(z.mean(), torch.zeros_like(variance), atol=0.05, rtol=0)
    torch.testing.assert_close(z.square().mean(), variance, rtol=0.04, atol=0)
    # The entropy, which the variance does not decide.
    torch.testing.assert_close(base.log_prob(z).mean(), (p * p.clamp(min=1e-300).log()).sum() * 1e-3, rtol=0.02, atol=0)
    torch.testing.assert_close(base.sample(rng(5), 1, None, 0.5), base.sample(rng(5), 1) / 2)


def test_temperature_zero_draws_one_image_and_codes_come_back():
    torch.manual_seed(0)
    spec = {"x": Field((1, 4, 4), levels=17), "label": Field((), classes=3)}
    model = Flow(spec, Glow((1, 4, 4), 2, 2, 8, vector=5), StandardNormal(), Preprocess(Uniform(17)), ClassLabel(3, 5))
    moved(model, 0.05)
    conditions = {"label": torch.tensor([0, 0, 1])}
    cold = model.sample(conditions, rng(3), FlowSampler(0.0))["x"]
    assert torch.equal(cold[0], cold[1])
    z = model.base.sample(rng(3), 16, None, 0.0).double()
    context = model.context(conditions)
    assert not torch.equal(model.transform.inverse(z, context)[0][0], model.transform.inverse(z, context)[0][2])
    x = from_levels(rng(3).integers(17, 1, 4, 4), 17, torch.float64)
    for noise in (None, rng(3)):
        codes = model.encode({"x": x, **conditions}, noise)
        assert codes["z"].shape == (3, *model.latent_spec["z"].shape)
        torch.testing.assert_close(model.decode({**codes, **conditions})["x"], x)


SPEC = {"x": Field((1, 28, 28), levels=256), "label": Field((), classes=10)}


def pixels():
    return Preprocess(Uniform(256))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Glow((1, 28, 28), 3), r"levels=3: data of 28x28 .* at most 2.*data.pad"),
        (lambda: RealNVP((3, 6, 6), 3), r"scales=3: data of 6x6 .* at most 2"),
        (lambda: Glow((2,), 1), "realnvp_vector"),
        (lambda: NICE((5,)), "odd"),
        (lambda: Halves(7), "7 dimensions have no two halves"),
        (lambda: RealNVPVector((1,)), "two dimensions or more"),
        (lambda: Logit(0.5), "alpha must be"),
        (lambda: Logit(0.05).eval()(torch.full((1, 2), 1.5)), r"values in \[0, 1\].*1.5"),
        (lambda: Uniform(4).eval()(torch.full((1, 2), 1.5)), "outside of the 4 levels"),
        (lambda: Conv1x1(2, weight=torch.ones(2, 2)), "singular"),
        (lambda: Conv1x1(2, lu=False, weight=torch.ones(2, 2)), "singular"),
        (lambda: FlowSampler(-1.0), "temperature must be"),
        (lambda: FlowLikelihood(0), "draws must be"),
        (lambda: ConditionalNormal((2,), 0), "conditioner=label"),
        (
            lambda: Flow(SPEC, NICE((1, 28, 28), 1, [2]), Logistic(), Preprocess(), Unconditional()),
            "preprocess=uniform",
        ),
        (
            lambda: Preprocess(Uniform(None)),
            "preprocess=none",
        ),
        (
            lambda: Flow(SPEC, NICE((1, 28, 28), 1, [2]), Logistic(), pixels(), ClassLabel(10, 4)),
            "neither transform nor base",
        ),
        (
            lambda: Flow(SPEC, NICE((1, 28, 28), 1, [2], 3), Logistic(), pixels(), Unconditional()),
            "transform.vector=3",
        ),
    ],
)
def test_mistakes_are_said_in_a_line(make, message):
    with pytest.raises((UserError, ValueError), match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_weight_that_became_singular_is_found_when_it_is_used():
    conv = Conv1x1(2, lu=False).eval()
    with torch.no_grad():
        conv.matrix.weight.copy_(torch.ones(2, 2))
    for map_ in (conv.forward, conv.inverse):
        with pytest.raises(UserError, match="singular weight"):
            map_(torch.randn(1, 2, 2, 2))
