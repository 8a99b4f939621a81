"""The probability-flow ODE: a deterministic path from noise to data that has the marginals of the diffusion.

    dx/dt = f x + g^2 / 2 (x - alpha x_0) / sigma^2
          = alpha' x_0 + sigma' eps,    eps = (x - alpha x_0) / sigma

with x_0 the denoiser's estimate. The second form is finite where there is no signal, alpha = 0, and f is not; on the
straight path it is flow matching's velocity, eps - x_0.

Where a schedule is a table its slopes jump from step to step, which a solver that chooses its own steps cannot see
coming. There is a clock by which the path is as smooth as the network, whatever the schedule: the angle

    alpha = r cos(phi),  sigma = r sin(phi),    y = x / r:    dy/dphi = cos(phi) eps - sin(phi) x_0

which runs from near 0 at the data to at most pi / 2 at the noise. The density of y is r^D times that of x.

References:
    Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), section 4.3.
    Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), eq. 4.
    Flow Matching for Generative Modeling (Lipman et al., 2023), section 4.1.
    Progressive Distillation for Fast Sampling of Diffusion Models (Salimans & Ho, 2022), appendix D, for the angle.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from genlab.models.diffusion.denoiser import Denoiser
from genlab.models.diffusion.schedule import Schedule, derivatives, match

Field = Callable[[Tensor, Tensor], Tensor]
"""(state (B, *), clock () or (B,)) -> the state's derivative by the clock (B, *)."""


def noise(schedule: Schedule, x_t: Tensor, x_0: Tensor, t: Tensor) -> Tensor:
    """eps (B, *): what x_t (B, *) holds beside the signal of x_0 (B, *)."""
    alpha, sigma = (match(c, x_t) for c in schedule(t))
    return (x_t - alpha * x_0) / sigma


def velocity(schedule: Schedule, x_t: Tensor, x_0: Tensor, t: Tensor) -> Tensor:
    """dx/dt (B, *) at x_t (B, *) where the data are estimated as x_0 (B, *)."""
    alpha_slope, sigma_slope = (match(c, x_t) for c in derivatives(schedule, t))
    return alpha_slope * x_0 + sigma_slope * noise(schedule, x_t, x_0, t)


def field(schedule: Schedule, denoise: Denoiser) -> Field:
    """(x_t, t) -> dx/dt, for times above 0."""
    return lambda x_t, t: velocity(schedule, x_t, denoise(x_t, t).x_0, t)


def along(schedule: Schedule, x_t: Tensor, x_0: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """x_s (B, *), up or down from x_t, on the line on which x_0 and eps stay what they are: DDIM's step."""
    alpha, sigma = (match(c, x_t) for c in schedule(s))
    return alpha * x_0 + sigma * noise(schedule, x_t, x_0, t)


def angle(schedule: Schedule, t: Tensor) -> Tensor:
    """phi, of the shape of `t`, in double."""
    alpha, sigma = schedule(t)
    return torch.atan2(sigma, alpha)


def radius(schedule: Schedule, t: Tensor) -> Tensor:
    """r, of the shape of `t`, in double: 1 where the variance is preserved."""
    alpha, sigma = schedule(t)
    return (alpha**2 + sigma**2).sqrt()


def time_of_angle(schedule: Schedule, phi: Tensor) -> Tensor:
    """The inverse of `angle`, for angles above 0."""
    end = torch.ones_like(phi, dtype=torch.float64)
    t = schedule.time(2 * (phi.cos().log() - phi.sin().log()))
    return torch.where(phi < angle(schedule, end), t, end)


def turning(schedule: Schedule, denoise: Denoiser) -> Field:
    """(y, phi) -> dy/dphi, for angles above 0."""

    def rate(y: Tensor, phi: Tensor) -> Tensor:
        t = time_of_angle(schedule, phi)
        cos, sin = match(phi.cos(), y), match(phi.sin(), y)
        x_0 = denoise(match(radius(schedule, t), y) * y, t).x_0
        return cos * (y - cos * x_0) / sin - sin * x_0

    return rate


def solve(rate: Field, y: Tensor, start: Tensor, end: Tensor, rtol: float, atol: float) -> Tensor:
    """The state at the clock's `end` () that is y (B, *) at its `start` (), by Dormand and Prince's adaptive method.

    All rows take the same steps, so short that the error of each row is within the tolerances; a root of mean square
    over the whole batch would let one row's error grow with the number of the others.

    Arguments:
        y: in double precision, whose digits the errors of small steps need.
    """
    with warnings.catch_warnings():
        # Of torch.jit, which torchdiffeq still uses.
        warnings.simplefilter("ignore", FutureWarning)
        from torchdiffeq import odeint

    def largest(error: Tensor) -> Tensor:
        return error.flatten(1).square().mean(1).sqrt().max()

    clock = torch.stack([start, end])
    # The solver would otherwise step beyond the end, where no network is asked, and look back.
    options = {"norm": largest, "step_t": clock[1:]}
    return odeint(lambda at, y: rate(y, at), y, clock, rtol=rtol, atol=atol, method="dopri5", options=options)[1]
