"""The networks within couplings: from the part of a datum that stays to how the other part is changed.

    dense          affine layers with an activation between
    residual       convolutions with residual blocks, as RealNVP's
    convolutions   3x3, 1x1, 3x3, as Glow's

The last layer of each is zero at first, so that a coupling begins near the identity. What is known of a datum, the
context, is stacked on the input's channels, the same at each place where it is a vector.

References:
    NICE: Non-linear Independent Components Estimation (Dinh, Krueger & Bengio, 2015), section 5.1.
    Density Estimation using Real NVP (Dinh, Sohl-Dickstein & Bengio, 2017), section 4.1. Within the blocks it has batch
    and weight normalisation; here it is group normalisation, so that no datum sees the others.
    Glow: Generative Flow with Invertible 1x1 Convolutions (Kingma & Dhariwal, 2018), appendix B.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.networks.actnorm import ChannelScale
from genlab.networks.layers import GroupNorm, at_least_one, conv, linear


def stacked_on(x: Tensor, context: Tensor | None) -> Tensor:
    """x (B, C, *) with the context, (B, V) or (B, V, *), on its channels."""
    if context is None:
        return x
    if context.ndim < x.ndim:
        context = context.view(*context.shape, *(1,) * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
    return torch.cat([x, context.to(x.dtype)], dim=1)


class Dense(nn.Module):
    """Affine layers on vectors.

    Arguments:
        inputs, outputs: the numbers that go in and come out.
        hidden: the widths of the layers between.
        context: of its width, 0 for none.
        activation: makes a nonlinearity.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: Sequence[int],
        context: int = 0,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        if hidden:
            at_least_one(hidden=min(hidden))
        sizes = [inputs + context, *hidden]
        between = [part for pair in pairwise(sizes) for part in (linear(*pair), activation())]
        self.layers = nn.Sequential(*between, linear(sizes[-1], outputs, scale=0))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(B, inputs) to (B, outputs)."""
        return self.layers(stacked_on(x, context))


class Block(nn.Module):
    """h + conv(relu(norm(conv(relu(norm(h))))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = GroupNorm(width), GroupNorm(width)
        self.conv1, self.conv2 = conv(width, width), conv(width, width)

    def forward(self, h: Tensor) -> Tensor:
        """(B, width, H, W) to the same."""
        return h + self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(h))))))


class ResidualConv(nn.Module):
    """RealNVP's network of images.

    Arguments:
        inputs, outputs: the channels before and after.
        width: of the residual blocks.
        blocks: how many.
        context: of its width, 0 for none.
    """

    def __init__(self, inputs: int, outputs: int, width: int, blocks: int, context: int = 0) -> None:
        super().__init__()
        at_least_one(width=width, blocks=blocks)
        self.first = conv(inputs + context, width)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(blocks)))
        self.norm = GroupNorm(width)
        self.last = conv(width, outputs, kernel=1, scale=0)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        return self.last(F.relu(self.norm(self.blocks(self.first(stacked_on(x, context))))))


class ZeroConv(nn.Module):
    """(W * x + b) exp(3 s), with W, b and s zero at first: Glow's last layer, which learns its scale quickly.

    Arguments:
        inputs, outputs: the channels before and after.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = conv(inputs, outputs, scale=0)
        self.log_scale = nn.Parameter(torch.zeros(outputs, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        return self.conv(x) * (3 * self.log_scale).exp()


class GlowConv(nn.Module):
    """Glow's network of images; its two hidden layers are normalised by the first data.

    Arguments:
        inputs, outputs: the channels before and after.
        width: of the hidden layers.
        context: of its width, 0 for none.
    """

    def __init__(self, inputs: int, outputs: int, width: int, context: int = 0) -> None:
        super().__init__()
        at_least_one(width=width)
        first = nn.Conv2d(inputs + context, width, 3, padding=1, bias=False)
        second = nn.Conv2d(width, width, 1, bias=False)
        for layer in (first, second):
            nn.init.normal_(layer.weight, std=0.05)
        self.layers = nn.Sequential(
            first, ChannelScale(width), nn.ReLU(), second, ChannelScale(width), nn.ReLU(), ZeroConv(width, outputs)
        )

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        return self.layers(stacked_on(x, context))
