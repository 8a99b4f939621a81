"""Residual networks up from noise, and down to a score.

    G: z -> (dense) -> m_0 w x h x h' -> blocks that double the sides -> norm -> relu -> conv -> x
    C: x -> blocks, the first of which halve the sides -> relu -> sum or mean over places -> s

    a block of G    x -> up(S x) + conv relu norm conv up relu norm x
    a block of C    x -> down(S x) + down conv relu norm conv relu norm x

Where data have levels a tanh keeps what is made in [-1, 1]. The first block of C sees data, and begins with its `conv`.

S is a 1x1 convolution, or nothing where channels and sides stay. `up` copies pixels, `down` takes means of 2x2; a 3x3
convolution next to one of them is one 4x4 convolution of stride 2.

The generator starts from sides that are 4 or more: 4 for 32 and 64 pixels, 7 for 28, 6 for 48. With the widths 256 and
128 and 32 pixels these are the networks of SNGAN for CIFAR-10; with 128 for both, means in the place of sums and no
spectral normalisation those of WGAN-GP.

References:
    Improved Training of Wasserstein GANs (Gulrajani et al., 2017), appendix F.
    Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018), appendix B.4.
    cGANs with Projection Discriminator (Miyato & Koyama, 2018), appendix C.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.networks.adversarial.conditional_norm import ConditionalBatchNorm
from genlab.networks.adversarial.contract import Critic, Generator, Judged
from genlab.networks.adversarial.dcgan import halvings
from genlab.networks.adversarial.head import WRAPS, Head, Wrap, plain
from genlab.networks.adversarial.mlp import beside
from genlab.networks.condition import Condition
from genlab.networks.layers import GroupNorm, at_least_one

WIDE = math.sqrt(2)
"""The gain of first weights before a relu."""


def started(layer: nn.Conv2d | nn.Linear, gain: float = 1.0) -> None:
    """First weights as published: uniform, of a variance by the mean of inputs and outputs."""
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def conv(inputs: int, outputs: int, kernel: int, gain: float, wrap: Wrap = plain) -> nn.Conv2d:
    """A convolution that keeps the sides."""
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    started(layer, gain)
    # It changes the layer itself.
    wrap(layer)
    return layer


def enlarged(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """A 3x3 convolution of x (B, C, H, W) whose pixels are copied to 2x2."""
    w = F.pad(layer.weight.flip(2, 3).transpose(0, 1), (1, 1, 1, 1))
    rows = w[:, :, 1:] + w[:, :, :-1]
    return F.conv_transpose2d(x, rows[..., 1:] + rows[..., :-1], layer.bias, stride=2, padding=1)


def reduced(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """The means over 2x2 of a 3x3 convolution of x (B, C, H, W)."""
    w = F.pad(layer.weight, (1, 1, 1, 1))
    rows = w[:, :, 1:] + w[:, :, :-1]
    return F.conv2d(x, (rows[..., 1:] + rows[..., :-1]) / 4, layer.bias, stride=2, padding=1)


class UpBlock(nn.Module):
    """A block that doubles the sides.

    Arguments:
        inputs, outputs: the channels before and after.
        norms: what is done before each relu.
    """

    def __init__(self, inputs: int, outputs: int, norms: tuple[nn.Module, nn.Module]) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = norms
        self.conv_1 = conv(inputs, outputs, 3, WIDE)
        self.conv_2 = conv(outputs, outputs, 3, WIDE)
        self.short = conv(inputs, outputs, 1, 1.0)

    def forward(self, x: Tensor, condition: Condition | None) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, 2H, 2W)."""
        h = enlarged(self.norm_1(x, condition).relu(), self.conv_1)
        h = self.conv_2(self.norm_2(h, condition).relu())
        return h + F.interpolate(self.short(x), scale_factor=2.0, mode="nearest")


