"""Convolutions between images and codes that are vectors: those of beta-VAEs and of disentanglement.

    encoder    each layer h <- f(conv(h)), 4x4 with stride 2, halves the sides; then plain layers make a vector
    decoder    plain layers make the smallest map; then each layer h <- conv^T(f(h)) doubles the sides

With their defaults on 64x64 they are the networks of the last study below.

References:
    beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework (Higgins et al., 2017), table 1.
    Understanding disentangling in beta-VAE (Burgess et al., 2018), appendix A.1, with four times 32
    channels and hidden = [256, 256].
    Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations (Locatello et al.,
    2019), table 1 of the appendix.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.networks.coders.mlp import layers
from genlab.networks.layers import at_least_one, variance_scaling_


def halve(inputs: int, outputs: int) -> nn.Conv2d:
    """(B, inputs, H, W) to (B, outputs, H/2, W/2), by a 4x4 filter."""
    layer = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)
    variance_scaling_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def double(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    """(B, inputs, H, W) to (B, outputs, 2H, 2W), by a 4x4 filter."""
    layer = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
    # A pixel that comes out meets 4 of a filter's 16 weights.
    variance_scaling_(layer.weight, scale=4)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def smallest(shape: Sequence[int], widths: Sequence[int], coder: str) -> tuple[int, int, int]:
    """(C, H, W) of the map that is left when the sides are halved once for each width.

    Arguments:
        shape: of a datum.
        widths: the channels of the maps, from the largest to the smallest.
        coder: "encoder" or "decoder", for the messages.
    """
    if len(shape) != 3:
        raise UserError(
            f"{coder}=conv: is for images, (channels, height, width), not {list(shape)}; choose {coder}=mlp"
        )
    if not widths:
        raise UserError(f"{coder}.widths: must be one number or more, one for each halving of the sides")
    at_least_one(widths=min(widths))
    height, width = shape[1:]
    factor = 2 ** len(widths)
    if height % factor or width % factor:
        common = math.gcd(height, width)
        most = (common & -common).bit_length() - 1
        right = f"give at most {most}, as {[32, 64, 128][:most]}" if 0 < most < 3 else f"give at most {most}"
        raise UserError(
            f"{coder}.widths={list(widths)}: halves the sides {len(widths)} times, and {height}x{width} is not "
            f"divisible by {factor}; " + (right if most else f"choose {coder}=mlp")
        )
    return widths[-1], height // factor, width // factor


class ConvEncoder(nn.Module):
    """From an image to a vector.

    Arguments:
        shape: (C, H, W) of a datum, with sides divisible by 2^len(widths).
        outputs: how many numbers come out.
        widths: the channels of each map, from the largest to the smallest: two for 28x28, up to five for 32x32.
        hidden: the widths of the plain layers between the smallest map and the outputs.
        activation: makes a nonlinearity.

    Raises UserError where the sides cannot be halved so often.
    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int,
        widths: Sequence[int] = (32, 32, 64, 64),
        hidden: Sequence[int] = (256,),
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        size = math.prod(smallest(shape, widths, "encoder"))
        parts = [part for pair in pairwise([shape[0], *widths]) for part in (halve(*pair), activation())]
        self.convs = nn.Sequential(*parts)
        self.layers = layers([size, *hidden, outputs], activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, *shape) to (B, outputs)."""
        return self.layers(self.convs(x).flatten(1))


class ConvDecoder(nn.Module):
    """From a vector to the parameters of an image.

    Arguments:
        shape: (C, H, W) of a datum, with sides divisible by 2^len(widths).
        inputs: the length of a code.
        outputs: how many numbers each pixel gets.
        widths: the channels of each map, from the largest to the smallest, as the encoder's.
        hidden: the widths of the plain layers between the code and the smallest map.
        activation: makes a nonlinearity.

    Raises UserError where the sides cannot be halved so often.
    """

    def __init__(
        self,
        shape: Sequence[int],
        inputs: int,
        outputs: int,
        widths: Sequence[int] = (32, 32, 64, 64),
        hidden: Sequence[int] = (256,),
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        self.smallest = smallest(shape, widths, "decoder")
        self.layers = layers([inputs, *hidden, math.prod(self.smallest)], activation)
        channels = [*reversed(widths), outputs]
        parts = [part for pair in pairwise(channels) for part in (activation(), double(*pair))]
        self.convs = nn.Sequential(*parts)

    def forward(self, z: Tensor) -> Tensor:
        """(B, inputs) to (B, outputs, H, W)."""
        return self.convs(self.layers(z).unflatten(1, self.smallest))
