"""Which times are drawn in training, beside the uniform ones.

    low discrepancy    u_i = (radical inverse of i + offset) mod 1, evenly spaced over the rows i of the whole batch
    log-normal         log(sigma / alpha) ~ N(mean, std^2)
    log-SNR            log-SNR(t) uniform
    loss-aware         p_t proportional to sqrt(E[L_t^2])

References:
    Improved Denoising Diffusion Probabilistic Models (Nichol & Dhariwal, 2021), section 3.3.
    Variational Diffusion Models (Kingma et al., 2021), appendix I.1.
    Maximum Likelihood Training of Score-Based Diffusion Models (Song et al., 2021), section 5.
    Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), table 1.
"""

import torch
from torch import Tensor

from genlab.core.collectives import all_cat
from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.diffusion.schedule import Schedule
from genlab.models.diffusion.weighting import Times, check_first, placed


def radical_inverse(i: Tensor) -> Tensor:
    """The binary digits of i, below 2^32, mirrored at the point: 1, 2, 3, 4 to 1/2, 1/4, 3/4, 1/8; exact in double.

    The first 2^k values are the multiples of 2^-k, and those of any stretch of numbers are spread evenly too.
    """
    for shift, mask in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F), (8, 0x00FF00FF), (16, 0x0000FFFF)):
        i = ((i >> shift) & mask) | ((i & mask) << shift)
    return i.double() * 2.0**-32


class LowDiscrepancy(Times):
    """Uniform times that are evenly spaced over a batch, so that its mean varies less.

    A row's place is the radical inverse of its number in the whole batch, moved by an offset that all rows share, so
    that batches may be split over processes. A batch of 2^k rows has one time in each of 2^k equal parts.

    Arguments:
        first: the smallest time, where time is continuous.
    """

    def __init__(self, first: float = 1e-5) -> None:
        super().__init__()
        check_first(first)
        self.first = first

    def forward(self, schedule: Schedule, rng: Rng) -> Tensor:
        shared = Rng(rng.seed, torch.zeros_like(rng.index[:1]), rng.step, rng.path).stage("time")
        u = (radical_inverse(rng.index) + shared.uniform(dtype=torch.float64)) % 1
        return placed(schedule, u, self.first)


class LogNormal(Times):
    """log(sigma / alpha) normal: most of training goes to the levels where something is to be learned.

    What lies beyond the schedule's ends is put on them; in a table the next step is taken.

    Arguments:
        mean, std: P_mean and P_std; EDM's are for data in [-1, 1].
    """

    def __init__(self, mean: float = -1.2, std: float = 1.2) -> None:
        super().__init__()
        if std <= 0:
            raise ValueError(f"std must be above 0, not {std}")
        self.mean, self.std = mean, std

    def forward(self, schedule: Schedule, rng: Rng) -> Tensor:
        log_noise = self.mean + self.std * rng.stage("time").normal(dtype=torch.float64)
        t = schedule.time(-2 * log_noise).clamp(schedule.t_min, schedule.t_max)
        return t if schedule.steps is None else (t * schedule.steps).ceil() / schedule.steps


class UniformLogSnr(Times):
    """log-SNR uniform from that of `first` to that of t_max: what weighting=likelihood varies least with.

    Arguments:
        first: the smallest time.
    """

    def __init__(self, first: float = 1e-5) -> None:
        super().__init__()
        check_first(first)
        if first == 0:
            raise ValueError("first must be above 0, where log-SNR is finite")
        self.first = first

    def check(self, schedule: Schedule) -> None:
        if schedule.steps is not None:
            raise UserError(
                f"times=log_snr: is for continuous time, and the schedule is a table of {schedule.steps} steps; choose "
                "times=loss_aware"
            )

    def ends(self, schedule: Schedule) -> Tensor:
        """(2,), the largest and the smallest log-SNR."""
        return schedule.log_snr(torch.tensor([self.first, schedule.t_max], dtype=torch.float64, device=schedule.device))

    def forward(self, schedule: Schedule, rng: Rng) -> Tensor:
        most, least = self.ends(schedule).unbind()
        u = rng.stage("time").uniform(dtype=torch.float64)
        return schedule.time(torch.lerp(most, least, u)).clamp(self.first, schedule.t_max)

    def weight(self, schedule: Schedule, t: Tensor) -> Tensor:
        most, least = self.ends(schedule).unbind()
        return (least - most) / schedule.slopes(t)[1] / (schedule.t_max - self.first)


