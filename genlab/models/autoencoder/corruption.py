"""Noise that an autoencoder learns to take away.

    gaussian           x + s eps,    eps ~ N(0, I)
    masking            each value is `value` with probability p
    salt and pepper    each value is -1 or 1, with probability p / 2 each

Values are pixels here: all channels of a place fare alike.

References:
    Stacked Denoising Autoencoders: Learning Useful Representations in a Deep Network with a Local Denoising Criterion
    (Vincent et al., 2010), section 4.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from genlab.core.rng import Rng


class Corruption(ABC):
    """What is done to data before an autoencoder sees them."""

    @abstractmethod
    def __call__(self, x: Tensor, rng: Rng) -> Tensor:
        """The corrupted x (B, C, *), of the same shape."""


def _probability(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"probability must be in [0, 1], not {value}")
    return value


def _places(x: Tensor, rng: Rng) -> Tensor:
    """A uniform number for each place, (B, 1, *), or for each number where data are vectors (B, C)."""
    shape = x.shape[1:] if x.ndim == 2 else (1, *x.shape[2:])
    return rng.uniform(*shape).to(x)


class Gaussian(Corruption):
    """Normal noise is added.

    Arguments:
        scale: its standard deviation, s.
    """

    def __init__(self, scale: float = 0.5) -> None:
        if not 0 <= scale < math.inf:
            raise ValueError(f"scale must be a number of at least 0, not {scale}")
        self.scale = scale

    def __call__(self, x: Tensor, rng: Rng) -> Tensor:
        return x + self.scale * rng.normal_like(x)


class Masking(Corruption):
    """Some places are blotted out.

    Arguments:
        probability: p.
        value: what stands there; -1 is black.
    """

    def __init__(self, probability: float = 0.25, value: float = -1.0) -> None:
        self.probability, self.value = _probability(probability), value

    def __call__(self, x: Tensor, rng: Rng) -> Tensor:
        return torch.where(_places(x, rng) < self.probability, self.value, x)


class SaltAndPepper(Corruption):
    """Some places become black or white.

    Arguments:
        probability: p, of either together.
    """

    def __init__(self, probability: float = 0.25) -> None:
        self.probability = _probability(probability)

    def __call__(self, x: Tensor, rng: Rng) -> Tensor:
        u = _places(x, rng)
        pepper = torch.where(u < self.probability / 2, -1.0, x)
        return torch.where((u >= self.probability / 2) & (u < self.probability), 1.0, pepper)
