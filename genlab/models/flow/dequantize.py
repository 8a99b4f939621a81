"""Noise of a level's width makes levels a density, which bounds the probability of the levels.

    y = (v + u) / L,    u ~ q(u | v) on (0, 1)^D,    log P(v) >= E_q[log p(y) - D log L - log q(u | v)]

v are the integers 0 .. L - 1 and y lies in (0, 1). What the map gives as log_det is -D log L - log q(u | v), so that
the bound is log p(y) + log_det as for any other map. Its inverse is floor(L y), which knows nothing of u.

    uniform        q = 1
    variational    u = sigmoid(f(eps; v)),  eps ~ N(0, I),  f a flow:  log q = log N(eps) - log |df/deps| - log sigmoid'

References:
    A Note on the Evaluation of Generative Models (Theis, van den Oord & Bethge, 2016), section 3.1.
    Flow++: Improving Flow-Based Generative Models with Variational Dequantization and Architecture Design (Ho et al.,
    2019), section 3.1.
"""

import math
from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.units import from_levels, half_bin, to_levels
from genlab.models.flow.base import log_normal
from genlab.models.flow.transform import Mapped, Transform


class Dequantization(Transform):
    """The map from levels in [-1, 1] to (0, 1).

    Arguments:
        levels: L.

    Raises UserError where the data have no levels and, outside training, where values lie beyond the outermost.
    """

    def __init__(self, levels: int | None) -> None:
        super().__init__()
        if levels is None:
            raise UserError(
                "levels=null: noise is for data of levels, and these are real numbers; choose preprocess=none"
            )
        if levels < 2:
            raise ValueError(f"levels must be at least 2, not {levels}")
        self.levels = levels

    @abstractmethod
    def noise(self, x: Tensor, rng: Rng | None) -> Mapped:
        """u in (0, 1) of the shape of x (B, *), and log q(u | x) (B,); one that is likely where there is no rng."""

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        # Training does not look, since a look would wait for the device.
        if not self.training and bool((x.abs() > 1 + half_bin(self.levels)).any()):
            raise UserError(
                f"data: values from {float(x.min()):.4g} to {float(x.max()):.4g} lie outside of the {self.levels} "
                "levels in [-1, 1]"
            )
        u, log_q = self.noise(x, rng)
        y = (to_levels(x, self.levels).to(x.dtype) + u) / self.levels
        return y, -x[0].numel() * math.log(self.levels) - log_q

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        v = (z * self.levels).floor().clamp(0, self.levels - 1)
        return from_levels(v, self.levels, z.dtype), z.new_full((len(z),), z[0].numel() * math.log(self.levels))


class Uniform(Dequantization):
    """q = 1; without an rng the middle of a level."""

    def noise(self, x: Tensor, rng: Rng | None) -> Mapped:
        u = torch.full_like(x, 0.5) if rng is None else rng.uniform(*x.shape[1:], dtype=x.dtype)
        return u, x.new_zeros(len(x))


class Variational(Dequantization):
    """q is a flow that sees the datum; without an rng it begins at eps = 0.

    Arguments:
        levels: L.
        flow: f, from noise of the datum's shape to the same, which hears the datum as its context.
    """

    def __init__(self, levels: int | None, flow: Transform) -> None:
        super().__init__(levels)
        self.flow = flow

    def noise(self, x: Tensor, rng: Rng | None) -> Mapped:
        eps = torch.zeros_like(x) if rng is None else rng.normal_like(x)
        a, log_det = self.flow(eps, x)
        slope = (F.logsigmoid(a) + F.logsigmoid(-a)).flatten(1).sum(1)
        return torch.sigmoid(a), log_normal(eps.flatten(1)) - log_det - slope
