"""The noise that data are made of: z ~ N(0, I), or uniform in [-1, 1].

References:
    Generative Adversarial Nets (Goodfellow et al., 2014).
    Unsupervised Representation Learning with Deep Convolutional GANs (Radford, Metz & Chintala, 2016), section 4.
"""

from abc import ABC, abstractmethod

from torch import Tensor

from genlab.core.rng import Rng


class Noise(ABC):
    """A distribution of vectors.

    Arguments:
        size: their length.
    """

    def __init__(self, size: int = 100) -> None:
        if size < 1:
            raise ValueError(f"size={size} must be at least 1")
        self.size = size

    @abstractmethod
    def sample(self, rng: Rng) -> Tensor:
        """z (B, size)."""


class NormalNoise(Noise):
    """Independent standard normal numbers."""

    def sample(self, rng: Rng) -> Tensor:
        return rng.normal(self.size)


class UniformNoise(Noise):
    """Independent numbers, uniform in [-1, 1]."""

    def sample(self, rng: Rng) -> Tensor:
        return 2 * rng.uniform(self.size) - 1
