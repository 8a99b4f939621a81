"""Invertible maps, each with the logarithm of how much it stretches volumes.

    z = f(x),    log_det = log |det dz/dx|,    log p(x) = log p(z) + log_det

The way from data to noise is forward. Maps in a row add their logarithms; a multi-scale map gives a part of the numbers
away after each level, which saves that the rest of the levels work on them.

References:
    NICE: Non-linear Independent Components Estimation (Dinh, Krueger & Bengio, 2015).
    Density Estimation using Real NVP (Dinh, Sohl-Dickstein & Bengio, 2017), section 3.6.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from genlab.core.rng import Rng
from genlab.models.flow.split import Split

Shape = tuple[int, ...]
"""Of a datum, without the batch dimension."""

Mapped = tuple[Tensor, Tensor]
"""What a datum is mapped to, (B, *), and the logarithm of the volume's stretch, (B,)."""


class Transform(nn.Module, ABC):
    """An invertible map, from data towards noise.

    Attributes:
        vector: the width of the context that it hears, 0 for none.
    """

    vector: int = 0

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        """z and log |det dz/dx|.

        Arguments:
            x: (B, *).
            context: what is known of each datum: (B, vector), or (B, vector, H, W) beside images.
            rng: where the map adds noise, as dequantization does, one row a datum.
        """

    @abstractmethod
    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        """x and log |det dx/dz|, which is minus that of the way there."""

    def out_shape(self, shape: Shape) -> Shape:
        """The shape of z for data of this shape."""
        return shape


class Composition(Transform):
    """Maps one after another.

    Arguments:
        transforms: in the order in which data pass.
        recompute: in training, keep what goes in alone and compute the rest once more where gradients need it.
    """

    def __init__(self, transforms: Sequence[Transform], recompute: bool = False) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)
        self.recompute = recompute
        self.vector = max((transform.vector for transform in transforms), default=0)

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        if self.recompute and torch.is_grad_enabled():
            found = checkpoint(self._forward, x, context, rng, use_reentrant=False, preserve_rng_state=False)
            return cast(Mapped, found)
        return self._forward(x, context, rng)

    def _forward(self, x: Tensor, context: Tensor | None, rng: Rng | None) -> Mapped:
        total = x.new_zeros(len(x))
        for transform in self.transforms:
            x, log_det = transform(x, context, rng)
            total = total + log_det
        return x, total

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        total = z.new_zeros(len(z))
        for transform in reversed(self.transforms):
            z, log_det = cast(Transform, transform).inverse(z, context, rng)
            total = total + log_det
        return z, total

    def out_shape(self, shape: Shape) -> Shape:
        for transform in self.transforms:
            shape = cast(Transform, transform).out_shape(shape)
        return shape


class MultiScale(Transform):
    """Levels, each of which works on what those before it have kept.

        h_0 = x,    (h_i, g_i) = split_i(level_i(h_{i-1})),    z = (g_1, g_2, ..., level_L(h_{L-1}))

    z is one vector (B, D): all parts that were given away, flattened, in order, and the last level's behind them.

    Arguments:
        shape: of a datum.
        levels: L maps.
        splits: L - 1 of them, one after each level but the last.
    """

    def __init__(self, shape: Sequence[int], levels: Sequence[Transform], splits: Sequence[Split]) -> None:
        super().__init__()
        if len(splits) != len(levels) - 1:
            raise ValueError(f"splits must be one fewer than the {len(levels)} levels, not {len(splits)}")
        self.levels, self.splits = nn.ModuleList(levels), nn.ModuleList(splits)
        self.vector = max(level.vector for level in levels)
        self.shapes: list[Shape] = []
        kept = tuple(shape)
        for level, split in zip(levels[:-1], splits, strict=True):
            kept, given = split.shapes(level.out_shape(kept))
            self.shapes.append(given)
        self.shapes.append(levels[-1].out_shape(kept))
        self.sizes = [math.prod(part) for part in self.shapes]

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        total, parts = x.new_zeros(len(x)), []
        for level, split in zip(self.levels, [*self.splits, None], strict=True):
            x, log_det = level(x, context, rng)
            total = total + log_det
            if split is not None:
                x, given, log_det = split(x)
                parts.append(given.flatten(1))
                total = total + log_det
        return torch.cat([*parts, x.flatten(1)], dim=1), total

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        parts = [p.unflatten(1, s) for p, s in zip(z.split(self.sizes, dim=1), self.shapes, strict=True)]
        total, x = z.new_zeros(len(z)), parts.pop()
        for level, split in zip(reversed(self.levels), [*reversed(self.splits), None], strict=True):
            x, log_det = cast(Transform, level).inverse(x, context, rng)
            total = total + log_det
            if split is not None:
                x, log_det = cast(Split, split).inverse(x, parts.pop())
                total = total + log_det
        return x, total

    def out_shape(self, shape: Shape) -> Shape:
        return (sum(self.sizes),)


class Flatten(Transform):
    """A datum of any shape as one vector.

    Arguments:
        shape: of a datum.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return x.flatten(1), x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return z.unflatten(1, self.shape), z.new_zeros(len(z))

    def out_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)
