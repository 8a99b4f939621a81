"""Independent elements with Laplace's distribution, under which an error costs its size.

    p(x_i | m, s) = exp(-|x_i - m_i| / s) / 2 s,    or where the data have levels its mass on the level's bin

A bin reaches half way to the neighbouring levels, the outermost ones reach to infinity, and its mass is found such that
nothing cancels: with the bin [c - h, c + h] in units of s from the mean, moved to the mean's left by symmetry,

    exp(c) sinh(h)              where it lies on one side of the mean
    1 - exp(-h) cosh(c)         where the mean lies within

References:
    High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), whose code has |x - m| and
    one scale for all elements.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.units import half_bin
from genlab.models.outputs.bins import nearest_level
from genlab.models.outputs.output import Output

# A learned log s is so many times its weight. Adam moves a weight by about the learning rate in a step, and log s has
# far to go: from a scale of 1 to the few hundredths that errors of images are.
PACE = 10


def log_laplace_bin(x: Tensor, mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """log of the mass of Laplace's distribution on the bin of each level x; all broadcast together."""
    width = half_bin(levels)
    inverse = (-log_scale).exp()
    lowest, highest = x < -1 + width, x > 1 - width
    c, h = (x - mean) * inverse, width * inverse
    # The distance of an open bin's only edge, above 0 where the mean lies within.
    edge = torch.where(lowest, c, -c) + h
    inside = torch.log1p(-(-edge.clamp(min=0)).exp() / 2)
    is_open = torch.where(edge > 0, inside, edge.clamp(max=0) - math.log(2))
    c = -c.abs()
    one_side = c + h + torch.log1p(-(-2 * h).exp()) - math.log(2)
    # log cosh(c), which is below h where the mean lies within; elsewhere the bound keeps the gradients finite.
    within = torch.minimum(F.softplus(2 * c) - c - math.log(2) - h, -0.1 * h)
    closed = torch.where(c + h > 0, (-torch.expm1(within)).log(), one_side)
    return torch.where(lowest | highest, is_open, closed)


class Laplace(Output):
    """Laplace's distribution for each element, whose median the network says.

    Arguments:
        shape: (C, *) of a datum.
        levels: that it takes; None is real data, and a density.
        scale: s: a number, or "shared" for one that is learned.
        bounds: of the logarithm of a scale that is learned, so that it cannot collapse; they are soft.

    The parameters are C medians. The mean of data with levels is that of the real distribution, kept in [-1, 1].
    """

    by_channel = True

    def __init__(
        self,
        shape: Sequence[int],
        levels: int | None = None,
        scale: float | Literal["shared"] = "shared",
        bounds: Sequence[float] = (-7.0, 7.0),
    ) -> None:
        super().__init__()
        if levels is not None and levels < 2:
            raise UserError(f"levels must be at least 2, or null for a density, not {levels}")
        if not isinstance(scale, str) and not 0 < scale < math.inf:
            raise ValueError(f"scale must be a positive number or shared, not {scale}")
        if len(bounds) != 2 or not -20 <= bounds[0] < bounds[1] <= 20:
            raise ValueError(f"bounds must be two rising numbers within -20 and 20, not {list(bounds)}")
        self.levels, self.scale, self.bounds = levels, scale, tuple(bounds)
        self.features = shape[0]
        if isinstance(scale, str):
            self.log_scale = nn.Parameter(torch.zeros(()))

    def spread(self, parameters: Tensor) -> Tensor:
        """log s, of no shape."""
        if not isinstance(self.scale, str):
            return parameters.new_full((), math.log(self.scale))
        low, high = self.bounds
        return low + F.softplus(high - F.softplus(high - PACE * self.log_scale) - low)

    def log_probs(self, parameters: Tensor, x: Tensor) -> Tensor:
        log_scale = self.spread(parameters)
        if self.levels is not None:
            return log_laplace_bin(x, parameters, log_scale, self.levels).sum(1)
        return -((x - parameters).abs() * (-log_scale).exp() + log_scale + math.log(2)).sum(1)

    def mean(self, parameters: Tensor) -> Tensor:
        return parameters if self.levels is None else parameters.clamp(-1, 1)

    def sample(self, parameters: Tensor, rng: Rng, temperature: float = 1.0) -> Tensor:
        u = rng.uniform(*parameters.shape[1:], dtype=parameters.dtype) - 0.5
        x = parameters - temperature * self.spread(parameters).exp() * u.sign() * torch.log1p(-2 * u.abs())
        return x if self.levels is None else nearest_level(x, self.levels)
