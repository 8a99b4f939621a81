"""Convolutions between images and maps of codes: the networks of the VQ-VAE, which normalise nothing.

    encoder    h <- relu(conv(h)), 4x4 with stride 2, once a halving; conv 3x3; residual blocks; relu; conv 1x1
    decoder    conv 3x3; residual blocks; relu; then relu and conv^T, 4x4 with stride 2, once a doubling
    block      h + W conv(relu(h)), with a relu between the 3x3 filters and the 1x1 W

References:
    Neural Discrete Representation Learning (van den Oord, Vinyals & Kavukcuoglu, 2017), section 4.1, two halvings, two
    blocks, width = hidden = 256.
    Generating Diverse High-Fidelity Images with VQ-VAE-2 (Razavi, van den Oord & Vinyals, 2019), appendix A.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.networks.coders.conv import double, halve
from genlab.networks.layers import at_least_one, conv

FACTORS = (2, 4, 8)


class Block(nn.Module):
    """h + W conv(relu(h)).

    Arguments:
        width: the channels of h.
        hidden: those between the two layers.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = conv(width, hidden), conv(hidden, width, kernel=1)

    def forward(self, h: Tensor) -> Tensor:
        """(B, width, H, W) to the same."""
        return h + self.second(F.relu(self.first(F.relu(h))))


def halvings(factor: int, coder: str) -> int:
    """log2 of a factor that there is."""
    if factor not in FACTORS:
        raise UserError(f"{coder}.factor={factor}: must be one of {', '.join(map(str, FACTORS))}")
    return factor.bit_length() - 1


def downward(inputs: int, outputs: int, halved: int, width: int, hidden: int, blocks: int) -> nn.Sequential:
    """(B, inputs, H, W) to (B, outputs, H / 2^halved, W / 2^halved)."""
    at_least_one(width=width, hidden=hidden, blocks=blocks)
    pairs = pairwise([inputs, *[width] * halved])
    parts = [part for pair in pairs for part in (halve(*pair), nn.ReLU())]
    residual = [Block(width, hidden) for _ in range(blocks)]
    return nn.Sequential(*parts, conv(width, width), *residual, nn.ReLU(), conv(width, outputs, kernel=1))


def upward(inputs: int, outputs: int, doubled: int, width: int, hidden: int, blocks: int) -> nn.Sequential:
    """(B, inputs, H, W) to (B, outputs, 2^doubled H, 2^doubled W)."""
    at_least_one(width=width, hidden=hidden, blocks=blocks)
    pairs = pairwise([*[width] * doubled, outputs])
    parts = [part for pair in pairs for part in (nn.ReLU(), double(*pair))]
    residual = [Block(width, hidden) for _ in range(blocks)]
    return nn.Sequential(conv(inputs, width), *residual, *parts)


class VQEncoder(nn.Module):
    """From an image to a map.

    Arguments:
        shape: (C, H, W) of a datum, with sides divisible by `factor`.
        outputs: how many numbers each place of the map gets.
        factor: 2, 4 or 8, by which the sides become smaller.
        width: the channels within.
        hidden: those within a residual block.
        blocks: residual blocks.

    Raises UserError where the sides are not divisible.
    """

    def __init__(
        self, shape: Sequence[int], outputs: int, factor: int = 4, width: int = 128, hidden: int = 32, blocks: int = 2
    ) -> None:
        super().__init__()
        halved = halvings(factor, "encoder")
        if len(shape) != 3:
            raise UserError(
                f"encoder=vq: is for images, (channels, height, width), not {list(shape)}; choose encoder=mlp"
            )
        if shape[1] % factor or shape[2] % factor:
            fits = [f for f in FACTORS if math.gcd(*shape[1:]) % f == 0]
            right = f"choose {' or '.join(map(str, fits))}" if fits else "choose encoder=mlp"
            raise UserError(f"encoder.factor={factor}: does not divide the sides {shape[1]}x{shape[2]}; {right}")
        self.layers = downward(shape[0], outputs, halved, width, hidden, blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, outputs, H / factor, W / factor)."""
        return self.layers(x)


class VQDecoder(nn.Module):
    """From a map to the parameters of an image.

    Arguments:
        inputs: the channels of the map.
        outputs: how many numbers each pixel gets.
        factor: 2, 4 or 8, by which the sides become larger, as the encoder's.
        width: the channels within.
        hidden: those within a residual block.
        blocks: residual blocks.
    """

    def __init__(
        self, inputs: int, outputs: int, factor: int = 4, width: int = 128, hidden: int = 32, blocks: int = 2
    ) -> None:
        super().__init__()
        self.layers = upward(inputs, outputs, halvings(factor, "decoder"), width, hidden, blocks)

    def forward(self, z: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, factor H, factor W)."""
        return self.layers(z)
