"""Which of the T times of a table a sampler of fewer steps stops at, as step numbers 1 .. T.

    uniform    tau_i = floor(i T / S) + 1,                    i = 0 .. S - 1
    quadratic  tau_i = floor((i sqrt(0.8 T) / (S - 1))^2) + 1

Quadratic spacing can repeat a step among the first, short ones: it is taken once, so there are fewer than S steps then.
As published, the noise is then taken for x at the time 0.8.

References:
    Denoising Diffusion Implicit Models (Song et al., 2021), appendix D.2.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.models.diffusion.schedule import Schedule

Spacing = Literal["uniform", "quadratic"]


def _uniform(steps: int, total: int) -> Tensor:
    return torch.arange(steps) * total // steps


def _quadratic(steps: int, total: int) -> Tensor:
    if steps == 1:
        raise UserError("sampler.steps=1: quadratic spacing has two ends; choose at least 2, or spacing=uniform")
    last = math.sqrt(0.8 * total)
    # Rounded as numpy.linspace rounds, on which floor depends where a square is nearly whole.
    roots = torch.arange(steps, dtype=torch.float64) * (last / (steps - 1))
    roots[-1] = last
    return (roots**2).long().unique()


SPACINGS: dict[Spacing, Callable[[int, int], Tensor]] = {"uniform": _uniform, "quadratic": _quadratic}


def spaced_times(schedule: Schedule, spacing: Spacing, steps: int | None) -> Tensor:
    """The falling times (N + 1,) in double that a sampler passes, down to 0.

    Arguments:
        steps: S; None is every step of the table.
    """
    total = schedule.steps
    if total is None:
        raise UserError("sampler: this sampler follows the steps of a table, and the model's schedule is continuous")
    steps = total if steps is None else steps
    if not 1 <= steps <= total:
        raise UserError(f"sampler.steps={steps}: the model's schedule has {total} steps; choose from 1 to {total}")
    passed = SPACINGS[spacing](steps, total).to(torch.float64) + 1
    return torch.cat([passed.flip(0), passed.new_zeros(1)]) / total
