"""Independent normal elements.

    p(x_i | mu, s) = N(x_i; mu_i, s_i^2),    or where the data have levels its mass on the level's bin

One scale that is learned for all elements weighs reconstruction against divergence as the data would have it.

References:
    Auto-Encoding Variational Bayes (Kingma & Welling, 2014), appendix C.2.
    Simple and Effective VAE Training with Calibrated Decoders (Rybkin, Daniilidis & Levine, 2021), the shared
    scale.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.outputs.bins import log_normal_bin, nearest_level
from genlab.models.outputs.output import Output


class Gaussian(Output):
    """A normal distribution for each element.

    Arguments:
        shape: (C, *) of a datum.
        levels: that it takes; None is real data, and a density.
        scale: the standard deviation: a number, "shared" for one that is learned, or "learned" for one an element that
            the network says.
        bounds: of the logarithm of a scale that is learned, so that it cannot collapse. They are soft: a scale near one
            of them still has gradients.

    The parameters are C means, and where the scale is "learned" C logarithms of scales behind them. The mean of data
    with levels is that of the normal distribution, kept in [-1, 1].
    """

    def __init__(
        self,
        shape: Sequence[int],
        levels: int | None = None,
        scale: float | Literal["shared", "learned"] = "shared",
        bounds: Sequence[float] = (-7.0, 7.0),
    ) -> None:
        super().__init__()
        if levels is not None and levels < 2:
            raise UserError(f"levels must be at least 2, or null for a density, not {levels}")
        if not isinstance(scale, str) and not 0 < scale < math.inf:
            raise ValueError(f"scale must be a positive number, shared or learned, not {scale}")
        if len(bounds) != 2 or not -20 <= bounds[0] < bounds[1] <= 20:
            raise ValueError(f"bounds must be two rising numbers within -20 and 20, not {list(bounds)}")
        self.levels, self.scale, self.bounds = levels, scale, tuple(bounds)
        self.features = (2 if scale == "learned" else 1) * shape[0]
        self.by_channel = scale != "learned"
        if scale == "shared":
            self.log_scale = nn.Parameter(torch.zeros(()))

    def split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, C, *), and the logarithm of the scale, of that shape or of none."""
        if not isinstance(self.scale, str):
            return parameters, parameters.new_full((), math.log(self.scale))
        mean, log_scale = parameters.chunk(2, 1) if self.scale == "learned" else (parameters, self.log_scale)
        low, high = self.bounds
        return mean, low + F.softplus(high - F.softplus(high - log_scale) - low)

    def log_probs(self, parameters: Tensor, x: Tensor) -> Tensor:
        mean, log_scale = self.split(parameters)
        if self.levels is not None:
            return log_normal_bin(x, mean, log_scale, self.levels).sum(1)
        squared = (x - mean).square() * (-2 * log_scale).exp()
        return -(squared / 2 + log_scale + math.log(2 * math.pi) / 2).sum(1)

    def mean(self, parameters: Tensor) -> Tensor:
        mean, _ = self.split(parameters)
        return mean if self.levels is None else mean.clamp(-1, 1)

    def sample(self, parameters: Tensor, rng: Rng, temperature: float = 1.0) -> Tensor:
        mean, log_scale = self.split(parameters)
        x = mean + temperature * log_scale.exp() * rng.normal_like(mean)
        return x if self.levels is None else nearest_level(x, self.levels)
