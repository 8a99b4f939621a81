"""Flows of masked networks, splines and planes: who depends on whom, densities, and the quick way that is the slow."""

import pytest
import torch
from every_transform import made, rows
from torch import Tensor

from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.models.autoencoder.iaf import InverseAutoregressive
from genlab.models.conditioning import ClassLabel, Unconditional
from genlab.models.flow.affine import Gate
from genlab.models.flow.autoregressive import Inverted, MaskedAutoregressive
from genlab.models.flow.base import StandardNormal
from genlab.models.flow.iaf import IAF
from genlab.models.flow.maf import MAF
from genlab.models.flow.model import Flow
from genlab.models.flow.nsf import NSF
from genlab.models.flow.planar import Planar, PlanarStep
from genlab.models.flow.preprocess import Preprocess
from genlab.models.flow.spline import RationalQuadratic


def jacobian(map_, x: Tensor, context: Tensor) -> Tensor:
    """(D, D), of the first row."""
    found = torch.autograd.functional.jacobian(lambda row: map_(row[None], context[:1])[0][0], x[0])
    assert isinstance(found, Tensor)
    return found


@pytest.mark.parametrize(
    "name", ["autoregressive", "autoregressive, no layers between", "autoregressive spline", "inverse autoregressive"]
)
def test_the_jacobian_is_triangular_in_the_order_both_ways(name):
    transform = made(name)
    x, context = rows(name)
    inner = transform.transform if isinstance(transform, Inverted) else transform
    order = inner.network.order
    for map_ in (transform.forward, transform.inverse):
        found = jacobian(map_, x, context)[order][:, order]
        assert found.triu(1).abs().max() < 1e-14
        assert (found.diagonal() > 0).all()
        assert found.tril(-1).abs().max() > 0


@pytest.mark.parametrize("name", ["autoregressive", "autoregressive spline"])
def test_the_way_back_is_that_of_a_pass_for_each_number(name):
    transform = made(name)
    z, context = rows(name)
    x = torch.zeros_like(z)
    for place in transform.network.order.tolist():
        parameters = transform.network(x[:, None], context if transform.vector else None)
        x = x.clone()
        x[:, place] = transform.elementwise.inverse(z, parameters)[0][:, place]
    for gradients in (False, True):
        with torch.set_grad_enabled(gradients):
            torch.testing.assert_close(transform.inverse(z, context)[0], x, rtol=1e-12, atol=1e-12)


def test_one_number_has_an_inverse_and_hears_its_context():
    torch.manual_seed(0)
    transform = MaskedAutoregressive(Gate(), 1, [4], None, 3, scale=1.0).double()
    x, context = torch.randn(5, 1).double(), torch.randn(5, 3).double()
    z, log_det = transform(x, context)
    back, log_det_back = transform.inverse(z, context)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(log_det_back, -log_det)
    assert not torch.equal(transform(x, context + 1)[0], z)


@pytest.mark.parametrize("name", ["planar", "autoregressive", "autoregressive spline", "nsf"])
def test_gradients_of_the_way_back_are_those_of_the_inverse(name):
    """d inverse(z; w) = -J^-1 d forward(x; w), for each parameter w."""
    transform = made(name)
    x, context = rows(name)
    z = transform(x, context)[0].detach()
    parameters = list(transform.parameters())
    inverse = torch.linalg.inv(jacobian(transform.forward, x, context))
    weight = Rng(1, torch.arange(1)).normal_like(x[:1])
    back = transform.inverse(z[:1], context[:1])[0]
    found = torch.autograd.grad((back * weight).sum(), parameters, allow_unused=True)
    there = transform(x[:1], context[:1])[0]
    expected = torch.autograd.grad(-(there * (weight @ inverse)).sum(), parameters)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.zeros_like(other) if one is None else one, other, rtol=1e-6, atol=1e-8)


SPLINE = RationalQuadratic(5, 2.0)


