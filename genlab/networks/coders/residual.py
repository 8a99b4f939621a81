"""Residual convolutions between images and maps: the networks of VQGAN and of latent diffusion's first stages.

    encoder    conv;  each level: blocks, then half the sides;   block, attention, block;  conv swish norm
    decoder    conv;  block, attention, block;  each level: blocks, then twice the sides;  conv swish norm
    block      h + conv swish norm(conv swish norm(h)), followed by attention where the side is listed

Between L levels the sides change L - 1 times, so the map is smaller by the factor 2^(L - 1). The parts are the U-Net's,
without its noise level and its bridges. With width=128 and multipliers=[1, 2, 4, 4] both together are the published
autoencoder kl-f8 of 83,653,863 parameters, less the 92 of two 1x1 convolutions that stood beside others; with
[1, 2, 4] they are kl-f4.

References:
    Taming Transformers for High-Resolution Image Synthesis (Esser, Rombach & Ommer, 2021), table 7.
    High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), appendix E.1.
"""

import math
from collections.abc import Sequence
from itertools import repeat

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.networks.attention import SelfAttention
from genlab.networks.layers import Downsample, GroupNorm, Upsample, at_least_one, conv
from genlab.networks.unet import Cell, Resampler, ResidualBlock


def sides_of(
    shape: Sequence[int], width: int, multipliers: Sequence[int], blocks: int, attention: Sequence[int], coder: str
) -> list[int]:
    """The longer side of each level's maps, as [32, 16, 8], when all that was asked for can be had.

    Arguments:
        coder: "encoder" or "decoder", for the messages.
    """
    at_least_one(width=width, blocks=blocks)
    if len(shape) != 3:
        raise UserError(
            f"{coder}=residual: is for images, (channels, height, width), not {list(shape)}; choose {coder}=mlp"
        )
    if not multipliers or min(multipliers) < 1:
        raise ValueError(f"multipliers must be one number or more, each at least 1, not {list(multipliers)}")
    height, width = shape[1:]
    halvings = len(multipliers) - 1
    if height % 2**halvings or width % 2**halvings:
        common = math.gcd(height, width)
        most = (common & -common).bit_length()
        raise UserError(
            f"{coder}.multipliers={list(multipliers)}: halves the sides {halvings} times, and {height}x{width} is not "
            f"divisible by {2**halvings}; give at most {most} of them"
        )
    sides = [max(height, width) >> level for level in range(halvings + 1)]
    if missing := [side for side in attention if side not in sides]:
        raise UserError(f"{coder}.attention={missing}: is the side of no level; they are {sides}")
    return sides


def cell(inputs: int, outputs: int, attends: bool, dropout: float, groups: int) -> Cell:
    """A residual block, and attention behind it where it `attends`."""
    attention = SelfAttention(outputs, groups=groups) if attends else None
    return Cell(ResidualBlock(inputs, outputs, dropout, groups), attention)


class ResidualEncoder(nn.Module):
    """From an image to a map.

    Arguments:
        shape: (C, H, W) of a datum, with sides divisible by 2^(levels - 1).
        outputs: how many numbers each place of the map gets.
        width: the channels of the first level.
        multipliers: of the width, one a level: two for sides of a half, three for a quarter, four for an eighth.
        blocks: residual blocks a level.
        attention: the sides (the longer one, in pixels) of the levels with attention; the middle always has it.
        dropout: the probability, in every residual block.
        groups: of the normalisations, at most.

    Raises UserError where the sides are not divisible, or the attention names a side that no level has.
    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int,
        width: int = 128,
        multipliers: Sequence[int] = (1, 2, 4),
        blocks: int = 2,
        attention: Sequence[int] = (),
        dropout: float = 0.0,
        groups: int = 32,
    ) -> None:
        super().__init__()
        sides = sides_of(shape, width, multipliers, blocks, attention, "encoder")
        cells: list[Cell | Resampler] = []
        now = width
        for level, side in enumerate(sides):
            for _ in range(blocks):
                cells.append(cell(now, width * multipliers[level], side in attention, dropout, groups))
                now = width * multipliers[level]
            if level + 1 < len(sides):
                cells.append(Resampler(Downsample(now)))
        cells += [cell(now, now, True, dropout, groups), cell(now, now, False, dropout, groups)]
        self.first = conv(shape[0], width)
        self.cells = nn.ModuleList(cells)
        self.norm = GroupNorm(now, groups)
        self.last = conv(now, outputs)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, outputs, H / factor, W / factor)."""
        h = self.first(x).contiguous(memory_format=torch.channels_last)
        for part in self.cells:
            h = part(h, repeat(None), None)
        return self.last(F.silu(self.norm(h)))


class ResidualDecoder(nn.Module):
    """From a map to the parameters of an image.

    Arguments:
        shape: (C, H, W) of a datum, with sides divisible by 2^(levels - 1).
        inputs: the channels of the map.
        outputs: how many numbers each pixel gets.
        width: the channels of the level with the largest maps.
        multipliers: of the width, one a level from the largest maps to the smallest, as the encoder's.
        blocks: residual blocks a level are one more than these.
        attention: the sides (the longer one, in pixels) of the levels with attention; the middle always has it.
        dropout: the probability, in every residual block.
        groups: of the normalisations, at most.

    Raises UserError where the sides are not divisible, or the attention names a side that no level has.
    """

    def __init__(
        self,
        shape: Sequence[int],
        inputs: int,
        outputs: int,
        width: int = 128,
        multipliers: Sequence[int] = (1, 2, 4),
        blocks: int = 2,
        attention: Sequence[int] = (),
        dropout: float = 0.0,
        groups: int = 32,
    ) -> None:
        super().__init__()
        sides = sides_of(shape, width, multipliers, blocks, attention, "decoder")
        now = width * multipliers[-1]
        self.first = conv(inputs, now)
        cells: list[Cell | Resampler] = [cell(now, now, True, dropout, groups), cell(now, now, False, dropout, groups)]
        for level, side in reversed(list(enumerate(sides))):
            for _ in range(blocks + 1):
                cells.append(cell(now, width * multipliers[level], side in attention, dropout, groups))
                now = width * multipliers[level]
            if level > 0:
                cells.append(Resampler(Upsample(now)))
        self.cells = nn.ModuleList(cells)
        self.norm = GroupNorm(now, groups)
        self.last = conv(now, outputs)
        self.to(memory_format=torch.channels_last)

    def forward(self, z: Tensor) -> Tensor:
        """(B, inputs, H / factor, W / factor) to (B, outputs, H, W)."""
        h = self.first(z).contiguous(memory_format=torch.channels_last)
        for part in self.cells:
            h = part(h, repeat(None), None)
        return self.last(F.silu(self.norm(h)))
