"""What is done alike to data and to what is made before the critic sees them.

    instance noise    x + sigma(n) eps,    sigma(n) = sigma max(0, 1 - n / steps)

Noise gives the two distributions supports that overlap, so that no critic tells them apart without error.

References:
    Amortised MAP Inference for Image Super-resolution (Sonderby et al., 2017), section 2.3, instance noise.
    Towards Principled Methods for Training Generative Adversarial Networks (Arjovsky & Bottou, 2017), section 3.
"""

import math
from abc import abstractmethod

from torch import Tensor, nn

from genlab.core.rng import Rng


class Augmentation(nn.Module):
    """A random change of what a critic sees, through which gradients pass.

    Attributes:
        adapts: it looks at scores, which then must say more than which of two is higher.
    """

    adapts: bool = False

    @abstractmethod
    def forward(self, x: Tensor, rng: Rng, step: int) -> Tensor:
        """x (B, *) changed; `step` is that of training."""

    def observe(self, score: Tensor) -> None:
        """Told in each of the critic's turns its scores (B,) of data, above 0 where it takes them to be real."""

    def after_step(self) -> None:
        """Called after each of the critic's steps."""

    def shown(self) -> dict[str, Tensor]:
        """What it has come to, to be logged."""
        return {}


class InstanceNoise(Augmentation):
    """Normal noise that fades.

    Arguments:
        sigma: its deviation in the first step.
        steps: after which there is none; None keeps it as it is.
    """

    def __init__(self, sigma: float = 0.1, steps: int | None = None) -> None:
        super().__init__()
        if not 0 < sigma < math.inf:
            raise ValueError(f"sigma={sigma} must be a number above 0; model.augment=null is none")
        if steps is not None and steps < 1:
            raise ValueError(f"steps={steps} must be at least 1, or null for noise that stays")
        self.sigma, self.steps = sigma, steps

    def forward(self, x: Tensor, rng: Rng, step: int) -> Tensor:
        sigma = self.sigma if self.steps is None else self.sigma * max(0.0, 1 - step / self.steps)
        return x + sigma * rng.normal_like(x) if sigma else x