def test_a_spline_rises_from_corner_to_corner_and_is_the_identity_beyond():
    x = torch.linspace(-3, 3, 2001, dtype=torch.float64)
    parameters = 3 * Rng(0, torch.arange(1)).normal(SPLINE.features, 1, dtype=torch.float64).expand(-1, -1, len(x))
    z, log_slope = SPLINE(x[None], parameters)
    assert (z.diff() > 0).all()
    assert torch.equal(z[0, x.abs() > 2], x[x.abs() > 2])
    ends = torch.tensor([[-2.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(SPLINE(ends, parameters[..., :2])[0], ends)
    torch.testing.assert_close(SPLINE(ends, parameters[..., :2])[1], torch.zeros_like(ends))
    back, log_back = SPLINE.inverse(z, parameters)
    torch.testing.assert_close(back[0], x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(log_back, -log_slope, rtol=1e-8, atol=1e-8)
    same, none = SPLINE(x[None], torch.zeros_like(parameters))
    torch.testing.assert_close(same[0], x)
    torch.testing.assert_close(none, torch.zeros_like(none), atol=1e-12, rtol=0)


def test_a_plane_keeps_its_inverse_whatever_its_parameters_are():
    torch.manual_seed(0)
    step = PlanarStep(3).double()
    x = torch.randn(200, 3).double()
    for scale in (-8.0, -1.0, 0.0, 1.0, 8.0):
        with torch.no_grad():
            step.v.copy_(scale * step.w + torch.randn(3))
        z, log_det = step(x)
        assert log_det.isfinite().all()
        torch.testing.assert_close(step.inverse(z)[0], x, rtol=1e-6, atol=1e-6)


PLANE = {
    "maf": lambda vector: MAF((2,), 2, [8], "batch", "reversed", vector),
    "made_flow": lambda vector: MAF((2,), 1, [8], "none", "reversed", vector),
    "iaf": lambda vector: IAF((2,), 2, [8], "reversed", vector),
    "planar": lambda vector: Planar((2,), 4, vector),
    "nsf": lambda vector: NSF((2,), 2, "coupling", [8], 6, 3.0, "lu", vector),
    "nsf autoregressive": lambda vector: NSF((2,), 2, "autoregressive", [8], 6, 3.0, "none", vector),
}


@pytest.mark.parametrize("vector", [0, 4], ids=["alone", "of a class"])
@pytest.mark.parametrize("name", PLANE)
@torch.no_grad()
def test_densities_of_the_plane_integrate_to_one(name, vector):
    torch.manual_seed(0)
    spec = {"x": Field((2,)), "label": Field((), classes=2)}
    conditioner = ClassLabel(2, vector) if vector else Unconditional()
    model = Flow(spec, PLANE[name](vector), StandardNormal(), Preprocess(), conditioner).double().eval()
    for parameter in model.parameters():
        parameter += 0.2 * torch.randn_like(parameter)
    side = torch.linspace(-16, 16, 401, dtype=torch.float64)
    x = torch.cartesian_prod(side, side)

    def density(label: int) -> Tensor:
        batch = {"x": x, "label": torch.full((len(x),), label)}
        return (-model.nll(batch, Rng(0, torch.arange(len(x)))).nats).exp()

    p = density(0)
    torch.testing.assert_close(p.sum() * (side[1] - side[0]) ** 2, p.new_ones(()), atol=4e-3, rtol=0)
    assert (vector > 0) != torch.equal(p, density(1))


@pytest.mark.parametrize("context", [0, 3])
@torch.no_grad()
def test_a_posterior_knows_the_density_of_its_draws_and_of_any_other_code(context):
    torch.manual_seed(0)
    bottleneck = InverseAutoregressive(4, 3, [9], "reversed", context).double()
    for parameter in bottleneck.parameters():
        parameter += 0.3 * torch.randn_like(parameter)
    posterior = bottleneck(torch.randn(5, bottleneck.inputs).double())
    z = posterior.sample(Rng(0, torch.arange(5)), 6)
    assert z.shape == (5, 6, 4)
    remembered = posterior.log_prob(z)
    torch.testing.assert_close(posterior.log_prob(z.clone()), remembered, rtol=1e-9, atol=1e-9)
    other = bottleneck(torch.randn(5, bottleneck.inputs).double())
    assert not torch.allclose(other.log_prob(z), remembered)
    assert posterior.mode().shape == (5, 4)


@torch.no_grad()
def test_a_posterior_is_a_distribution():
    torch.manual_seed(0)
    bottleneck = InverseAutoregressive(2, 2, [9], "reversed", 3).double()
    for parameter in bottleneck.parameters():
        parameter += 0.3 * torch.randn_like(parameter)
    posterior = bottleneck(0.3 * torch.randn(1, bottleneck.inputs).double())
    side = torch.linspace(-20, 20, 601, dtype=torch.float64)
    p = posterior.log_prob(torch.cartesian_prod(side, side)[None]).exp()
    torch.testing.assert_close(p.sum() * (side[1] - side[0]) ** 2, p.new_ones(()), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RationalQuadratic(1), "bins must be"),
        (lambda: RationalQuadratic(8, 0), "bound must be"),
        (lambda: MAF((3,), steps=0), "steps must be"),
        (lambda: MAF((3,), hidden=[0]), "hidden must be"),
        (lambda: NSF((1,)), "model=maf"),
        (lambda: InverseAutoregressive(0), "size must be"),
        (lambda: InverseAutoregressive(2)(torch.zeros(1, 68, 2, 2)), "codes are vectors"),
    ],
)
def test_mistakes_are_said_in_a_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
