"""Along the probability-flow ODE by the mean of the tangents at both ends of a step: Heun's method, and EDM's sampler.

    space=sigma    n = sigma / alpha,    y = x / alpha,    dy/dn = (y - x_0) / n
    space=time     dx/dt = alpha' x_0 + sigma' eps

    y' = y_t + (n_s - n_t) dy/dn(y_t, n_t),    y_s = y_t + (n_s - n_t) (dy/dn(y_t, n_t) + dy/dn(y', n_s)) / 2

With churn the noise of a step is first raised, in part by new noise, from n to n (1 + gamma):

    y <- y + sqrt((1 + gamma)^2 - 1) n S_noise z,    gamma = min(S_churn / N, sqrt(2) - 1) where S_min <= n <= S_max

References:
    Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), algorithms 1 and 2.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.diffusion.denoiser import Denoiser
from genlab.models.diffusion.flow_ode import field
from genlab.models.diffusion.samplers.sampler import Clip, Sampler, State
from genlab.models.diffusion.samplers.spacing import Spacing
from genlab.models.diffusion.schedule import Schedule, match


class Heun(Sampler):
    """Heun's method for the probability-flow ODE, of second order: two evaluations a step, and one in the last.

    Arguments:
        steps, spacing, clip, last, rho: see `Sampler`. In sigma / alpha a path begins at the schedule's `t_max`.
        space: "sigma" steps in sigma / alpha, as EDM does, and "time" in t.
        churn, churn_min, churn_max, churn_noise: EDM's S_churn, S_min, S_max (None is no bound) and S_noise, of
            sigma / alpha for data in [-1, 1]. churn=0 is deterministic. Noise is never raised above the schedule's own.
    """

    clips = False

    def __init__(
        self,
        steps: int | None = 18,
        space: Literal["sigma", "time"] = "sigma",
        churn: float = 0.0,
        churn_min: float = 0.0,
        churn_max: float | None = None,
        churn_noise: float = 1.0,
        spacing: Spacing = "karras",
        clip: Clip = None,
        last: bool = True,
        rho: float = 7.0,
    ) -> None:
        super().__init__(steps, spacing, clip, last, rho)
        if churn < 0:
            raise ValueError(f"churn must be at least 0, not {churn}")
        if churn > 0 and space == "time":
            raise ValueError(f"churn={churn} is added in sigma; choose space=sigma, or churn=0")
        self.space, self.churn, self.churn_noise = space, churn, churn_noise
        self.churn_min, self.churn_max = churn_min, math.inf if churn_max is None else churn_max

    def times(self, schedule: Schedule) -> Tensor:
        times = super().times(schedule)
        return times.clamp(max=schedule.t_max) if self.space == "sigma" else times

    def evaluations(self, schedule: Schedule) -> int | None:
        steps = len(self.times(schedule)) - 1
        return 2 * steps - 1 if self.last else 2 * steps

    def step(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, s: Tensor, rng: Rng) -> State:
        x_t, t = self.churned(schedule, state, t, rng)
        return State(self.rise(schedule, denoise, x_t, t, s))

    def finish(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, rng: Rng) -> State:
        x_t, t = self.churned(schedule, state, t, rng)
        return State(denoise(x_t, t).x_0)

    def churned(self, schedule: Schedule, state: State, t: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
        """The state with more noise, and the time at which it has that much."""
        if self.churn == 0:
            return state.x, t
        (alpha, sigma), (alpha_1, sigma_1) = schedule(t), schedule(torch.ones_like(t))
        n = sigma / alpha
        gamma = min(self.churn / (state.steps or 1), math.sqrt(2) - 1)
        inside = (n >= self.churn_min) & (n <= self.churn_max)
        raised = torch.where(inside, (n * (1 + gamma)).minimum(sigma_1 / alpha_1), n)
        t_raised = torch.where(raised > n, schedule.time(-2 * raised.log()), t)
        added = self.churn_noise * (raised**2 - n**2).sqrt()
        y = state.x / match(alpha, state.x) + match(added, state.x) * rng.normal_like(state.x)
        return match(schedule(t_raised)[0], y) * y, t_raised

    def check_inverts(self) -> None:
        if self.churn > 0:
            super().check_inverts()

    def rise(self, schedule: Schedule, denoise: Denoiser, x_s: Tensor, s: Tensor, t: Tensor) -> Tensor:
        return (self.in_sigma if self.space == "sigma" else self.in_time)(schedule, denoise, x_s, s, t)

    def in_sigma(self, schedule: Schedule, denoise: Denoiser, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """x_s (B, *), a step of y = x / alpha in n = sigma / alpha."""
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
        n_t, n_s = (match(n, x_t) for n in (sigma_t / alpha_t, sigma_s / alpha_s))
        y_t = x_t / match(alpha_t, x_t)
        slope_t = (y_t - denoise(x_t, t).x_0) / n_t
        y_s = y_t + (n_s - n_t) * slope_t
        slope_s = (y_s - denoise(match(alpha_s, y_s) * y_s, s).x_0) / n_s
        return match(alpha_s, y_t) * (y_t + (n_s - n_t) * (slope_t + slope_s) / 2)

    def in_time(self, schedule: Schedule, denoise: Denoiser, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """x_s (B, *), a step of x in t."""
        slope, step = field(schedule, denoise), match(s - t, x_t)
        slope_t = slope(x_t, t)
        return x_t + step * (slope_t + slope(x_t + step * slope_t, s)) / 2
