"""The binomial process: bits that are flipped until they are noise.

A bit x is -1 or 1, so that its mean says all of its distribution. With alpha_t the part of the signal left at t,

    q(x_t | x_0)        has the mean  alpha_t x_0
    q(x_t | x_s)        has the mean  r x_s,    r = alpha_t / alpha_s
    q(x_s | x_t, x_0)   has the log-odds  x_t e(r) + x_0 e(alpha_s),    e(a) = log (1 + a) / (1 - a)

for any s < t: Bayes' rule adds what the two bits say of x_s. In bits of 0 and 1 a step is the paper's, the mean being
x (1 - beta_t) + beta_t / 2 with beta_t = 1 - alpha_t / alpha_{t-1}. A reverse step is the posterior's mean over what a
network believes of x_0, bit by bit:

    p(x_s | x_t) = sum_{x_0} q(x_s | x_t, x_0) p(x_0 | x_t)

Mean and variance of x_t given x_0 are alpha_t x_0 and 1 - alpha_t^2, so every Gaussian schedule that preserves the
variance is one of bits.

References:
    Deep Unsupervised Learning using Nonequilibrium Thermodynamics (Sohl-Dickstein et al., 2015), table App.1.
    Structured Denoising Diffusion Models in Discrete State-Spaces (Austin et al., 2021), eq. 4, for the sum over x_0.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from genlab.core.errors import UserError
from genlab.models.diffusion.schedule import Schedule, match

Beliefs = Callable[[Tensor, Tensor], Tensor]
"""(x_t (B, *), t () or (B,)) -> the log-odds of x_0 = 1 against x_0 = -1, bit by bit, (B, *) in double."""


class Erasure(Schedule):
    """Each of T steps erases the same part of the signal, 1 / T: alpha_t = 1 - t, beta_t = 1 / (T - t + 1).

    References:
        Deep Unsupervised Learning using Nonequilibrium Thermodynamics (Sohl-Dickstein et al., 2015), section 2.4.1.

    Arguments:
        steps: T.
    """

    def __init__(self, steps: int = 1000) -> None:
        super().__init__()
        if steps < 2:
            raise ValueError(f"steps must be at least 2, not {steps}")
        self.steps, self.t_min, self.t_max = steps, 1 / steps, 1 - 1 / steps

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        t = t.double()
        return 1 - t, (t * (2 - t)).sqrt()

    def time(self, log_snr: Tensor) -> Tensor:
        return -torch.expm1(-0.5 * F.softplus(-log_snr.double()))


def steps_of(schedule: Schedule) -> int:
    """T, or a UserError where there are no steps."""
    if schedule.steps is None:
        raise UserError("schedule: bits are flipped in steps, and the schedule is continuous; choose erasure")
    return schedule.steps


def evidence(alpha: Tensor) -> Tensor:
    """e(alpha), the log-odds of a bit of which a copy, with this much signal left, is 1."""
    return 2 * alpha.atanh()


def flipped(schedule: Schedule, x_0: Tensor, t: Tensor, uniform: Tensor) -> Tensor:
    """x_t (B, *) for bits x_0 (B, *), times t () or (B,), and numbers of (0, 1) (B, *)."""
    alpha, _ = schedule(t)
    return torch.where(uniform < match(0.5 * (1 + alpha), uniform), x_0, -x_0)


def posterior_log_odds(schedule: Schedule, x_t: Tensor, x_0: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """Those of x_s = 1 under q(x_s | x_t, x_0), (B, *) in double; infinite at s = 0."""
    of_x_t, of_x_0 = evidences(schedule, t, s)
    return match(of_x_t, x_t.double()) * x_t + match(of_x_0, x_0.double()) * x_0


def evidences(schedule: Schedule, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """(e(r), e(alpha_s)), each of the shape of the times s < t."""
    alpha_t, alpha_s = schedule(t)[0], schedule(s)[0]
    return evidence(alpha_t / alpha_s), evidence(alpha_s)


def reverse_log_probabilities(
    schedule: Schedule, x_t: Tensor, belief: Tensor, t: Tensor, s: Tensor
) -> tuple[Tensor, Tensor]:
    """log p(x_s = 1 | x_t) and log p(x_s = -1 | x_t), each (B, *) in double.

    Arguments:
        belief: (B, *), the log-odds of x_0 = 1.
    """
    of_x_t, of_x_0 = evidences(schedule, t, s)
    x_t = x_t.double()
    said = match(of_x_t, x_t) * x_t
    if_1, if_0 = said + match(of_x_0, x_t), said - match(of_x_0, x_t)
    is_1, is_0 = F.logsigmoid(belief), F.logsigmoid(-belief)
    one = torch.logaddexp(is_1 + F.logsigmoid(if_1), is_0 + F.logsigmoid(if_0))
    other = torch.logaddexp(is_1 + F.logsigmoid(-if_1), is_0 + F.logsigmoid(-if_0))
    return one, other


def kl(log_odds: Tensor, log_one: Tensor, log_other: Tensor) -> Tensor:
    """KL(q || p) in nats, bit by bit, of q with these log-odds and p with these log-probabilities of 1 and -1."""
    one, other = torch.sigmoid(log_odds), torch.sigmoid(-log_odds)
    return -torch.special.entr(one) - torch.special.entr(other) - one * log_one - other * log_other


def prior_kl(schedule: Schedule, x_0: Tensor) -> Tensor:
    """L_T = KL(q(x_T | x_0) || fair coins) in nats, (B,) in double; the same for all data."""
    alpha, _ = schedule(torch.ones((), dtype=torch.float64, device=x_0.device))
    entropy = torch.special.entr(0.5 * (1 + alpha)) + torch.special.entr(0.5 * (1 - alpha))
    return (math.log(2) - entropy).expand(len(x_0)) * math.prod(x_0.shape[1:])