class DownBlock(nn.Module):
    """A block of the critic.

    Arguments:
        inputs, outputs: the channels before and after.
        down: it halves the sides.
        norms: what is done before each relu; that before the first is None where x are data.
        wrap: what is done to layers.
    """

    def __init__(
        self, inputs: int, outputs: int, down: bool, norms: tuple[nn.Module | None, nn.Module], wrap: Wrap
    ) -> None:
        super().__init__()
        hidden = outputs if norms[0] is None else inputs
        self.down = down
        self.norm_1, self.norm_2 = norms
        self.conv_1 = conv(inputs, hidden, 3, WIDE, wrap)
        self.conv_2 = conv(hidden, outputs, 3, WIDE, wrap)
        self.short = conv(inputs, outputs, 1, 1.0, wrap) if down or inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W) or half of these sides."""
        h = x if self.norm_1 is None else self.norm_1(x).relu()
        h = self.norm_2(self.conv_1(h)).relu()
        if self.down:
            h, x = reduced(h, self.conv_2), F.avg_pool2d(x, 2)
        else:
            h = self.conv_2(h)
        return h + (x if self.short is None else self.short(x))


class Unnormalised(nn.Module):
    """In the place of a norm that is told a condition."""

    def forward(self, x: Tensor, condition: Condition | None) -> Tensor:
        return x


class ResNetGenerator(Generator):
    """From noise to images.

    Arguments:
        shape: (C, H, W) of a datum.
        levels: that data take; a tanh then keeps what is made in [-1, 1]. None for data without bounds.
        size: of the noise.
        width: w.
        multipliers: m_0, m_1, ... the channels of the first maps and of each block's, by w; None for 1 everywhere.
        norm: "conditional": by batch, with the condition's gains and biases where there is a condition; "batch" or
            "none": the condition stands beside the noise instead.
        vector: the width of condition.vector, 0 for none.

    Raises UserError where it cannot make such sides.
    """

    def __init__(
        self,
        shape: Sequence[int],
        levels: int | None,
        size: int,
        width: int = 256,
        multipliers: Sequence[int] | None = None,
        norm: Literal["conditional", "batch", "none"] = "conditional",
        vector: int = 0,
    ) -> None:
        super().__init__()
        count = halvings(shape, "generator")
        multipliers = [1] * (count + 1) if multipliers is None else list(multipliers)
        if len(multipliers) != count + 1:
            raise UserError(
                f"generator.multipliers={multipliers}: {shape[1]}x{shape[2]} pixels take {count + 1}, of the first "
                f"maps and of {count} blocks"
            )
        at_least_one(width=width, multipliers=min(multipliers))
        if norm not in ("conditional", "batch", "none"):
            raise UserError(f"generator.norm={norm} must be conditional, batch or none")
        self.told = norm == "conditional"
        widths = [m * width for m in multipliers]
        first = (widths[0], *(side >> count for side in shape[1:]))

        def normed(channels: int) -> nn.Module:
            return Unnormalised() if norm == "none" else ConditionalBatchNorm(channels, vector if self.told else 0)

        inputs = size if self.told else size + vector
        self.dense = nn.Linear(inputs, math.prod(first))
        started(self.dense)
        self.unflatten = nn.Unflatten(1, first)
        self.blocks = nn.ModuleList(UpBlock(i, o, (normed(i), normed(o))) for i, o in pairwise(widths))
        self.norm = normed(widths[-1])
        self.last = conv(widths[-1], shape[0], 3, 1.0)
        self.bounded = levels is not None

    def forward(self, z: Tensor, condition: Condition | None = None, rng: Rng | None = None) -> Tensor:
        told = condition if self.told else None
        x = self.unflatten(self.dense(z if self.told else beside(z, condition)))
        for block in self.blocks:
            x = block(x, told)
        x = self.last(self.norm(x, told).relu())
        return x.tanh() if self.bounded else x


class ResNetCritic(Critic):
    """From images to a score.

    Arguments:
        shape: (C, H, W) of a datum.
        width: w.
        multipliers: the channels after each block, by w.
        downs: how many blocks halve the sides, the first ones.
        norm: "spectral" of all weights; "layer" or "group" of what is before a relu, each of a datum alone; or "none".
        pool: "sum" or "mean" over places.
        minibatch: numbers of minibatch discrimination, 0 for none.
        vector: the width of condition.vector, 0 for none; the features are projected on it.

    Raises UserError for sides that cannot be halved so often.
    """

    def __init__(
        self,
        shape: Sequence[int],
        width: int = 128,
        multipliers: Sequence[int] = (1, 1, 1, 1),
        downs: int = 2,
        norm: Literal["spectral", "layer", "group", "none"] = "spectral",
        pool: Literal["sum", "mean"] = "sum",
        minibatch: int = 0,
        vector: int = 0,
    ) -> None:
        super().__init__()
        if len(shape) != 3:
            raise UserError(f"critic: is for images, (channels, height, width), not {list(shape)}; take critic=mlp")
        if not multipliers:
            raise UserError("critic.multipliers=[]: there must be a block or more")
        at_least_one(width=width, multipliers=min(multipliers))
        if not 0 <= downs <= len(multipliers):
            raise UserError(f"critic.downs={downs} must be at least 0 and at most {len(multipliers)}, the blocks")
        if any(side % 2**downs for side in shape[1:]):
            raise UserError(f"critic.downs={downs}: {shape[1]}x{shape[2]} pixels cannot be halved so often; give fewer")
        if norm not in ("spectral", "layer", "group", "none"):
            raise UserError(f"critic.norm={norm} must be spectral, layer, group or none")
        if pool not in ("sum", "mean"):
            raise UserError(f"critic.pool={pool} must be sum or mean")
        wrap = WRAPS.get(norm, plain)

        def normed(channels: int) -> nn.Module:
            # The norm of a whole layer is that of one group.
            return GroupNorm(channels, 1 if norm == "layer" else 32) if norm in ("layer", "group") else nn.Identity()

        # In the first block nothing is normalised away of data.
        widths = [shape[0], *(m * width for m in multipliers)]
        self.blocks = nn.Sequential(
            *(
                DownBlock(i, o, number < downs, (normed(i), normed(i)) if number else (None, nn.Identity()), wrap)
                for number, (i, o) in enumerate(pairwise(widths))
            )
        )
        self.sums = pool == "sum"
        self.head = Head(widths[-1], vector, minibatch, wrap=wrap)
        self.whole_batch = minibatch > 0

    def forward(self, x: Tensor, condition: Condition | None = None) -> Judged:
        h = self.blocks(x).relu().flatten(2)
        return self.head(h.sum(2) if self.sums else h.mean(2), condition)
