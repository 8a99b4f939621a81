"""The variational bound in continuous time, a diffusion model of infinitely many steps.

    -log p(x_0) <= KL(q(x_1 | x_0) || N(0, prior_scale^2 I))                          prior
                   + 1/2 int E |eps - eps_hat(x_t, t)|^2 d(-log-SNR)                   diffusion, from t_min on
                   + E -log p(x_0 | x_{t_min})                                         reconstruction

The integral depends on the schedule through its ends alone. It is taken over log-SNR in evaluation, where the integrand
is at most about D / 2, and over time in training, so that a schedule can learn where to spend the draws.

p(x_0 | x_{t_min}) is proportional to q(x_{t_min} | x_0) over the levels that a value may have; where there are none, it
is N(x_{t_min} / alpha, (sigma / alpha)^2 I), whose cost is a constant.

References:
    Variational Diffusion Models (Kingma et al., 2021), eq. 11 to 17.
    Maximum Likelihood Training of Score-Based Diffusion Models (Song et al., 2021), theorem 3.
"""

import math

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.core.units import from_levels
from genlab.models.contract import Nll
from genlab.models.diffusion.denoiser import Denoised, Denoiser
from genlab.models.diffusion.estimator import Bound, within
from genlab.models.diffusion.process import diffuse, prior_kl
from genlab.models.diffusion.schedule import Schedule

# So many levels are looked at at once, to bound the memory.
BLOCK = 32


def level_nats(x_0: Tensor, scale: Tensor, eps: Tensor, levels: int) -> Tensor:
    """-log p(x_0 | x_0 + scale eps), element by element in double, where p is uniform over the levels at first.

    Arguments:
        x_0: data whose values are levels in [-1, 1].
        scale: () in double.
        eps: the noise, of x_0's shape.
    """
    values = from_levels(torch.arange(levels, device=x_0.device), levels, torch.float64)
    x_0, eps = x_0.double(), eps.double()
    total = torch.full_like(x_0, -math.inf)
    for block in values.split(BLOCK):
        distance = (x_0[..., None] - block) / scale + eps[..., None]
        total = torch.logaddexp(total, (-0.5 * distance.square()).logsumexp(-1))
    return total + 0.5 * eps.square()


class ContinuousBound(Bound):
    """VDM's bound, for any schedule in continuous time.

    The diffusion term is estimated, without bias, from one uniform draw in each of k equal strata of the log-SNR; the
    error of the mean over data is measured by evaluation.

    Arguments:
        t: k, of evaluation, for in training a datum has one time.
        t_min: where the reverse process ends and data are told from what is left; None for the schedule's own. A
            smaller one makes the bound tighter, if the network was trained there.
    """

    def __init__(self, t: int = 20, t_min: float | None = None) -> None:
        if t < 1:
            raise ValueError(f"t must be at least 1, not {t}")
        if t_min is not None and not 0 < t_min < 1:
            raise ValueError(f"t_min must lie between 0 and 1, not {t_min}")
        self.t, self.t_min = t, t_min

    def check(self, schedule: Schedule, outputs: int) -> None:
        if schedule.steps is not None:
            raise UserError(
                "model.bound: it is that of a continuous schedule, and the schedule is a table of "
                f"{schedule.steps} steps; choose schedule=learned_snr, vp or another"
            )
        if outputs == 2:
            raise UserError("model.outputs=2: steps in continuous time have no variances to learn; set model.outputs=1")

    def end(self, schedule: Schedule) -> float:
        """The time at which the reverse process ends."""
        return schedule.t_min if self.t_min is None else self.t_min

    def integrand(self, schedule: Schedule, x_0: Tensor, t: Tensor, denoised: Denoised) -> Tensor:
        """|eps - eps_hat|^2 / 2, (B,): eps is off by alpha / sigma of what x_0 is."""
        error = (x_0.double() - denoised.x_0.double()).square().flatten(1).sum(1)
        return 0.5 * schedule.log_snr(t).exp() * error

    def term(self, schedule: Schedule, x_0: Tensor, t: Tensor, denoised: Denoised, field: Field) -> Tensor:
        left = t < self.end(schedule)
        # Also where the time is 0 and the log-SNR infinite.
        t = torch.where(left, self.end(schedule), t)
        _, fall = schedule.slopes(t)
        return torch.where(left, 0.0, -fall * self.integrand(schedule, x_0, t, denoised))

    def ends(self, schedule: Schedule, x_0: Tensor, field: Field, rng: Rng) -> dict[str, Tensor]:
        alpha, sigma = schedule(torch.full((), self.end(schedule), dtype=torch.float64, device=x_0.device))
        scale = sigma / alpha
        if field.levels is None:
            of_one = scale.log() + 0.5 * math.log(2 * math.pi * math.e)
            nats = (x_0[0].numel() * of_one).expand(len(x_0))
        else:
            eps = rng.stage("reconstruction").normal_like(x_0.double())
            nats = level_nats(x_0, scale, eps, field.levels).flatten(1).sum(1)
        return {"prior": prior_kl(schedule, x_0, schedule.t_max), "reconstruction": nats}

    def __call__(
        self, schedule: Schedule, denoise: Denoiser, x_0: Tensor, field: Field, rng: Rng, bounded: bool
    ) -> Nll:
        """The bound for each of x_0 (B, *)."""
        if schedule.steps is not None:
            raise UserError(
                f"estimator=continuous: this bound is that of a continuous schedule, and the model's is a table of "
                f"{schedule.steps} steps; choose estimator=vlb"
            )
        rng = rng.stage("bound")
        reach = torch.tensor([schedule.t_max, self.end(schedule)], dtype=torch.float64, device=x_0.device)
        low, high = schedule.log_snr(reach)
        strata = torch.arange(self.t, dtype=torch.float64, device=x_0.device)
        part = (strata + rng.uniform(self.t, dtype=torch.float64)) / self.t
        diffusion = torch.zeros(len(x_0), dtype=torch.float64, device=x_0.device)
        for t in schedule.time(torch.lerp(low, high, part)).unbind(1):
            denoised = denoise(diffuse(schedule, x_0, t, rng.normal_like(x_0)), t)
            diffusion = diffusion + self.integrand(schedule, x_0, t, within(denoised, bounded))
        diffusion = diffusion * ((high - low) / self.t)
        ends = self.ends(schedule, x_0, field, rng)
        terms = {**ends, "diffusion": diffusion}
        how = f"variational bound in continuous time from t = {self.end(schedule):g}, {self.t} stratified times a datum"
        return Nll(torch.stack(list(terms.values())).sum(0), "upper", terms, how)
