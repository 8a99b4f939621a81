"""The Gaussian process behind a schedule: its marginals, its posterior, and how far its end is from the prior.

    q(x_t | x_0)      = N(alpha_t x_0, sigma_t^2 I)
    q(x_s | x_t, x_0) = N(r sigma_s^2 / sigma_t^2 x_t + alpha_s v / sigma_t^2 x_0,  v sigma_s^2 / sigma_t^2 I)

with r = alpha_t / alpha_s and v the variance of q(x_t | x_s).

References:
    Denoising Diffusion Probabilistic Models (Ho et al., 2020), eq. 4 to 8.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from genlab.models.diffusion.schedule import Schedule, match


def diffuse(schedule: Schedule, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """x_t (B, *) for clean data x_0 (B, *), times t () or (B,), and noise eps (B, *)."""
    alpha, sigma = schedule(t)
    return match(alpha, x_0) * x_0 + match(sigma, x_0) * eps


class Posterior(NamedTuple):
    """q(x_s | x_t, x_0) = N(of_x_t x_t + of_x_0 x_0, variance I), each of the shape of the times, in double."""

    of_x_t: Tensor
    of_x_0: Tensor
    variance: Tensor


def posterior(schedule: Schedule, t: Tensor, s: Tensor) -> Posterior:
    """What the posterior is made of, for times s < t of one shape."""
    (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule(s), schedule(t)
    v, squared = schedule.transition_variance(s, t), sigma_t**2
    return Posterior(alpha_t / alpha_s * sigma_s**2 / squared, alpha_s * v / squared, v * sigma_s**2 / squared)


def normal_kl(mean_1: Tensor, log_variance_1: Tensor, mean_2: Tensor, log_variance_2: Tensor) -> Tensor:
    """KL(N(mean_1, variance_1) || N(mean_2, variance_2)) in nats, element by element."""
    difference = log_variance_1 - log_variance_2
    return 0.5 * (difference.exp() - 1 - difference + (mean_1 - mean_2) ** 2 * (-log_variance_2).exp())


def prior_kl(schedule: Schedule, x_0: Tensor, t: float | Tensor = 1.0) -> Tensor:
    """L_T = KL(q(x_t | x_0) || N(0, prior_scale^2 I)) in nats, (B,) in double.

    Arguments:
        t: the time at which the reverse process begins, () where it is a tensor.
    """
    end = torch.as_tensor(t, dtype=torch.float64, device=x_0.device)
    alpha, sigma = schedule(end)
    prior = 2 * torch.full_like(end, schedule.prior_scale).log()
    return normal_kl(alpha * x_0.double(), 2 * sigma.log(), torch.zeros_like(end), prior).flatten(1).sum(1)
