"""RealNVP: affine couplings, on images at several scales and on vectors.

    images    (checkerboard x 3, squeeze, channels x 3, split) at each scale but the last, then checkerboard x 4
    vectors   the even and the odd places in turn

Each coupling but the last of a vector's is followed by a normalisation. Of the four corners of each square two opposite
ones stay at a split, so that the rest is the image on a checkerboard.

References:
    Density Estimation using Real NVP (Dinh, Sohl-Dickstein & Bengio, 2017), sections 3.4 to 3.7 and 4.1.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.flow.actnorm import ActNorm
from genlab.models.flow.batch_norm import BatchNorm
from genlab.models.flow.coupling import Alternate, Checkerboard, Coupling, Halves
from genlab.models.flow.elementwise import TanhAffine
from genlab.models.flow.permutation import Permutation
from genlab.models.flow.split import Split
from genlab.models.flow.squeeze import Squeeze, check_sides, corners_together
from genlab.models.flow.transform import Composition, Flatten, Mapped, MultiScale, Shape, Transform
from genlab.networks.coupling_nets import Dense, ResidualConv
from genlab.networks.layers import at_least_one

Norm = Literal["batch", "act", "none"]
NORMS: dict[str, Callable[[int], list[Transform]]] = {
    "batch": lambda channels: [BatchNorm(channels)],
    "act": lambda channels: [ActNorm(channels)],
    "none": lambda channels: [],
}


def image_couplings(
    kind: type[Checkerboard] | type[Halves], count: int, channels: int, width: int, blocks: int, norm: Norm, vector: int
) -> list[Transform]:
    """Affine couplings with residual networks that keep the two parts in turn, each with its normalisation."""
    made: list[Transform] = []
    for i in range(count):
        partition = kind(channels, i % 2 == 1)
        network = partial(ResidualConv, width=width, blocks=blocks, context=vector)
        made += [Coupling(partition, TanhAffine(partition.changed), network, vector), *NORMS[norm](channels)]
    return made


class CheckerboardFlow(Transform):
    """Checkerboard couplings at one scale: small enough to be the noise of a variational dequantization.

    Arguments:
        shape: (C, H, W) of a datum.
        couplings: how many.
        width, blocks: of a coupling's residual network.
        vector: the width of the context that couplings hear; C where it is the image itself.
    """

    def __init__(
        self, shape: Sequence[int], couplings: int = 4, width: int = 32, blocks: int = 1, vector: int = 0
    ) -> None:
        super().__init__()
        at_least_one(couplings=couplings)
        check_sides(shape, 0, "couplings", couplings)
        self.vector = vector
        self.steps = Composition(image_couplings(Checkerboard, couplings, shape[0], width, blocks, "none", vector))

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return self.steps(x, context, rng)

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return self.steps.inverse(z, context, rng)


class RealNVP(Transform):
    """The multi-scale model of images.

    Arguments:
        shape: (C, H, W) of a datum, with sides that can be halved scales - 1 times.
        scales: how many; published are two for CIFAR-10, and else as many as leave 4x4 pixels to the last.
        width: of the residual networks at the first scale, doubled with each squeeze: 64 for CIFAR-10, else 32.
        blocks: of a residual network: 8 for CIFAR-10, 4 for other 32x32 images, 2 for 64x64.
        norm: after each coupling: "batch" as published, "act" (Glow's) or "none".
        vector: the width of the context that couplings hear, 0 for none.

    Raises UserError where the data are no images, or their sides cannot be halved so often.
    """

    def __init__(
        self,
        shape: Sequence[int],
        scales: int = 2,
        width: int = 32,
        blocks: int = 4,
        norm: Norm = "batch",
        vector: int = 0,
    ) -> None:
        super().__init__()
        at_least_one(scales=scales, width=width, blocks=blocks)
        check_sides(shape, scales - 1, "scales", scales)
        self.vector = vector
        levels, splits, channels = [], [], shape[0]
        for _ in range(scales - 1):
            before = image_couplings(Checkerboard, 3, channels, width, blocks, norm, vector)
            order = corners_together(channels)
            channels, width = 4 * channels, 2 * width
            after = image_couplings(Halves, 3, channels, width, blocks, norm, vector)
            levels.append(Composition([*before, Squeeze(), *after, Permutation(order)]))
            splits.append(Split(channels))
            channels //= 2
        levels.append(Composition(image_couplings(Checkerboard, 4, channels, width, blocks, norm, vector)))
        self.levels = MultiScale(shape, levels, splits)

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return self.levels(x, context, rng)

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return self.levels.inverse(z, context, rng)

    def out_shape(self, shape: Shape) -> Shape:
        return self.levels.out_shape(shape)


class RealNVPVector(Transform):
    """The model of vectors, to which data of any shape are one.

    Arguments:
        shape: of a datum, with two dimensions or more.
        couplings: how many.
        hidden: the widths of a coupling's layers.
        norm: between couplings: "batch", "act" or "none".
        vector: the width of the context that couplings hear, 0 for none.
    """

    def __init__(
        self,
        shape: Sequence[int],
        couplings: int = 8,
        hidden: Sequence[int] = (128, 128),
        norm: Norm = "act",
        vector: int = 0,
    ) -> None:
        super().__init__()
        at_least_one(couplings=couplings)
        size, self.vector = math.prod(shape), vector
        network = partial(Dense, hidden=hidden, context=vector)
        steps: list[Transform] = [Flatten(shape)]
        for i in range(couplings):
            partition = Alternate(size, i % 2 == 1)
            steps += NORMS[norm](size) if i else []
            steps.append(Coupling(partition, TanhAffine(partition.changed), network, vector))
        self.steps = Composition(steps)

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return self.steps(x, context, rng)

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return self.steps.inverse(z, context, rng)

    def out_shape(self, shape: Shape) -> Shape:
        return self.steps.out_shape(shape)
