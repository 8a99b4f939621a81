"""Strided convolutions down to a score, and transposed ones up from noise.

    G: z -> (dense) -> 8w x h x h' -> ... -> 2w -> w -> x (tanh where data have levels)
    C: x -> w -> 2w -> ... -> (dense) -> s

Filters are 4x4 with stride 2, so that each divides evenly, and as many layers as halve the sides to 4 or more: three
for 32 pixels (4, 8, 16, 32), four for 64, two for 28 (7, 14, 28). With width=64, dense=1024 and 28 pixels these are the
networks of InfoGAN, in which GANs of many kinds were compared.

References:
    Unsupervised Representation Learning with Deep Convolutional GANs (Radford, Metz & Chintala, 2016), section 3.
    InfoGAN (Chen et al., 2016), appendix C.1.
    Are GANs Created Equal? A Large-Scale Study (Lucic et al., 2018), appendix F.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.networks.adversarial.contract import Critic, Generator, Judged
from genlab.networks.adversarial.head import WRAPS, Head, plain
from genlab.networks.adversarial.mlp import beside
from genlab.networks.condition import Condition
from genlab.networks.layers import GroupNorm, at_least_one

DEVIATION = 0.02
"""Of first weights."""

SMALLEST = 4


def halvings(shape: Sequence[int], part: str) -> int:
    """How often the sides of (C, H, W) can be halved with 4 pixels left.

    Raises UserError where they cannot.
    """
    if len(shape) != 3:
        raise UserError(f"{part}: is for images, (channels, height, width), not {list(shape)}; take {part}=mlp")
    count, sides = 0, list(shape[1:])
    while all(side % 2 == 0 and side // 2 >= SMALLEST for side in sides):
        sides, count = [side // 2 for side in sides], count + 1
    if count == 0:
        raise UserError(
            f"{part}: cannot make {shape[1]}x{shape[2]} pixels, which must be even and at least 8; pad the data "
            f"(data.pad=32), or take {part}=mlp"
        )
    return count


def started(module: nn.Module) -> None:
    """First weights as published: normal, of deviation 0.02; gains about 1."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, 0.0, DEVIATION)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, DEVIATION)


class DCGANGenerator(Generator):
    """From noise to images.

    Arguments:
        shape: (C, H, W) of a datum.
        levels: that data take; a tanh then keeps what is made in [-1, 1]. None for data without bounds.
        size: of the noise.
        width: w, the channels of the largest maps.
        dense: the width of a layer before the maps; None for none.
        norm: "batch" or "none".
        vector: the width of condition.vector, 0 for none; it stands beside the noise.

    Raises UserError where it cannot make such sides.
    """

    def __init__(
        self,
        shape: Sequence[int],
        levels: int | None,
        size: int,
        width: int = 64,
        dense: int | None = None,
        norm: Literal["batch", "none"] = "batch",
        vector: int = 0,
    ) -> None:
        super().__init__()
        at_least_one(width=width, **({} if dense is None else {"dense": dense}))
        count = halvings(shape, "generator")
        widths = [width * 2**i for i in reversed(range(count))]
        first = (widths[0], *(side >> count for side in shape[1:]))
        batch, now = norm == "batch", size + vector
        parts: list[nn.Module] = []
        for out in (dense, math.prod(first)):
            if out is not None:
                parts += [nn.Linear(now, out, bias=not batch), *([nn.BatchNorm1d(out)] if batch else []), nn.ReLU()]
                now = out
        parts.append(nn.Unflatten(1, first))
        for inputs, outputs in pairwise(widths):
            parts.append(nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=not batch))
            parts += [*([nn.BatchNorm2d(outputs)] if batch else []), nn.ReLU()]
        self.layers = nn.Sequential(*parts, nn.ConvTranspose2d(widths[-1], shape[0], 4, 2, 1))
        self.bounded = levels is not None
        started(self)

    def forward(self, z: Tensor, condition: Condition | None = None, rng: Rng | None = None) -> Tensor:
        x = self.layers(beside(z, condition))
        return x.tanh() if self.bounded else x


class DCGANCritic(Critic):
    """From images to a score.

    Arguments:
        shape: (C, H, W) of a datum.
        width: w, the channels of the first maps.
        dense: the width of a layer after the maps; None for none.
        norm: "batch", "group", "spectral" or "none".
        minibatch: numbers of minibatch discrimination, 0 for none.
        vector: the width of condition.vector, 0 for none; the features are projected on it.

    Raises UserError for sides that cannot be halved.
    """

    def __init__(
        self,
        shape: Sequence[int],
        width: int = 64,
        dense: int | None = None,
        norm: Literal["batch", "group", "spectral", "none"] = "batch",
        minibatch: int = 0,
        vector: int = 0,
    ) -> None:
        super().__init__()
        at_least_one(width=width, **({} if dense is None else {"dense": dense}))
        count, wrap = halvings(shape, "critic"), WRAPS.get(norm, plain)
        bias, widths = norm != "batch", [width * 2**i for i in range(count)]
        # The first layer sees data, which are not to be normalised away.
        parts: list[nn.Module] = [nn.Conv2d(shape[0], width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for inputs, outputs in pairwise(widths):
            parts.append(nn.Conv2d(inputs, outputs, 4, 2, 1, bias=bias))
            parts += [*self._norm(norm, outputs), nn.LeakyReLU(0.2)]
        parts.append(nn.Flatten())
        now = widths[-1] * math.prod(side >> count for side in shape[1:])
        if dense is not None:
            parts.append(nn.Linear(now, dense, bias=bias))
            parts += [nn.BatchNorm1d(dense)] if norm == "batch" else []
            parts, now = [*parts, nn.LeakyReLU(0.2)], dense
        self.layers = nn.Sequential(*parts)
        started(self)
        weighty = (nn.Conv2d, nn.Linear)
        self.layers = nn.Sequential(*(wrap(layer) if isinstance(layer, weighty) else layer for layer in parts))
        self.head = Head(now, vector, minibatch, wrap=wrap)
        self.whole_batch = minibatch > 0 or norm == "batch"

    @staticmethod
    def _norm(norm: str, channels: int) -> list[nn.Module]:
        if norm == "batch":
            return [nn.BatchNorm2d(channels)]
        return [GroupNorm(channels)] if norm == "group" else []

    def forward(self, x: Tensor, condition: Condition | None = None) -> Judged:
        return self.head(self.layers(x), condition)
