"""From fair coins to data, bit by bit, by the model's own reverse steps.

    x_s ~ p(x_s | x_t) = sum_{x_0} q(x_s | x_t, x_0) p(x_0 | x_t)

References:
    Deep Unsupervised Learning using Nonequilibrium Thermodynamics (Sohl-Dickstein et al., 2015), section 2.2.
"""

from itertools import pairwise

import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.contract import Watch
from genlab.models.diffusion.bits import Beliefs, reverse_log_probabilities
from genlab.models.diffusion.samplers.spacing import Spacing, spaced_times
from genlab.models.diffusion.schedule import Schedule


class AncestralBits:
    """Every step of the table, or fewer and longer ones: the posterior is known between any two of its times.

    Bits of one step are drawn independently, so what few steps cost is how the bits go together.

    Arguments:
        steps: how many; None is every step that the model's table has.
        spacing: which times are passed, see `genlab.models.diffusion.samplers.spacing`.
    """

    name = "ancestral_bits"

    def __init__(self, steps: int | None = None, spacing: Spacing = "trailing") -> None:
        if steps is not None and steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        self.steps, self.spacing = steps, spacing

    def times(self, schedule: Schedule) -> Tensor:
        """(N + 1,) in double, falling to 0."""
        return spaced_times(schedule, self.spacing, self.steps)

    def evaluations(self, schedule: Schedule) -> int:
        """NFE: how often the network is called for one batch.

        Raises UserError where the schedule does not have the steps that the sampler takes.
        """
        return len(self.times(schedule)) - 1

    def __call__(
        self, schedule: Schedule, beliefs: Beliefs, x_1: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        """From coins x_1 (B, *) to a sample of the data, bits of -1 and 1.

        Arguments:
            rng: one row a sample.
            watch: sees x_1 and the state after each step.
        """
        times, x, rng = self.times(schedule).to(x_1.device), x_1, rng.stage("sampler")
        if watch is not None:
            watch(0.0, x)
        for i, (t, s) in enumerate(pairwise(times)):
            one, _ = reverse_log_probabilities(schedule, x, beliefs(x, t), t, s)
            drawn = rng.uniform(*x.shape[1:], dtype=torch.float64) < one.exp()
            x = torch.where(drawn, torch.ones_like(x), -torch.ones_like(x))
            if watch is not None:
                watch((i + 1) / (len(times) - 1), x)
        return x
