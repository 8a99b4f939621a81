"""What the generator's loss is given besides.

References:
    Analyzing and Improving the Image Quality of StyleGAN (Karras et al., 2020), section 3.
"""

from abc import abstractmethod

from torch import Tensor, nn

from genlab.core.rng import Rng
from genlab.models.adversarial.noise import Noise
from genlab.networks.adversarial.contract import Generator
from genlab.networks.condition import Condition


class Regularizer(nn.Module):
    """A demand on what the generator makes of noise.

    Attributes:
        every: it counts in every so many steps, and so many times as much.
    """

    every: int = 1

    @abstractmethod
    def forward(self, generator: Generator, noise: Noise, condition: Condition | None, rng: Rng) -> Tensor:
        """A scalar; `condition` is of as many rows as `rng` has."""

    def after_step(self) -> None:
        """Called after each of the generator's steps."""

    def shown(self) -> dict[str, Tensor]:
        """What it has come to, to be logged."""
        return {}
