"""The U-Net: down through coarser and coarser feature maps and up again, with a bridge at every height.

    embedding = W2 swish(W1 e(noise)) + W3 vector
    block:   h -> h + conv swish norm(conv swish norm(h) + W swish(embedding))
    level:   blocks, each followed by attention where the side is listed; then half the side, or twice on the way up
    bridge:  every feature map of the way down is stacked on the channels of its like on the way up

With its defaults on 3x32x32 it is the CIFAR-10 network of DDPM, of 35,746,307 parameters. Options make it the others':
`scale_shift` and `resample=pool` the ADM, `resample=pool` and `skip_rescale` the DDPM++, `resample=fir`,
`skip_rescale`, `embedding=fourier` and `progressive=residual` the NCSN++, `fourier_features` the input of the VDM.

References:
    U-Net: Convolutional Networks for Biomedical Image Segmentation (Ronneberger, Fischer & Brox, 2015).
    Denoising Diffusion Probabilistic Models (Ho, Jain & Abbeel, 2020), appendix B.
    Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), appendix H.
    Diffusion Models Beat GANs on Image Synthesis (Dhariwal & Nichol, 2021), section 3.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.networks.attention import CrossAttention, SelfAttention, head_count
from genlab.networks.condition import Condition, parts
from genlab.networks.layers import (
    BinomialConv,
    BinomialDown,
    BinomialUp,
    Copy,
    Downsample,
    FourierFeatures,
    GroupNorm,
    Mean,
    NoiseEmbedding,
    Upsample,
    at_least_one,
    conv,
    linear,
    variance_scaling_,
)


class ResidualBlock(nn.Module):
    """h + conv(dropout(swish(norm(conv(swish(norm(h))) + modulation)))), with the second convolution zero at first.

    Arguments:
        inputs, outputs: the channels before and after; where they differ, h is mapped by a 1x1 convolution.
        dropout: the probability.
        groups: of the normalisations, at most.
        scale_shift: the modulation is (scale, shift) and acts after the second norm, norm(h) (1 + scale) + shift.
        rescale: divide the sum by sqrt(2), so that its variance stays.
        resample: applied to both branches, before their convolutions.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        dropout: float = 0.0,
        groups: int = 32,
        scale_shift: bool = False,
        rescale: bool = False,
        resample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.modulation = 2 * outputs if scale_shift else outputs
        self.scale_shift = scale_shift
        self.gain = math.sqrt(0.5) if rescale else 1.0
        self.norm1, self.norm2 = GroupNorm(inputs, groups), GroupNorm(outputs, groups)
        self.conv1, self.conv2 = conv(inputs, outputs), conv(outputs, outputs, scale=0)
        self.shortcut = conv(inputs, outputs, kernel=1) if inputs != outputs else nn.Identity()
        self.resample = resample or nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, modulation: Tensor | None) -> Tensor:
        """x (B, inputs, H, W) and modulation (B, outputs), or (B, 2 outputs), or none, to (B, outputs, H', W')."""
        h = self.conv1(self.resample(F.silu(self.norm1(x))))
        if modulation is None:
            h = self.norm2(h)
        elif self.scale_shift:
            scale, shift = modulation[:, :, None, None].chunk(2, dim=1)
            h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        else:
            h = self.norm2(h + modulation[:, :, None, None])
        h = self.conv2(self.dropout(F.silu(h)))
        sum_ = self.shortcut(self.resample(x)) + h
        return sum_ if self.gain == 1 else self.gain * sum_


class Cell(nn.Module):
    """A residual block, then attention to its own pixels and to the context, where there are such.

    Arguments:
        block: what comes first.
        attention: follows, or None.
        cross: follows, or None.
    """

    def __init__(
        self, block: ResidualBlock, attention: SelfAttention | None = None, cross: CrossAttention | None = None
    ) -> None:
        super().__init__()
        self.block, self.attention, self.cross = block, attention, cross

    def forward(self, x: Tensor, modulations: Iterator[Tensor | None], context: Tensor | None) -> Tensor:
        """x (B, inputs, H, W) to (B, outputs, H', W'), taking the next modulation."""
        x = self.block(x, next(modulations))
        if self.attention is not None:
            x = self.attention(x)
        if self.cross is not None and context is not None:
            x = self.cross(x, context)
        return x