class LossAware(Times):
    """p_t proportional to sqrt(E[L_t^2]) over the last losses of each t, which makes the loss vary least.

    Times are uniform until all have as many losses as are kept. What is kept is part of checkpoints, and the same in
    all processes.

    Arguments:
        steps: into so many equal parts time is divided, each with a probability: T, or a divisor of it, where the
            schedule is a table of T steps.
        history: how many losses are kept of each part.
        uniform: the share of uniform times that is mixed in, so that none is forgotten.
        first: the smallest time, where time is continuous.
    """

    losses: Tensor
    seen: Tensor

    def __init__(self, steps: int = 1000, history: int = 10, uniform: float = 1e-3, first: float = 1e-5) -> None:
        super().__init__()
        check_first(first)
        for name, number in (("steps", steps), ("history", history)):
            if number < 1:
                raise ValueError(f"{name} must be at least 1, not {number}")
        if not 0 < uniform <= 1:
            raise ValueError(f"uniform must be above 0 and at most 1, not {uniform}")
        self.steps, self.history, self.uniform, self.first = steps, history, uniform, first
        self.register_buffer("losses", torch.zeros(steps, history))
        self.register_buffer("seen", torch.zeros(steps, dtype=torch.int64))

    def check(self, schedule: Schedule) -> None:
        if schedule.steps is not None and schedule.steps % self.steps:
            raise UserError(
                f"times.steps={self.steps}: the schedule is a table of {schedule.steps} steps; choose that number or a "
                "divisor of it"
            )

    def probabilities(self) -> Tensor:
        """(steps,) in double, of each part of time."""
        root = self.losses.double().square().mean(1).sqrt()
        shares = root / root.sum().clamp(min=torch.finfo(torch.float64).tiny)
        flat = torch.full_like(shares, 1 / self.steps)
        return torch.where((self.seen >= self.history).all(), torch.lerp(shares, flat, self.uniform), flat)

    def part(self, schedule: Schedule, t: Tensor) -> Tensor:
        """Which part of time each of t (B,) lies in, int64."""
        u = t - 0.5 / schedule.steps if schedule.steps is not None else (t - self.first) / (1 - self.first)
        return (u * self.steps).long().clamp(0, self.steps - 1)

    def forward(self, schedule: Schedule, rng: Rng) -> Tensor:
        rng = rng.stage("time")
        below = self.probabilities().cumsum(0)
        u = rng.uniform(dtype=torch.float64) * below[-1]
        part = torch.searchsorted(below, u, right=True).clamp(max=self.steps - 1)
        return placed(schedule, (part + rng.uniform(dtype=torch.float64)) / self.steps, self.first)

    def weight(self, schedule: Schedule, t: Tensor) -> Tensor:
        return 1 / (self.steps * self.probabilities()[self.part(schedule, t)])

    @torch.no_grad()
    def observe(self, schedule: Schedule, t: Tensor, losses: Tensor) -> None:
        """The latest losses take the places of the earliest; of a training batch alone, not where it is evaluated."""
        if not self.training:
            return
        part, losses = all_cat(self.part(schedule, t)), all_cat(losses.to(self.losses))
        order = part.argsort(stable=True)
        part, losses = part[order], losses[order]
        # How many of the batch lie in the same part before each, and how many in all.
        before = torch.arange(len(part), device=part.device) - torch.searchsorted(part, part)
        count = torch.searchsorted(part, part, right=True) - torch.searchsorted(part, part)
        place = part * self.history + (self.seen[part] + before) % self.history
        # Where more come than are kept, the first of them fall into a place behind all others.
        place = torch.where(before >= count - self.history, place, self.losses.numel())
        kept = torch.cat([self.losses.flatten(), self.losses.new_zeros(1)]).scatter(0, place, losses)
        self.losses.copy_(kept[:-1].view_as(self.losses))
        self.seen.scatter_add_(0, part, torch.ones_like(part))
