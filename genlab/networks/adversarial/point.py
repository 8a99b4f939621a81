"""The smallest players: a generator that is a point, and a critic that is a direction.

    G(z) = theta,    C(x) = psi . x

On data that are the origin alone, with the objective of Wasserstein, they play the bilinear game min max psi . theta,
whose one equilibrium is (0, 0). There descent and ascent at once spiral outwards, by turns they circle for ever, and
with a step ahead (optimism), or where the critic's slope costs something, they arrive.

References:
    Which Training Methods for GANs do actually Converge? (Mescheder, Geiger & Nowozin, 2018), section 2, the Dirac-GAN.
    Training GANs with Optimism (Daskalakis et al., 2018), section 2.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genlab.core.rng import Rng
from genlab.networks.adversarial.contract import Critic, Generator, Judged
from genlab.networks.condition import Condition


class PointGenerator(Generator):
    """A point that is learnt, whatever the noise.

    Arguments:
        shape: of a datum.
        start: each of its numbers, before the first step.
    """

    def __init__(self, shape: Sequence[int], start: float = 1.0) -> None:
        super().__init__()
        self.point = nn.Parameter(torch.full(tuple(shape), float(start)))

    def forward(self, z: Tensor, condition: Condition | None = None, rng: Rng | None = None) -> Tensor:
        return self.point.expand(len(z), *self.point.shape)


class LinearCritic(Critic):
    """A direction in which data are more likely to lie than what is made.

    Arguments:
        shape: of a datum.
        start: each of its numbers, before the first step.
    """

    def __init__(self, shape: Sequence[int], start: float = 1.0) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.full(tuple(shape), float(start)))

    def forward(self, x: Tensor, condition: Condition | None = None) -> Judged:
        return Judged((x * self.direction).flatten(1).sum(1), x.flatten(1))
