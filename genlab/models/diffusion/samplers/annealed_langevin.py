"""Langevin's steps at one noise level after the other, from the largest to the smallest: NCSN's sampler.

    x <- x + e score + sqrt(2 e) z,    z ~ N(0, I),    score = -eps / sigma,    e = size sigma^2

`repeats` times at each level. `size` is what the papers call epsilon / sigma_L^2, the step in parts of a level's own
variance: 2e-5 / 0.01^2 = 0.2 in NCSN, with 100 repeats, and 6.2e-6 / 0.01^2 = 0.062 in NCSNv2, with 5. NCSNv2 chooses
it from the ratio gamma of one level to the next, so that samples that come with the noise of the level before leave
with nearly that of their own:

    min over a of    (1 - a)^(2 repeats) (gamma^2 - 2 / (2 - a)) + 2 / (2 - a)

Where the signal grows from level to level, alpha < 1, x is scaled with it.

References:
    Generative Modeling by Estimating Gradients of the Data Distribution (Song & Ermon, 2019), algorithm 1. The authors'
        code takes steps of twice the algorithm's size, as here.
    Improved Techniques for Training Score-Based Generative Models (Song & Ermon, 2020), technique 4 and algorithm 1.
"""

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.diffusion.denoiser import Denoiser
from genlab.models.diffusion.flow_ode import noise
from genlab.models.diffusion.samplers.sampler import Clip, Sampler, State
from genlab.models.diffusion.samplers.spacing import Spacing, spaced_times
from genlab.models.diffusion.schedule import Schedule, match


def best_size(gamma: Tensor, repeats: int) -> Tensor:
    """NCSNv2's step for levels whose ratio is gamma (), to within 1 %, () in double."""
    a = torch.logspace(-5, 0, 1200, dtype=torch.float64, device=gamma.device)
    floor = 2 / (2 - a)
    variance = (1 - a) ** (2 * repeats) * (gamma**2 - floor) + floor
    return a.take(variance.argmin())


class AnnealedLangevin(Sampler):
    """Annealed Langevin dynamics.

    Arguments:
        steps: the number of levels; None is every one that the model's table has.
        repeats: T, Langevin's steps at each level.
        size: epsilon / sigma_L^2; None chooses it by NCSNv2's rule.
        spacing, clip, rho: see `Sampler`; NCSN's levels have equal parts of log-SNR between them.
        last: take the denoiser's estimate in the end, one evaluation more; else the noise of the smallest level stays.
    """

    clips = False

    def __init__(
        self,
        steps: int | None = 10,
        repeats: int = 100,
        size: float | None = 0.2,
        spacing: Spacing = "log_snr",
        clip: Clip = None,
        last: bool = True,
        rho: float = 7.0,
    ) -> None:
        super().__init__(steps, spacing, clip, last, rho)
        if repeats < 1:
            raise ValueError(f"repeats must be at least 1, not {repeats}")
        if size is not None and not 0 < size < 1:
            raise ValueError(f"size must lie between 0 and 1, not {size}: it is a part of the noise's variance")
        self.repeats, self.size = repeats, size

    def times(self, schedule: Schedule) -> Tensor:
        """The levels, and 0."""
        times = spaced_times(schedule, self.spacing, self.steps, True, self.rho).clamp(max=schedule.t_max)
        if self.size is None and len(times) < 3:
            raise UserError("sampler.size=null: NCSNv2's rule needs two levels; choose more steps, or give a size")
        return times

    def evaluations(self, schedule: Schedule) -> int | None:
        return (len(self.times(schedule)) - 1) * self.repeats + self.last

    def step(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, s: Tensor, rng: Rng) -> State:
        size = self.chosen(schedule, t, s)
        x_t = self.walked(schedule, denoise, state.x, t, size, rng)
        return State(match(schedule(s)[0] / schedule(t)[0], x_t) * x_t, ((size,),))

    def finish(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, rng: Rng) -> State:
        if self.size is None and not state.history:
            size = self.chosen(schedule, *self.times(schedule)[-3:-1].to(t))
        else:
            size = state.history[0][0] if self.size is None else self.chosen(schedule, t, t)
        x_t = self.walked(schedule, denoise, state.x, t, size, rng)
        return State(denoise(x_t, t).x_0 if self.last else x_t)

    def chosen(self, schedule: Schedule, t: Tensor, s: Tensor) -> Tensor:
        """The size () of steps at levels whose ratio is that of t's to s's."""
        if self.size is not None:
            return torch.full_like(t, self.size)
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
        return best_size(sigma_t / alpha_t * alpha_s / sigma_s, self.repeats)

    def walked(self, schedule: Schedule, denoise: Denoiser, x_t: Tensor, t: Tensor, size: Tensor, rng: Rng) -> Tensor:
        """x_t (B, *) after Langevin's steps at its level."""
        sigma = schedule(t)[1]
        down, spread = match(size * sigma, x_t), match((2 * size).sqrt() * sigma, x_t)
        for _ in range(self.repeats):
            eps = noise(schedule, x_t, denoise(x_t, t).x_0, t)
            x_t = x_t - down * eps + spread * rng.normal_like(x_t)
        return x_t
