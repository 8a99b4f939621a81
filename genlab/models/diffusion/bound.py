"""The variational bound of a diffusion model of T steps.

    -log p(x_0) <= L_T + sum_{i=2..T} L_{i-1} + L_0
    L_T     = KL(q(x_T | x_0) || N(0, I))
    L_{i-1} = E KL(q(x_{i-1} | x_i, x_0) || p(x_{i-1} | x_i))
    L_0     = E -log p(x_0 | x_1)

p's mean is that of the posterior at the denoiser's estimate of x_0, kept in [-1, 1] where the data are bounded. Where
the data have levels, p(x_0 | x_1) is the normal distribution's mass on the level's bin, whose outer edges are open.
A table that learns is trained by the whole of it, for every term depends on the betas.

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
from genlab.models.diffusion.denoiser import Denoised, Denoiser
from genlab.models.diffusion.estimator import Bound, stratified, within
from genlab.models.diffusion.process import diffuse, normal_kl, posterior, prior_kl
from genlab.models.diffusion.schedule import Schedule, match
from genlab.models.diffusion.variance import Variance, learned_log_variance


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


class VariationalBound(Bound):
    """DDPM's bound, in full or from k of its T terms.

    With t = k the terms L_1 .. L_{T-1} are estimated, without bias, from one uniform draw in each of k equal strata
    of the times, and L_T and L_0 are always computed; the error of the mean over data is measured by evaluation.

    Arguments:
        t: "all", or k; of evaluation, for in training a datum has one term.
        variance: of p(x_{i-1} | x_i): "posterior" (beta~), "transition" (beta), or "learned" by the network; None is
            "learned" where the network learned it, else "posterior".
    """

    def __init__(self, t: int | Literal["all"] = 20, variance: Variance | None = None) -> None:
        if isinstance(t, int) and t < 1:
            raise ValueError(f"t must be at least 1 or all, not {t}")
        self.t, self.variance = t, variance

    def check(self, schedule: Schedule, outputs: int) -> None:
        if schedule.steps is None:
            raise UserError("model.bound: it is that of a table of steps, and the schedule is continuous")
        if outputs == 2 and self.variance not in (None, "learned"):
            raise UserError(
                f"model.outputs=2: the network's variances are trained by a bound that has them, and "
                f"model.bound.variance={self.variance}; set it to learned"
            )
        if outputs == 1 and self.variance == "learned":
            raise UserError("model.bound.variance=learned: needs a network that says variances; set model.outputs=2")

    def steps(self, schedule: Schedule) -> int:
        """T, or a UserError where there are no steps."""
        if schedule.steps is None:
            raise UserError(
                "estimator=vlb: this bound is that of a table of steps, and the schedule is continuous; choose "
                "estimator=continuous"
            )
        return schedule.steps

    def chosen(self, between: Tensor | None) -> Variance:
        """Which variance p has, for a network that learned variances, or None."""
        return self.variance or ("posterior" if between is None else "learned")

    def log_variance(self, schedule: Schedule, t: Tensor, s: Tensor, between: Tensor | None = None) -> Tensor:
        """That of p(x_s | x_t) for neighbouring steps, in double: of the shape of t, or (B, *) where it is learned.

        The first step's posterior variance is 0, and is replaced by the second's.

        Arguments:
            between: (B, *), of `Denoised`.
        """
        first = s == 0
        # Not the data's own time, at which gradients are infinite.
        later_t, later_s = torch.where(first, 2 * t, t), torch.where(first, t, s)
        clipped = posterior(schedule, later_t, later_s).variance.log()
        variance = self.chosen(between)
        if variance == "posterior":
            return clipped
        beta = schedule.transition_variance(later_s, later_t).log()
        if variance == "transition":
            return torch.where(first, clipped, beta)
        beta = torch.where(first, 2 * schedule(t)[1].log(), beta)
        return learned_log_variance(clipped, beta, between, "estimator.variance")

    def term(self, schedule: Schedule, x_0: Tensor, t: Tensor, denoised: Denoised, field: Field) -> Tensor:
        """T L_{i-1} at t = i / T."""
        steps = self.steps(schedule)
        number = (t * steps).round()
        t, s = number / steps, (number - 1) / steps
        first, x_0 = s == 0, x_0.double()
        log_p = match(self.log_variance(schedule, t, s, denoised.between), x_0)
        q = posterior(schedule, torch.where(first, 2 * t, t), torch.where(first, t, s))
        # The two means differ by what the estimate of x_0 is off.
        error = match(q.of_x_0, x_0) * (x_0 - denoised.x_0.double())
        kl = normal_kl(error, match(q.variance.log(), x_0), torch.zeros_like(x_0), log_p)
        l_0 = self.reconstruction(x_0, denoised.x_0, log_p, field)
        return steps * torch.where(first, l_0.flatten(1).sum(1), kl.flatten(1).sum(1))

    def ends(self, schedule: Schedule, x_0: Tensor, field: Field, rng: Rng) -> dict[str, Tensor]:
        return {"L_T": prior_kl(schedule, x_0)}

    def __call__(
        self, schedule: Schedule, denoise: Denoiser, x_0: Tensor, field: Field, rng: Rng, bounded: bool
    ) -> Nll:
        """The bound for each of x_0 (B, *)."""
        steps = self.steps(schedule)
        count = steps - 1
        k = count if self.t == "all" else min(self.t, count)
        rng = rng.stage("bound")
        number = stratified(k, count, x_0, rng) + 2

        def asked(t: Tensor) -> Denoised:
            return within(denoise(diffuse(schedule, x_0, t, rng.normal_like(x_0)), t), bounded)

        first = torch.full((len(x_0),), 1 / steps, dtype=torch.float64, device=x_0.device)
        of_first = asked(first)
        l_0 = self.term(schedule, x_0, first, of_first, field) / steps
        times = (number.double() / steps).unbind(1)
        columns = [self.term(schedule, x_0, t, asked(t), field) / steps for t in times]
        between = torch.stack(columns, dim=1) * (count / k)
        ends = self.ends(schedule, x_0, field, rng)
        l_end = ends["L_T"]
        terms = {**ends, "L_1..T-1": between.sum(1), "L_0": l_0}
        if self.t == "all":
            terms["L_t"] = torch.cat([l_0[:, None], between, l_end[:, None]], dim=1)
        how = f"variational bound, {self.chosen(of_first.between)} variance, " + (
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
