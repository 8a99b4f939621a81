"""The variational bound of a diffusion model of T steps.

    -log p(x_0) <= L_T + sum_{i=2..T} L_{i-1} + L_0
    L_T     = KL(q(x_T | x_0) || N(0, I))
    L_{i-1} = E KL(q(x_{i-1} | x_i, x_0) || p(x_{i-1} | x_i))
    L_0     = E -log p(x_0 | x_1)

p's mean is that of the posterior at the denoiser's estimate of x_0, kept in [-1, 1] where the data are bounded. Where
the data have levels, p(x_0 | x_1) is the normal distribution's mass on the level's bin, whose outer edges are open.

References:
    Denoising Diffusion Probabilistic Models (Ho et al., 2020), eq. 5 and 13.
    Improved Denoising Diffusion Probabilistic Models (Nichol & Dhariwal, 2021), section 3.3.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.core.units import half_bin
from genlab.models.contract import Nll
from genlab.models.diffusion.denoiser import Denoiser
from genlab.models.diffusion.process import diffuse, normal_kl, posterior, prior_kl
from genlab.models.diffusion.schedule import Schedule, match

Variance = Literal["posterior", "transition"]


def discretized_normal(x: Tensor, mean: Tensor, log_variance: Tensor, levels: int) -> Tensor:
    """Log of the normal distribution's mass on the bin of each level, element by element, in double.

    The log is taken of at least 1e-12, as published.
    """
    width = half_bin(levels)
    x, mean = x.double(), mean.double()
    scale = (-0.5 * log_variance).exp()

    def below(edge: Tensor) -> Tensor:
        return torch.special.ndtr((edge - mean) * scale)

    upper = torch.where(x > 1 - width, torch.ones_like(x), below(x + width))
    lower = torch.where(x < -1 + width, torch.zeros_like(x), below(x - width))
    return (upper - lower).clamp(min=1e-12).log()


class VariationalBound:
    """DDPM's bound, in full or from k of its T terms.

    With t = k the terms L_1 .. L_{T-1} are estimated, without bias, from one uniform draw in each of k equal strata
    of the times, and L_T and L_0 are always computed; the error of the mean over data is measured by evaluation.

    Arguments:
        t: "all", or k.
        variance: of p(x_{i-1} | x_i): "posterior" (beta~) or "transition" (beta).
    """

    def __init__(self, t: int | Literal["all"] = 20, variance: Variance = "posterior") -> None:
        if isinstance(t, int) and t < 1:
            raise ValueError(f"t must be at least 1 or all, not {t}")
        self.t, self.variance = t, variance

    def log_variance(self, schedule: Schedule, t: Tensor, s: Tensor) -> Tensor:
        """That of p(x_s | x_t) for neighbouring steps, in double.

        The first step's posterior variance is 0, and is replaced by the second's.
        """
        first = s == 0
        clipped = posterior(schedule, torch.where(first, 2 * t, t), torch.where(first, t, s)).variance
        if self.variance == "posterior":
            return clipped.log()
        return torch.where(first, clipped, schedule.transition_variance(s, t)).log()

    def __call__(
        self, schedule: Schedule, denoise: Denoiser, x_0: Tensor, field: Field, rng: Rng, bounded: bool
    ) -> Nll:
        """The bound for each of x_0 (B, *)."""
        steps = schedule.steps
        if steps is None:
            raise UserError("estimator=vlb: this bound is that of a table of steps, and the schedule is continuous")
        count = steps - 1
        k = count if self.t == "all" else min(self.t, count)
        rng = rng.stage("bound")
        offset = rng.uniform(k, dtype=torch.float64) if k < count else x_0.new_zeros(len(x_0), k, dtype=torch.float64)
        strata = torch.arange(k, dtype=torch.float64, device=x_0.device)
        # A whole number must not be floored to the one below where rounding leaves it short.
        number = ((strata + offset) * (count / k) + 1e-9).long().clamp(max=count - 1) + 2
        t, s = number.double() / steps, (number - 1).double() / steps
        first = torch.full((len(x_0),), 1 / steps, dtype=torch.float64, device=x_0.device)

        def estimate(t: Tensor) -> Tensor:
            guess = denoise(diffuse(schedule, x_0, t, rng.normal_like(x_0)), t).x_0
            return (guess.clamp(-1, 1) if bounded else guess).double()

        def kl(t: Tensor, of_x_0: Tensor, log_q: Tensor, log_p: Tensor) -> Tensor:
            """L_{i-1} at t = i / T: the two means differ by what the estimate of x_0 is off."""
            error = match(of_x_0, x_0.double()) * (x_0.double() - estimate(t))
            return normal_kl(error, match(log_q, error), 0 * error, match(log_p, error)).flatten(1).sum(1)

        log_variance = match(self.log_variance(schedule, first, 0 * first), x_0.double())
        l_0 = self.reconstruction(x_0, estimate(first), log_variance, field).flatten(1).sum(1)
        q = posterior(schedule, t, s)
        columns = (c.unbind(1) for c in (t, q.of_x_0, q.variance.log(), self.log_variance(schedule, t, s)))
        between = torch.stack([kl(*at) for at in zip(*columns, strict=True)], dim=1) * (count / k)
        l_end = prior_kl(schedule, x_0)
        terms = {"L_T": l_end, "L_1..T-1": between.sum(1), "L_0": l_0}
        if self.t == "all":
            terms["L_t"] = torch.cat([l_0[:, None], between, l_end[:, None]], dim=1)
        how = f"variational bound, {self.variance} variance, " + (
            f"all {steps} steps" if self.t == "all" else f"{k} stratified of {steps} steps a datum"
        )
        return Nll(l_end + l_0 + between.sum(1), "upper", terms, how)

    @staticmethod
    def reconstruction(x_0: Tensor, mean: Tensor, log_variance: Tensor, field: Field) -> Tensor:
        """L_0, element by element: of the level where there are levels, else of the density."""
        if field.levels is not None:
            return -discretized_normal(x_0, mean, log_variance, field.levels)
        squared = (x_0.double() - mean.double()) ** 2 * (-log_variance).exp()
        return 0.5 * (squared + log_variance + math.log(2 * math.pi))