class Resampler(nn.Module):
    """A change of sides that takes no modulation, with the signature of a `Cell`."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, modulations: Iterator[Tensor | None], context: Tensor | None) -> Tensor:
        return self.layer(x)


class Descent(nn.Module):
    """One level on the way down.

    Arguments:
        cells: in order.
        coarser: halves the sides, or None at the bottom.
        pyramid: halves the input, which is added then, or None.
        gain: multiplies that sum.
    """

    def __init__(
        self, cells: list[Cell], coarser: Cell | Resampler | None, pyramid: BinomialConv | None, gain: float
    ) -> None:
        super().__init__()
        self.cells, self.coarser, self.pyramid, self.gain = nn.ModuleList(cells), coarser, pyramid, gain

    def forward(
        self, h: Tensor, seen: Tensor, modulations: Iterator[Tensor], context: Tensor | None
    ) -> tuple[list[Tensor], Tensor]:
        """The feature maps in order, the last being what the next level works on, and the input as it sees it."""
        made = []
        for cell in self.cells:
            h = cell(h, modulations, context)
            made.append(h)
        if self.coarser is not None:
            h = self.coarser(h, modulations, context)
            if self.pyramid is not None:
                seen = h = self.gain * (h + self.pyramid(seen))
            made.append(h)
        return made, seen


class Ascent(nn.Module):
    """One level on the way up.

    Arguments:
        cells: in order.
        finer: doubles the sides, or None at the top.
    """

    def __init__(self, cells: list[Cell], finer: Cell | Resampler | None) -> None:
        super().__init__()
        self.cells, self.finer = nn.ModuleList(cells), finer

    def forward(
        self, h: Tensor, bridges: list[Tensor], modulations: Iterator[Tensor], context: Tensor | None
    ) -> Tensor:
        """What the next level works on; takes a bridge a cell from the end of the list."""
        for cell in self.cells:
            h = cell(torch.cat([h, bridges.pop()], dim=1), modulations, context)
        return h if self.finer is None else self.finer(h, modulations, context)


@dataclass(frozen=True)
class Resampling:
    """How the sides change: by a layer with weights, or by a residual block around a fixed filter."""

    down: Callable[[int], nn.Module]
    up: Callable[[int], nn.Module]
    in_block: bool


RESAMPLING = {
    "conv": Resampling(Downsample, Upsample, in_block=False),
    "pool": Resampling(lambda channels: Mean(), lambda channels: Copy(), in_block=True),
    "fir": Resampling(lambda channels: BinomialDown(), lambda channels: BinomialUp(), in_block=True),
}


def joint_modulation(network: nn.Module, inputs: int) -> tuple[nn.Linear, list[int]]:
    """One product that makes the modulations of all blocks, and their widths, in the order in which they stand."""
    widths = [module.modulation for module in network.modules() if isinstance(module, ResidualBlock)]
    layer = linear(inputs, sum(widths))
    for weight in layer.weight.split(widths):
        variance_scaling_(weight)
    return layer, widths


class UNet(nn.Module):
    """The U-Net above.

    Arguments:
        shape: (C, H, W) of a datum.
        width: the channels of the first level; those of the embedding are four times as many.
        multipliers: of the width, one a level; H and W must be divisible by 2^(levels - 1).
        blocks: residual blocks a level on the way down; one more on the way up.
        attention: the sides (the longer one, in pixels) of the levels with attention; the middle always has it.
        dropout: the probability, in every residual block.
        groups: of the group normalisations, at most: 32 wherever there are 128 channels or more; few are faster in
            narrow networks.
        out_channels: of an output; None for C.
        outputs: how many come out, stacked on the channels: 2 where variances are learned as well.
        vector, context, concat: the widths of the condition's three parts, 0 for none.
        heads: of attention; or `head_width`, the channels of each.
        embedding: of the noise level, "sinusoidal" or "fourier".
        embedding_scale: multiplies the noise level there; None for 1 in sinusoids and 16 in Fourier features.
        resample: "conv" (DDPM), "pool" (means and copies within residual blocks), "fir" (binomial filters within).
        scale_shift: the embedding scales and shifts instead of being added.
        skip_rescale: residual sums are divided by sqrt(2).
        progressive: "residual" adds the input, halved by filter and convolution, to each level on the way down.
        fourier_features: the input carries sin and cos of 2^7 pi x and 2^8 pi x too.

    Raises UserError where the sides do not allow so many levels, or the attention names a side that no level has.
    """

    # The layer whose output is the network's own summary of its input.
    inner = "middle.1"

    def __init__(
        self,
        shape: Sequence[int],
        width: int = 128,
        multipliers: Sequence[int] = (1, 2, 2, 2),
        blocks: int = 2,
        attention: Sequence[int] = (16,),
        dropout: float = 0.1,
        groups: int = 32,
        out_channels: int | None = None,
        outputs: int = 1,
        vector: int = 0,
        context: int = 0,
        concat: int = 0,
        heads: int = 1,
        head_width: int | None = None,
        embedding: Literal["sinusoidal", "fourier"] = "sinusoidal",
        embedding_scale: float | None = None,
        resample: Literal["conv", "pool", "fir"] = "conv",
        scale_shift: bool = False,
        skip_rescale: bool = False,
        progressive: Literal["none", "residual"] = "none",
        fourier_features: bool = False,
    ) -> None:
        super().__init__()
        at_least_one(width=width, blocks=blocks, groups=groups, heads=heads, head_width=head_width or 1)
        at_least_one(outputs=outputs)
        if not multipliers or min(multipliers) < 1:
            raise ValueError(f"multipliers must be one number or more, each at least 1, not {list(multipliers)}")
        sides = level_sides(shape, multipliers)
        if missing := [side for side in attention if side not in sides]:
            raise UserError(f"network.attention={missing} is the side of no level: they are {sides}")
        self.vector_width, self.context_width, self.concat_width = vector, context, concat
        channels = [width * m for m in multipliers]
        way = RESAMPLING[resample]

        def cell(inputs: int, outputs: int, attends: bool) -> Cell:
            block = ResidualBlock(inputs, outputs, dropout, groups, scale_shift, skip_rescale)
            if not attends:
                return Cell(block)
            count = head_count(outputs, heads, head_width)
            cross = CrossAttention(outputs, context, count, groups, skip_rescale) if context else None
            return Cell(block, SelfAttention(outputs, count, groups, skip_rescale), cross)

        def change(count: int, to: Callable[[int], nn.Module]) -> Cell | Resampler:
            if not way.in_block:
                return Resampler(to(count))
            return Cell(ResidualBlock(count, count, dropout, groups, scale_shift, skip_rescale, to(count)))

        self.embedding = NoiseEmbedding(width, 4 * width, vector, embedding, embedding_scale)
        self.features = FourierFeatures() if fourier_features else nn.Identity()
        seen = shape[0] * (5 if fourier_features else 1) + concat
        self.first = conv(seen, width)
        self.down, bridges, now = nn.ModuleList(), [width], width
        for level, count in enumerate(channels):
            attends, below = sides[level] in attention, level + 1 < len(sides)
            cells = [cell(now if i == 0 else count, count, attends) for i in range(blocks)]
            coarser = change(count, way.down) if below else None
            pyramid = BinomialConv(seen, count) if below and progressive == "residual" else None
            self.down.append(Descent(cells, coarser, pyramid, math.sqrt(0.5) if skip_rescale else 1.0))
            bridges += [count] * (blocks + below)
            seen = now = count
        self.middle = nn.ModuleList([cell(now, now, True), cell(now, now, False)])
        self.up = nn.ModuleList()
        for level, count in reversed(list(enumerate(channels))):
            cells = []
            for _ in range(blocks + 1):
                cells.append(cell(now + bridges.pop(), count, sides[level] in attention))
                now = count
            self.up.append(Ascent(cells, change(count, way.up) if level > 0 else None))
        self.norm = GroupNorm(now, groups)
        self.last = conv(now, outputs * (shape[0] if out_channels is None else out_channels), scale=0)

        self.modulation, self.modulations = joint_modulation(self, 4 * width)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, noise: Tensor, condition: Condition | None = None) -> Tensor:
        """What the network predicts.

        Arguments:
            x: (B, C, H, W).
            noise: (B,), the noise level as the network is told it.
            condition: with the parts that the network was built for.

        Returns:
            (B, outputs * out_channels, H, W).
        """
        vector, context, concat = parts(condition, self.vector_width, self.context_width, self.concat_width)
        modulation = self.modulation(F.silu(self.embedding(noise, vector)))
        modulations = iter(modulation.split(self.modulations, dim=1))
        seen = self.features(x) if concat is None else torch.cat([self.features(x), concat], dim=1)
        h = self.first(seen).contiguous(memory_format=torch.channels_last)
        bridges = [h]
        for level in self.down:
            made, seen = level(bridges[-1], seen, modulations, context)
            bridges += made
        h = bridges[-1]
        for cell in self.middle:
            h = cell(h, modulations, context)
        for level in self.up:
            h = level(h, bridges, modulations, context)
        return self.last(F.silu(self.norm(h)))


def level_sides(shape: Sequence[int], multipliers: Sequence[int]) -> list[int]:
    """The longer side of each level's feature maps, e.g. [28, 14, 7]."""
    if len(shape) != 3:
        raise UserError(f"a U-Net needs data of shape (channels, height, width), not {tuple(shape)}: try network=mlp")
    halvings = len(multipliers) - 1
    _, height, width = shape
    if height % 2**halvings or width % 2**halvings:
        most = max(n for n in range(halvings) if height % 2**n == width % 2**n == 0)
        raise UserError(
            f"data of {height}x{width} cannot be halved {halvings} times, as network.multipliers={list(multipliers)} "
            f"asks: give at most {most + 1} multipliers, or sides divisible by {2**halvings}"
        )
    return [max(height, width) >> level for level in range(halvings + 1)]
