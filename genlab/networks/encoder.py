"""The encoder: the way down of the U-Net and its middle, and what they saw as a few numbers.

    h = the U-Net's levels on the way down, then block, attention, block;    g = swish(norm(h))

    mean         out = W mean(g)
    attention    out = W softmax(q K^T / sqrt(d)) V,    q from mean(g);  K and V from mean(g) and g, each with its place

References:
    Diffusion Models Beat GANs on Image Synthesis (Dhariwal & Nichol, 2021), section 4 and appendix H, its classifier.
    Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021), section 2.4, pooling.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.networks.attention import SelfAttention, attend, head_count
from genlab.networks.condition import Condition, parts
from genlab.networks.layers import GroupNorm, NoiseEmbedding, at_least_one, conv, linear, variance_scaling_
from genlab.networks.unet import RESAMPLING, Cell, Descent, Resampler, ResidualBlock, joint_modulation, level_sides


class Mean(nn.Module):
    """The mean over all pixels."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C)."""
        return x.mean((2, 3))


class AttentionPool(nn.Module):
    """The mean of all pixels attends to itself and to each of them, all with a learned vector for their place.

    Arguments:
        channels: C.
        pixels: H W.
        heads: how many, each C / heads wide.
    """

    def __init__(self, channels: int, pixels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.place = nn.Parameter(torch.randn(1 + pixels, channels) / math.sqrt(channels))
        self.queries = linear(channels, channels)
        self.keys_values = linear(channels, 2 * channels)
        for weight in self.keys_values.weight.split(channels):
            variance_scaling_(weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C)."""
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2)
        tokens = torch.cat([pixels.mean(1, keepdim=True), pixels], dim=1) + self.place
        keys, values = self.keys_values(tokens).chunk(2, dim=2)
        return attend(self.queries(tokens[:, :1]), keys, values, self.heads)[:, 0]


POOLS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "mean": lambda channels, pixels, heads: Mean(),
    "attention": AttentionPool,
}
"""(channels, pixels, heads) to what makes one vector of a feature map."""


class Encoder(nn.Module):
    """The encoder above, which is told the noise level as the U-Net is.

    Arguments:
        shape: (C, H, W) of a datum.
        features: how many numbers come out, one for each class in a classifier.
        width: the channels of the first level; those of the embedding are four times as many.
        multipliers: of the width, one a level; H and W must be divisible by 2^(levels - 1).
        blocks: residual blocks a level.
        attention: the sides (the longer one, in pixels) of the levels with attention; the middle always has it.
        dropout: the probability, in every residual block.
        groups: of the group normalisations, at most.
        heads: of attention; or `head_width`, the channels of each.
        embedding: of the noise level, "sinusoidal" or "fourier".
        embedding_scale: multiplies the noise level there; None for 1 in sinusoids and 16 in Fourier features.
        resample: "conv" (DDPM), "pool" (means within residual blocks), "fir" (binomial filters within).
        scale_shift: the embedding scales and shifts instead of being added.
        skip_rescale: residual sums are divided by sqrt(2).
        pool: "mean" or "attention".

    Raises UserError where the sides do not allow so many levels, or the attention names a side that no level has.
    """

    def __init__(
        self,
        shape: Sequence[int],
        features: int,
        width: int = 64,
        multipliers: Sequence[int] = (1, 2, 2),
        blocks: int = 2,
        attention: Sequence[int] = (),
        dropout: float = 0.1,
        groups: int = 32,
        heads: int = 1,
        head_width: int | None = None,
        embedding: Literal["sinusoidal", "fourier"] = "sinusoidal",
        embedding_scale: float | None = None,
        resample: Literal["conv", "pool", "fir"] = "pool",
        scale_shift: bool = True,
        skip_rescale: bool = False,
        pool: Literal["mean", "attention"] = "attention",
    ) -> None:
        super().__init__()
        at_least_one(features=features, width=width, blocks=blocks, groups=groups)
        at_least_one(heads=heads, head_width=head_width or 1)
        if len(shape) != 3:
            raise UserError(
                f"an encoder needs data of shape (channels, height, width), not {tuple(shape)}: try network=mlp_classes"
            )
        if not multipliers or min(multipliers) < 1:
            raise ValueError(f"multipliers must be one number or more, each at least 1, not {list(multipliers)}")
        sides = level_sides(shape, multipliers)
        if missing := [side for side in attention if side not in sides]:
            raise UserError(f"network.attention={missing} is the side of no level: they are {sides}")
        channels = [width * m for m in multipliers]
        way = RESAMPLING[resample]

        def cell(inputs: int, outputs: int, attends: bool) -> Cell:
            block = ResidualBlock(inputs, outputs, dropout, groups, scale_shift, skip_rescale)
            if not attends:
                return Cell(block)
            return Cell(block, SelfAttention(outputs, head_count(outputs, heads, head_width), groups, skip_rescale))

        def halved(count: int) -> Cell | Resampler:
            if not way.in_block:
                return Resampler(way.down(count))
            return Cell(ResidualBlock(count, count, dropout, groups, scale_shift, skip_rescale, way.down(count)))

        self.embedding = NoiseEmbedding(width, 4 * width, kind=embedding, scale=embedding_scale)
        self.first = conv(shape[0], width)
        self.down, now = nn.ModuleList(), width
        for level, count in enumerate(channels):
            cells = [cell(now if i == 0 else count, count, sides[level] in attention) for i in range(blocks)]
            self.down.append(Descent(cells, halved(count) if level + 1 < len(sides) else None, None, 1.0))
            now = count
        self.middle = nn.ModuleList([cell(now, now, True), cell(now, now, False)])
        self.norm = GroupNorm(now, groups)
        pixels = math.prod(side >> (len(sides) - 1) for side in shape[1:])
        self.pool = POOLS[pool](now, pixels, head_count(now, heads, head_width))
        self.last = linear(now, features, scale=0)

        self.modulation, self.modulations = joint_modulation(self, 4 * width)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, noise: Tensor, condition: Condition | None = None) -> Tensor:
        """What the network makes of its input.

        Arguments:
            x: (B, C, H, W).
            noise: (B,), the noise level as the network is told it.
            condition: None, since it takes none.

        Returns:
            (B, features).
        """
        parts(condition, 0)
        modulations = iter(self.modulation(F.silu(self.embedding(noise))).split(self.modulations, dim=1))
        h = self.first(x).contiguous(memory_format=torch.channels_last)
        for level in self.down:
            made, _ = level(h, x, modulations, None)
            h = made[-1]
        for cell in self.middle:
            h = cell(h, modulations, None)
        return self.last(self.pool(F.silu(self.norm(h))))
