"""The Gaussian process behind a schedule: its marginals, its posterior, and how far its end is from the prior.

    q(x_t | x_0)      = N(alpha_t x_0, sigma_t^2 I)
    q(x_s | x_t, x_0) = N(r sigma_s^2 / sigma_t^2 x_t + alpha_s v / sigma_t^2 x_0,  v sigma_s^2 / sigma_t^2 I)

with r = alpha_t / alpha_s and v the variance of q(x_t | x_s).

References:
    Denoising Diffusion Probabilistic Models (Ho et al., 2020), eq. 4 to 8.
"""

import torch
from torch import Tensor

from genlab.models.diffusion.schedule import Schedule, match


def diffuse(schedule: Schedule, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """x_t (B, *) for clean data x_0 (B, *), times t () or (B,), and noise eps (B, *)."""
    alpha, sigma = schedule(t)
    return match(alpha, x_0) * x_0 + match(sigma, x_0) * eps


def posterior(schedule: Schedule, x_t: Tensor, x_0: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(x_s | x_t, x_0).

    Arguments:
        x_t, x_0: the noised and the clean data, (B, *).
        t, s: the times of the two states, () or (B,), s < t.

    Returns:
        The mean, (B, *), in the precision of x_t, and the variance, of the shape of `s`, in double.
    """
    (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule(s), schedule(t)
    v = schedule.transition_variance(s, t)
    of_x_t = alpha_t / alpha_s * sigma_s**2 / sigma_t**2
    of_x_0 = alpha_s * v / sigma_t**2
    return match(of_x_t, x_t) * x_t + match(of_x_0, x_t) * x_0, posterior_variance(schedule, t, s)


def posterior_variance(schedule: Schedule, t: Tensor, s: Tensor) -> Tensor:
    """v sigma_s^2 / sigma_t^2, the variance of q(x_s | x_t, x_0), in double."""
    return schedule.transition_variance(s, t) * schedule(s)[1] ** 2 / schedule(t)[1] ** 2


def normal_kl(mean_1: Tensor, log_variance_1: Tensor, mean_2: Tensor, log_variance_2: Tensor) -> Tensor:
    """KL(N(mean_1, variance_1) || N(mean_2, variance_2)) in nats, element by element."""
    difference = log_variance_1 - log_variance_2
    return 0.5 * (difference.exp() - 1 - difference + (mean_1 - mean_2) ** 2 * (-log_variance_2).exp())


def prior_kl(schedule: Schedule, x_0: Tensor) -> Tensor:
    """L_T = KL(q(x_1 | x_0) || N(0, prior_scale^2 I)) in nats, (B,) in double."""
    end = torch.ones((), dtype=torch.float64, device=x_0.device)
    alpha, sigma = schedule(end)
    prior = 2 * torch.full_like(end, schedule.prior_scale).log()
    return normal_kl(alpha * x_0.double(), 2 * sigma.log(), torch.zeros_like(end), prior).flatten(1).sum(1)
