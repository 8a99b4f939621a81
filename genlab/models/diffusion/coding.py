"""Progressive lossy coding: what a receiver knows of a datum after each step of the reverse process, and what it cost.

    the sender has      x_T, x_{T-1}, ..., x_0, a path of q(x_{0..T} | x_0)
    rate(t)           = L_T + L_{T-1} + ... + L_t, the bits that carry x_T, ..., x_t
    distortion(t)     = |x_0 - x_0(x_t)|^2, of the receiver's estimate
    L_T               = KL(q(x_T | x_0) || p(x_T)),    L_{i-1} = KL(q(x_{i-1} | x_i, x_0) || p(x_{i-1} | x_i))

The last term, L_0 = -log p(x_0 | x_1), makes the code lossless where data have levels, and the sum is the variational
bound. The steps are any that lead from noise to data.

References:
    Denoising Diffusion Probabilistic Models (Ho et al., 2020), section 4.3 and algorithms 3 and 4.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.models.diffusion.bound import VariationalBound
from genlab.models.diffusion.denoiser import Denoiser
from genlab.models.diffusion.estimator import within
from genlab.models.diffusion.process import diffuse, normal_kl, posterior, prior_kl
from genlab.models.diffusion.schedule import Schedule, match


class Coded(NamedTuple):
    """What S steps of coding come to, x_{t_1} being what the first of them begins with.

    Arguments:
        rate: (B, S) nats that carry everything up to x_{t_i}.
        distortion: (B, S) mean square of the error of x_0(x_{t_i}), over the values of a datum.
        rest: (B,) nats that the data themselves take then, L_0.
        estimates: (B, K, *), x_0(x_{t_i}) at the steps asked for.
    """

    rate: Tensor
    distortion: Tensor
    rest: Tensor
    estimates: Tensor


def progressive(
    schedule: Schedule,
    denoise: Denoiser,
    x_0: Tensor,
    times: Tensor,
    bound: VariationalBound,
    field: Field,
    rng: Rng,
    bounded: bool,
    keep: Sequence[int],
) -> Coded:
    """Code x_0 (B, *) in the steps between falling times (S + 1,), the last of which is 0.

    Arguments:
        bound: knows the variance of p(x_s | x_t).
        keep: the steps, 0 .. S - 1, whose estimates are wanted.
    """
    x_t = diffuse(schedule, x_0, times[0], rng.normal_like(x_0))
    spent = prior_kl(schedule, x_0, times[0])
    rate, distortion, estimates = [], [], []
    last = len(times) - 2
    rest = spent
    for i, (t, s) in enumerate(pairwise(times)):
        denoised = within(denoise(x_t, t), bounded)
        guess = denoised.x_0.double()
        rate.append(spent)
        distortion.append((guess - x_0.double()).square().flatten(1).mean(1))
        if i in keep:
            estimates.append(guess.to(x_0))
        log_variance = match(bound.log_variance(schedule, t, s, denoised.between), guess)
        if i == last:
            rest = bound.reconstruction(x_0, guess, log_variance, field).flatten(1).sum(1)
            continue
        q = posterior(schedule, t, s)
        error = match(q.of_x_0, guess) * (x_0.double() - guess)
        kl = normal_kl(error, match(q.variance.log(), error), torch.zeros_like(error), log_variance)
        spent = spent + kl.flatten(1).sum(1)
        mean = match(q.of_x_t, x_t) * x_t + match(q.of_x_0, x_t) * x_0
        x_t = mean + match(q.variance.sqrt(), x_t) * rng.normal_like(x_t)
    return Coded(torch.stack(rate, 1), torch.stack(distortion, 1), rest, torch.stack(estimates, 1))
