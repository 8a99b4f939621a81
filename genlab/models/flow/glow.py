"""Glow: L levels of a squeeze, K steps of (ActNorm, invertible 1x1 convolution, coupling), and a split.

    level_i = step_K ... step_1 squeeze,    z_L = (h_L - mu(c)) exp(-s(c))

The last line is the learned prior of the top level, a mean and a scale for each channel which hear the context c; that
of the other levels is in their splits. So the noise is standard normal throughout.

References:
    Glow: Generative Flow with Invertible 1x1 Convolutions (Kingma & Dhariwal, 2018), and its code for the priors.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from genlab.core.rng import Rng
from genlab.models.flow.actnorm import ActNorm
from genlab.models.flow.conv1x1 import Conv1x1
from genlab.models.flow.coupling import Coupling, Halves
from genlab.models.flow.elementwise import Elementwise, Shift, SigmoidAffine
from genlab.models.flow.permutation import Permutation, random_order, reversed_order
from genlab.models.flow.split import Split
from genlab.models.flow.squeeze import Squeeze, check_sides
from genlab.models.flow.transform import Composition, Mapped, MultiScale, Shape, Transform
from genlab.networks.coupling_nets import GlowConv
from genlab.networks.layers import at_least_one, linear

MIXING: dict[str, Callable[[int, int], Transform]] = {
    "lu": lambda channels, step: Conv1x1(channels),
    "plain": lambda channels, step: Conv1x1(channels, lu=False),
    "shuffle": lambda channels, step: Permutation(random_order(channels, seed=step)),
    "reverse": lambda channels, step: Permutation(reversed_order(channels)),
}
COUPLINGS: dict[str, type[Elementwise]] = {"affine": SigmoidAffine, "additive": Shift}


class TopPrior(Transform):
    """z = (x - mu) exp(-s), with a mean and a log-scale for each channel, 0 at first.

    Arguments:
        channels: of x (B, C, H, W).
        vector: the width of the context that mu and s are affine in, 0 where they are the same for all data.
    """

    def __init__(self, channels: int, vector: int = 0) -> None:
        super().__init__()
        self.vector = vector
        self.normal = nn.Parameter(torch.zeros(2 * channels))
        self.heard = linear(vector, 2 * channels, scale=0) if vector else None

    def _normal(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        normal = self.normal.expand(len(x), -1)
        if self.heard is not None:
            assert context is not None, "a conditional prior needs its context"
            normal = normal + self.heard(context).to(normal.dtype)
        mean, log_scale = normal[:, :, None, None].chunk(2, dim=1)
        return mean, log_scale

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        mean, log_scale = self._normal(x, context)
        return (x - mean) * (-log_scale).exp(), -log_scale.expand_as(x).flatten(1).sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        mean, log_scale = self._normal(z, context)
        return z * log_scale.exp() + mean, log_scale.expand_as(z).flatten(1).sum(1)


class Glow(Transform):
    """The map above.

    Arguments:
        shape: (C, H, W) of a datum, with sides that can be halved `levels` times.
        levels: L: 3 for 32x32 images.
        steps: K: 32 for 32x32 images.
        width: of a coupling's hidden layers: 512.
        coupling: "affine" or "additive".
        mixing: of the channels, by a 1x1 convolution that is learned by its factors ("lu") or as it is ("plain"), or by
            a fixed "shuffle" or "reverse".
        vector: the width of the context that the prior of the top level hears, 0 for none.
        recompute: in training, do not keep what is within a step but compute it once more: less memory, more time, and
            the same gradients.

    Raises UserError where the data are no images, or their sides cannot be halved so often.
    """

    def __init__(
        self,
        shape: Sequence[int],
        levels: int = 3,
        steps: int = 32,
        width: int = 512,
        coupling: Literal["affine", "additive"] = "affine",
        mixing: Literal["lu", "plain", "shuffle", "reverse"] = "lu",
        vector: int = 0,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        at_least_one(levels=levels, steps=steps, width=width)
        check_sides(shape, levels, "levels", levels)
        self.vector = vector
        parts: list[Transform] = []
        splits, channels = [], shape[0]
        for level in range(levels):
            channels *= 4
            made: list[Transform] = [Squeeze()]
            for step in range(steps):
                mix = MIXING[mixing](channels, level * steps + step)
                couple = Coupling(Halves(channels), COUPLINGS[coupling](), partial(GlowConv, width=width))
                made.append(Composition([ActNorm(channels), mix, couple], recompute))
            if level < levels - 1:
                splits.append(Split(channels, learned=True))
                channels //= 2
            else:
                made.append(TopPrior(channels, vector))
            parts.append(Composition(made))
        self.levels = MultiScale(shape, parts, splits)

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return self.levels(x, context, rng)

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return self.levels.inverse(z, context, rng)

    def out_shape(self, shape: Shape) -> Shape:
        return self.levels.out_shape(shape)
