"""Which times a sampler of S steps passes, from noise to data.

Of a table of T steps, as step numbers 1 .. T:

    uniform    tau_i = floor(i T / S) + 1,                     i = 0 .. S - 1
    trailing   tau_i = round(T - i T / S),                     i = 0 .. S - 1, of which the first is T itself
    quadratic  tau_i = floor((i sqrt(0.8 T) / (S - 1))^2) + 1

In continuous time, and between the steps of a table too where it is one of the last two:

    uniform    t from 1 to t_min in equal parts
    trailing   t_i = 1 - i / S
    log_snr    log-SNR in equal parts
    karras     (sigma / alpha)^(1 / rho) in equal parts

The last step goes from the smallest of S times to the data at t = 0. Without it, as some papers have it, the S steps
end at t_min. Quadratic spacing can repeat a step among the first, short ones: it is taken once, so there are fewer than
S steps then. As published, the noise is then taken for x at the time 0.8.

References:
    Denoising Diffusion Implicit Models (Song et al., 2021), appendix D.2.
    DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling (Lu et al., 2022), section 3.4.
    Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), eq. 5.
    Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al., 2024), section 3.3, for trailing.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.models.diffusion.schedule import Schedule

Spacing = Literal["uniform", "trailing", "quadratic", "log_snr", "karras"]


def _leading(steps: int, total: int) -> Tensor:
    return torch.arange(steps) * total // steps + 1


def _trailing(steps: int, total: int) -> Tensor:
    return (total - torch.arange(steps - 1, -1, -1, dtype=torch.float64) * (total / steps)).round()


def _quadratic(steps: int, total: int) -> Tensor:
    if steps == 1:
        raise UserError("sampler.steps=1: quadratic spacing has two ends; choose at least 2, or spacing=uniform")
    last = math.sqrt(0.8 * total)
    # Rounded as numpy.linspace rounds, on which floor depends where a square is nearly whole.
    roots = torch.arange(steps, dtype=torch.float64) * (last / (steps - 1))
    roots[-1] = last
    return (roots**2).long().unique() + 1


OF_A_TABLE: dict[str, Callable[[int, int], Tensor]] = {
    "uniform": _leading,
    "trailing": _trailing,
    "quadratic": _quadratic,
}
"""(S, T) to rising step numbers."""


def _equal_parts(schedule: Schedule, spacing: str, points: int, rho: float) -> Tensor:
    """So many falling times from where the spacing begins to t_min."""
    if spacing in ("uniform", "trailing"):
        return torch.linspace(1, schedule.t_min, points, dtype=torch.float64)
    ends = torch.tensor([schedule.t_max, schedule.t_min], dtype=torch.float64, device=schedule.device)
    log_snr = schedule.log_snr(ends)
    part = torch.linspace(0, 1, points, dtype=torch.float64, device=ends.device)
    if spacing == "karras":
        root = (-0.5 / rho * log_snr).exp()
        log_snr_between = -2 * rho * torch.lerp(root[0], root[1], part).log()
    else:
        log_snr_between = torch.lerp(log_snr[0], log_snr[1], part)
    times = schedule.time(log_snr_between)
    times[0], times[-1] = ends[0], ends[1] if points > 1 else ends[0]
    return times


def spaced_times(
    schedule: Schedule, spacing: Spacing, steps: int | None, last: bool = True, rho: float = 7.0
) -> Tensor:
    """The falling times (N + 1,) in double that a sampler passes.

    Arguments:
        steps: S; None is every step of the table.
        last: end at the data, t = 0; else at the smallest time that a network knows.
        rho: of karras; the larger, the denser at little noise.
    """
    total = schedule.steps
    if total is None and steps is None:
        raise UserError("sampler.steps: the model's schedule is continuous and has no steps of its own; give a number")
    if total is None and spacing == "quadratic":
        raise UserError(
            "sampler.spacing=quadratic: picks steps of a table, and the model's schedule is continuous; choose "
            "uniform, trailing, log_snr or karras"
        )
    if steps is None:
        steps = total if last or total is None else total - 1
    assert steps is not None
    most = None if total is None or spacing in ("log_snr", "karras") else total if last else total - 1
    if steps < 1 or (most is not None and steps > most):
        raise UserError(f"sampler.steps={steps}: the model's schedule has {total} steps; choose from 1 to {most}")
    if not last and spacing == "quadratic":
        raise UserError("sampler.last=false: quadratic spacing ends at the data; choose another spacing")
    if not last:
        times = _equal_parts(schedule, spacing, steps + 1, rho)
        return (times * total).round() / total if most is not None and total is not None else times
    if total is not None and spacing in OF_A_TABLE:
        passed = OF_A_TABLE[spacing](steps, total).to(torch.float64).flip(0) / total
    elif spacing == "trailing":
        passed = 1 - torch.arange(steps, dtype=torch.float64) / steps
    else:
        passed = _equal_parts(schedule, spacing, steps, rho)
    return torch.cat([passed, passed.new_zeros(1)])
