"""What noise is distributed like.

    standard normal   log p(z) = -1/2 sum_i (z_i^2 + log 2 pi)
    logistic          log p(z) = -sum_i log (1 + exp(z_i)) + log (1 + exp(-z_i))
    conditional       N(mu(c), exp(2 s(c))),  mu and s affine in the context c

At temperature T samples are drawn with T times the deviation from the mean.

References:
    NICE: Non-linear Independent Components Estimation (Dinh, Krueger & Bengio, 2015), section 3.4.
    Glow: Generative Flow with Invertible 1x1 Convolutions (Kingma & Dhariwal, 2018), section 5 for the temperature.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.networks.layers import linear


def log_normal(z: Tensor) -> Tensor:
    """log N(z; 0, I) of z (B, D), (B,)."""
    return -(z.square() + math.log(2 * math.pi)).sum(1) / 2


class Base(nn.Module, ABC):
    """p(z) of vectors z (B, D).

    Attributes:
        vector: the width of the context that it hears, 0 for none.
    """

    vector: int = 0

    @abstractmethod
    def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """log p(z) in nats, (B,).

        Arguments:
            context: (B, vector).
        """

    @abstractmethod
    def sample(self, rng: Rng, size: int, context: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """z (B, size) at this temperature, one a row of `rng`."""


class StandardNormal(Base):
    """N(0, I)."""

    def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return log_normal(z)

    def sample(self, rng: Rng, size: int, context: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        return temperature * rng.normal(size)


class Logistic(Base):
    """Independent numbers of the standard logistic distribution, as NICE has them."""

    def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return (F.logsigmoid(z) + F.logsigmoid(-z)).sum(1)

    def sample(self, rng: Rng, size: int, context: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        u = rng.uniform(size, dtype=torch.float64)
        return (temperature * (u.log() - (-u).log1p())).float()


class ConditionalNormal(Base):
    """A normal distribution of independent numbers for each context, N(0, I) at first: of a class, for example.

    Arguments:
        shape: of a datum; z has as many numbers.
        vector: the width of the context.
    """

    def __init__(self, shape: Sequence[int], vector: int) -> None:
        super().__init__()
        if vector < 1:
            raise UserError("vector=0: it needs a condition and has none; choose conditioner=label")
        self.vector = vector
        self.normal = linear(vector, 2 * math.prod(shape), scale=0)

    def _normal(self, context: Tensor | None) -> tuple[Tensor, Tensor]:
        assert context is not None, "a conditional base needs its context"
        mean, log_scale = self.normal(context).chunk(2, dim=1)
        return mean, log_scale

    def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        mean, log_scale = (part.to(z.dtype) for part in self._normal(context))
        return log_normal((z - mean) * (-log_scale).exp()) - log_scale.sum(1)

    def sample(self, rng: Rng, size: int, context: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        mean, log_scale = self._normal(context)
        return mean + temperature * log_scale.exp() * rng.normal(size, dtype=mean.dtype)
