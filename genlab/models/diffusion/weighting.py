"""Which times are drawn in training, and what an error at each of them counts.

The loss is E_t w(t) |eps - eps_hat|^2 / D, whatever the network predicts. w = 1 is DDPM's L_simple.

References:
    Denoising Diffusion Probabilistic Models (Ho et al., 2020), eq. 14.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from genlab.core.rng import Rng
from genlab.models.diffusion.schedule import Schedule


class Weighting(nn.Module, ABC):
    """w(t), the weight of a squared error of eps."""

    @abstractmethod
    def forward(self, schedule: Schedule, t: Tensor) -> Tensor:
        """(B,) for times (B,)."""


class Simple(Weighting):
    """w = 1: DDPM's L_simple."""

    def forward(self, schedule: Schedule, t: Tensor) -> Tensor:
        return torch.ones_like(t)


class UniformTimes(nn.Module):
    """t uniform: over i / T, i = 1 .. T, where the schedule is a table of T steps, else over (0, 1)."""

    def forward(self, schedule: Schedule, rng: Rng) -> Tensor:
        """(B,) in double, one row of `rng` each."""
        u = rng.stage("time").uniform(dtype=torch.float64)
        return u if schedule.steps is None else ((u * schedule.steps).floor() + 1) / schedule.steps
