"""Log-probabilities equal those of zuko and nflows, whose weights are copied."""

import pytest
import torch
from torch import nn

from genlab.models.flow.affine import MeanScale
from genlab.models.flow.autoregressive import MaskedAutoregressive
from genlab.models.flow.base import log_normal
from genlab.models.flow.coupling import Coupling, Halves
from genlab.models.flow.spline import SLOPE_OF_ONE, RationalQuadratic

SIZE = 6


def shuffled(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return module.double()


@torch.no_grad()
def test_maf_agrees_with_zuko():
    zuko = pytest.importorskip("zuko", reason="zuko is not installed")
    torch.manual_seed(0)

    class Affine(zuko.transforms.MonotonicAffineTransform):
        """zuko's map with MAF's scale and our limit of it."""

        def __init__(self, mean, raw):
            log_scale = -raw / (1 + raw.abs() / 10)
            super().__init__(-mean * log_scale.exp(), log_scale)
            self.log_scale, self.scale = log_scale, log_scale.exp()

    orders = [torch.arange(SIZE), torch.arange(SIZE).flip(0)]
    theirs, ours = [], []
    for order in orders:
        their = shuffled(
            zuko.flows.MaskedAutoregressiveTransform(
                SIZE, order=order.argsort(), univariate=Affine, shapes=[(), ()], hidden_features=(16, 16)
            )
        )
        our = MaskedAutoregressive(MeanScale(), SIZE, [16, 16], order).double()
        layers = [layer for layer in their.hyper if isinstance(layer, nn.Linear)]
        for mine, other in zip(our.network.layers, layers, strict=True):
            mine.weight.copy_(other.weight)
            mine.bias.copy_(other.bias)
            mine.assign(other.mask.double())
        theirs.append(their)
        ours.append(our)
    zeros, ones = torch.zeros(SIZE).double(), torch.ones(SIZE).double()
    flow = zuko.flows.Flow(theirs, zuko.flows.UnconditionalDistribution(zuko.distributions.DiagNormal, zeros, ones))
    x = torch.randn(50, SIZE).double()
    z, total = x, 0
    for our in ours:
        z, log_det = our(z)
        total = total + log_det
    torch.testing.assert_close(log_normal(z) + total, flow().log_prob(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("inverse", [False, True])
@torch.no_grad()
def test_splines_agree_with_nflows(inverse):
    rational = pytest.importorskip("nflows.transforms.splines.rational_quadratic", reason="nflows is not installed")
    torch.manual_seed(0)
    bins, bound = 7, 2.5
    spline = RationalQuadratic(bins, bound)
    x, raw = 2 * torch.randn(40, SIZE).double(), 2 * torch.randn(40, 3 * bins - 1, SIZE).double()
    width, height, slope = raw.movedim(1, -1).split([bins, bins, bins - 1], dim=-1)
    expected = rational.unconstrained_rational_quadratic_spline(
        x, width, height, slope + SLOPE_OF_ONE, inverse=inverse, tail_bound=bound
    )
    found = spline.inverse(x, raw) if inverse else spline(x, raw)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


@torch.no_grad()
def test_a_coupling_of_splines_agrees_with_nflows():
    transforms = pytest.importorskip("nflows.transforms.coupling", reason="nflows is not installed")
    torch.manual_seed(0)
    bins, bound = 4, 2.0

    class Network(nn.Module):
        """Of nflows's order, all parameters of a number together, and with its scales of them."""

        hidden_features = 16

        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, outputs))

        def forward(self, x, context=None):
            return self.layers(x)

    class Ours(nn.Module):
        def __init__(self, network: Network) -> None:
            super().__init__()
            self.network = network

        def forward(self, x, context=None):
            raw = self.network(x).unflatten(1, (-1, 3 * bins - 1)).clone()
            raw[..., : 2 * bins] /= self.network.hidden_features**0.5
            raw[..., 2 * bins :] -= SLOPE_OF_ONE
            return raw.transpose(1, 2).flatten(1)

    their = transforms.PiecewiseRationalQuadraticCouplingTransform(
        torch.arange(SIZE) >= SIZE // 2, Network, num_bins=bins, tails="linear", tail_bound=bound
    )
    shuffled(their)
    our = Coupling(Halves(SIZE), RationalQuadratic(bins, bound), lambda inputs, outputs: Ours(their.transform_net))
    x = 1.5 * torch.randn(40, SIZE).double()
    for found, expected in ((our(x), their(x)), (our.inverse(x), their.inverse(x))):
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


@torch.no_grad()
def test_an_autoregressive_spline_agrees_with_nflows():
    pytest.importorskip("nflows", reason="nflows is not installed")
    from nflows.transforms.autoregressive import MaskedPiecewiseRationalQuadraticAutoregressiveTransform as Theirs

    torch.manual_seed(0)
    bins, bound, hidden = 4, 2.0, 16
    their = Theirs(
        SIZE, hidden, num_bins=bins, tails="linear", tail_bound=bound, num_blocks=1, use_residual_blocks=False
    )
    shuffled(their)
    our = MaskedAutoregressive(RationalQuadratic(bins, bound), SIZE, [hidden, hidden]).double()
    made = their.autoregressive_net
    peers = [made.initial_layer, *(block.linear for block in made.blocks), made.final_layer]
    shift = torch.zeros(3 * bins - 1).double()
    shift[2 * bins :] = SLOPE_OF_ONE
    for mine, other in zip(our.network.layers, peers, strict=True):
        mine.weight.copy_(other.weight)
        mine.bias.copy_(other.bias)
        mine.assign(other.mask)
    our.network.layers[-1].bias.sub_(shift.repeat(SIZE))
    x = 1.5 * torch.randn(40, SIZE).double()
    for one, other in zip(our(x), their(x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)
