"""Gaussian diffusion in two numbers: how much signal is left and how much noise has come.

    x_t = alpha_t x_0 + sigma_t eps,    eps ~ N(0, I),    t in [0, 1], data at t = 0

What follows from the two holds for every schedule:

    log-SNR(t) = 2 log(alpha_t / sigma_t), which falls as t grows, and for s < t
    q(x_t | x_s) = N(r x_s, v I)    with r = alpha_t / alpha_s
    v = sigma_t^2 - r^2 sigma_s^2 = -sigma_t^2 expm1(log-SNR(t) - log-SNR(s))

The last form of v is the one to compute: the difference loses half its digits when s is near t.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn


def match(coefficient: Tensor, x: Tensor) -> Tensor:
    """A coefficient () or (B,) in the precision of x (B, *), with dimensions to broadcast over."""
    return coefficient.to(x).reshape(coefficient.shape + (1,) * (x.dim() - coefficient.dim()))


class Schedule(nn.Module, ABC):
    """Signal and noise levels over time, in double precision.

    Attributes:
        steps: T, where the model is one of T discrete times i / T; None where it knows all of (0, 1].
    """

    steps: int | None = None

    @abstractmethod
    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha_t, sigma_t), each of the shape of `t`, with `t` in [0, 1]."""

    def log_snr(self, t: Tensor) -> Tensor:
        """2 log(alpha_t / sigma_t); infinite where there is no noise."""
        alpha, sigma = self(t)
        return 2 * (alpha.log() - sigma.log())

    def transition_variance(self, s: Tensor, t: Tensor) -> Tensor:
        """v, the variance of q(x_t | x_s), for s < t."""
        return -(self(t)[1] ** 2) * torch.expm1(self.log_snr(t) - self.log_snr(s))

    @property
    def prior_scale(self) -> float:
        """The standard deviation of x_1, which sampling starts from: 1 where the variance is preserved."""
        return 1.0

    def level(self, t: Tensor) -> Tensor:
        """What the network is told of t: DDPM counts its steps from 0, so i / T becomes i - 1."""
        return t * (self.steps or 1000) - 1


class Table(Schedule):
    """A schedule given by the betas of T steps: alpha_i^2 = (1 - beta_1) ... (1 - beta_i), exact at t = i / T.

    Between two steps log alpha is linear, so that continuous-time samplers can use a model of discrete steps.
    """

    log_alpha: Tensor

    def __init__(self, beta: Tensor) -> None:
        super().__init__()
        beta = beta.double()
        log_alpha = torch.cat([beta.new_zeros(1), 0.5 * torch.log1p(-beta).cumsum(0)])
        self.register_buffer("log_alpha", log_alpha, persistent=False)
        self.steps = len(beta)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves with the model to its device, and stays in double precision when the model is cast."""
        exact = self.log_alpha
        super()._apply(fn, recurse)
        self.log_alpha = exact.to(self.log_alpha.device)
        return self

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        steps = len(self.log_alpha) - 1
        position = t.double() * steps
        i = position.long().clamp(max=steps - 1)
        log_alpha = torch.lerp(self.log_alpha.take(i), self.log_alpha.take(i + 1), position - i)
        return log_alpha.exp(), (-torch.expm1(2 * log_alpha)).sqrt()


class LinearBeta(Table):
    """beta rises linearly from `first` to `last`, both scaled by 1000 / T so that the end is noise for any T.

    References:
        Denoising Diffusion Probabilistic Models (Ho et al., 2020), section 4.
        Improved Denoising Diffusion Probabilistic Models (Nichol & Dhariwal, 2021), for T other than 1000.
    """

    def __init__(self, steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> None:
        if steps < 2:
            raise ValueError(f"steps must be at least 2, not {steps}")
        scale = 1000 / steps
        if not 0 < first * scale <= last * scale < 1:
            raise ValueError(
                f"first={first} and last={last} must satisfy 0 < first <= last, and last * 1000 / steps = "
                f"{last * scale:g} must be below 1"
            )
        super().__init__(torch.linspace(first * scale, last * scale, steps, dtype=torch.float64))


class Cosine(Table):
    """alpha_t^2 proportional to cos^2((t + s) / (1 + s) pi / 2), with beta at most `largest`.

    References:
        Improved Denoising Diffusion Probabilistic Models (Nichol & Dhariwal, 2021), eq. 17.
    """

    def __init__(self, steps: int = 1000, s: float = 0.008, largest: float = 0.999) -> None:
        if steps < 2:
            raise ValueError(f"steps must be at least 2, not {steps}")
        if not 0 < largest < 1:
            raise ValueError(f"largest must lie between 0 and 1, not {largest}")
        t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        alpha_squared = ((t + s) / (1 + s) * math.pi / 2).cos() ** 2
        super().__init__((1 - alpha_squared[1:] / alpha_squared[:-1]).clamp(max=largest))
