"""Gaussian diffusion in two numbers: how much signal is left and how much noise has come.

    x_t = alpha_t x_0 + sigma_t eps,    eps ~ N(0, I),    t in [0, 1], data at t = 0

What follows from the two holds for every schedule:

    log-SNR(t) = 2 log(alpha_t / sigma_t), which falls as t grows, and for s < t
    q(x_t | x_s) = N(r x_s, v I)    with r = alpha_t / alpha_s
    v = sigma_t^2 - r^2 sigma_s^2 = -sigma_t^2 expm1(log-SNR(t) - log-SNR(s))
    dx = f x dt + g dw              with f = d log alpha / dt and g^2 = -sigma^2 d log-SNR / dt

The last form of v is the one to compute: the difference loses half its digits when s is near t.

Here are tables of T steps; schedules in continuous time are in `continuous`, those that learn in `learned`.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def match(coefficient: Tensor, x: Tensor) -> Tensor:
    """A coefficient () or (B,) in the precision of x (B, *), with dimensions to broadcast over."""
    return coefficient.to(x).reshape(coefficient.shape + (1,) * (x.dim() - coefficient.dim()))


class Schedule(nn.Module, ABC):
    """Signal and noise levels over time, in double precision.

    Time 0 is the data themselves, (1, 0), also where the noise of the smallest times does not go to 0.

    Attributes:
        steps: T, where the model is one of T discrete times i / T; None where it knows all of (0, 1].
        t_min: the smallest time that a network is asked about; below it there is only the data.
        t_max: the largest time whose log-SNR is finite, from which methods that step in log-SNR set out.
    """

    steps: int | None = None
    t_min: float = 1e-3
    t_max: float = 1.0

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

    @abstractmethod
    def time(self, log_snr: Tensor) -> Tensor:
        """The inverse of `log_snr`: the time t in (0, 1] at which it has this value, of the same shape."""

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(d log alpha / dt, d log-SNR / dt), each of the shape of `t`; in a table, of the line that passes t."""

        return derivatives(lambda t: (self(t)[0].log(), self.log_snr(t)), t)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(f, g^2) of the process dx = f x dt + g dw that has these marginals, each of the shape of `t`."""
        f, fall = self.slopes(t)
        return f, -(self(t)[1] ** 2) * fall

    @property
    def prior_scale(self) -> float:
        """The standard deviation of x_1, which sampling starts from: 1 where the variance is preserved."""
        return 1.0

    def observe(self, losses: Tensor) -> None:
        """What each datum of a training batch lost, (B,), told before the gradient is taken: see `learned`."""

    @property
    def device(self) -> torch.device:
        """Where its weights and tables are, and the times that it is asked about should be."""
        held = next(itertools.chain(self.parameters(), self.buffers()), None)
        return torch.device("cpu") if held is None else held.device

    def level(self, t: Tensor) -> Tensor:
        """What the network is told of t: DDPM counts its steps from 0, so i / T becomes i - 1."""
        return t * (self.steps or 1000) - 1


def interpolated(log_alpha: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """(alpha_t, sigma_t) where the variance is preserved and log alpha is linear between its values at i / T.

    Arguments:
        log_alpha: (T + 1,) in double, 0 first.
    """
    steps = len(log_alpha) - 1
    position = t.double() * steps
    i = position.detach().long().clamp(max=steps - 1)
    log_alpha = torch.lerp(log_alpha.take(i), log_alpha.take(i + 1), position - i)
    return log_alpha.exp(), (-torch.expm1(2 * log_alpha)).sqrt()


def interpolated_time(log_alpha: Tensor, log_snr: Tensor) -> Tensor:
    """The time at which `interpolated` has this log-SNR."""
    wanted = -0.5 * F.softplus(-log_snr.double())
    i = torch.searchsorted(-log_alpha, -wanted.contiguous()).clamp(1, len(log_alpha) - 1) - 1
    start, end = log_alpha.take(i), log_alpha.take(i + 1)
    return (i + (wanted - start) / (end - start)) / (len(log_alpha) - 1)


# log alpha of a last step without signal: alpha^2 is 0 to every digit of sigma^2, and quotients stay finite.
NO_SIGNAL = -45.0

# log alpha of the least signal that methods which step in log-SNR set out from; below it the cosine table takes huge
# steps of log-SNR in which nothing happens. It is that of log(alpha / sigma) = -5.1, as in code for DPM-Solver.
LEAST_SIGNAL = -5.1


def without_signal_at_the_end(log_alpha: Tensor) -> Tensor:
    """alpha shifted so that the last is 0 and scaled so that the first step's stays what it was.

    References:
        Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al., 2024), algorithm 1.
    """
    alpha = log_alpha[1:].exp()
    rescaled = (alpha - alpha[-1]) * (alpha[0] / (alpha[0] - alpha[-1]))
    return torch.cat([log_alpha[:1], rescaled[:-1].log(), log_alpha.new_full((1,), NO_SIGNAL)])


class Table(Schedule):
    """A schedule given by the betas of T steps: alpha_i^2 = (1 - beta_1) ... (1 - beta_i), exact at t = i / T.

    Between two steps log alpha is linear, so that continuous-time samplers can use a model of discrete steps.

    Arguments:
        beta: (T,).
        zero_terminal_snr: change the table so that its last step has no signal left.
    """

    log_alpha: Tensor

    def __init__(self, beta: Tensor, zero_terminal_snr: bool = False) -> None:
        super().__init__()
        beta = beta.double()
        log_alpha = torch.cat([beta.new_zeros(1), 0.5 * torch.log1p(-beta).cumsum(0)])
        if zero_terminal_snr:
            log_alpha = without_signal_at_the_end(log_alpha)
        self.register_buffer("log_alpha", log_alpha, persistent=False)
        self.steps, self.t_min = len(beta), 1 / len(beta)
        self.t_max = int((log_alpha >= LEAST_SIGNAL).sum() - 1) / len(beta)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves with the model to its device, and stays in double precision when the model is cast."""
        exact = self.log_alpha
        super()._apply(fn, recurse)
        self.log_alpha = exact.to(self.log_alpha.device)
        return self

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return interpolated(self.log_alpha, t)

    def time(self, log_snr: Tensor) -> Tensor:
        return interpolated_time(self.log_alpha, log_snr)


class LinearBeta(Table):
    """beta rises linearly from `first` to `last`, both scaled by 1000 / T so that the end is noise for any T.

    References:
        Denoising Diffusion Probabilistic Models (Ho et al., 2020), section 4.
        Improved Denoising Diffusion Probabilistic Models (Nichol & Dhariwal, 2021), for T other than 1000.
    """

    def __init__(
        self, steps: int = 1000, first: float = 1e-4, last: float = 0.02, zero_terminal_snr: bool = False
    ) -> None:
        if steps < 2:
            raise ValueError(f"steps must be at least 2, not {steps}")
        scale = 1000 / steps
        if not 0 < first * scale <= last * scale < 1:
            raise ValueError(
                f"first={first} and last={last} must satisfy 0 < first <= last, and last * 1000 / steps = "
                f"{last * scale:g} must be below 1"
            )
        super().__init__(torch.linspace(first * scale, last * scale, steps, dtype=torch.float64), zero_terminal_snr)


class Cosine(Table):
    """alpha_t^2 proportional to cos^2((t + s) / (1 + s) pi / 2), with beta at most `largest`.

    References:
        Improved Denoising Diffusion Probabilistic Models (Nichol & Dhariwal, 2021), eq. 17.
    """

    def __init__(
        self, steps: int = 1000, s: float = 0.008, largest: float = 0.999, zero_terminal_snr: bool = False
    ) -> None:
        if steps < 2:
            raise ValueError(f"steps must be at least 2, not {steps}")
        if not 0 < largest < 1:
            raise ValueError(f"largest must lie between 0 and 1, not {largest}")
        t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        alpha_squared = ((t + s) / (1 + s) * math.pi / 2).cos() ** 2
        super().__init__((1 - alpha_squared[1:] / alpha_squared[:-1]).clamp(max=largest), zero_terminal_snr)


class Geometric(Schedule):
    """NCSN's levels: alpha = 1, and sigma geometric over T steps from `low` to `high`.

    Between two steps log sigma is linear; below the first, sigma itself is.

    Arguments:
        steps: T, the number of levels.
        low, high: the smallest and the largest noise, for data in [-1, 1]: twice those of papers with data in [0, 1].

    References:
        Generative Modeling by Estimating Gradients of the Data Distribution (Song & Ermon, 2019), section 4.
        Improved Techniques for Training Score-Based Generative Models (Song & Ermon, 2020), section 3.
    """

    def __init__(self, steps: int = 10, low: float = 0.02, high: float = 2.0) -> None:
        super().__init__()
        if steps < 2:
            raise ValueError(f"steps must be at least 2, not {steps}")
        if not 0 < low < high:
            raise ValueError(f"low={low} and high={high} must satisfy 0 < low < high")
        self.steps: int = steps
        self.t_min, self.low, self.high = 1 / steps, low, high
        self.rate = math.log(high / low) / (steps - 1)

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        position = t.double() * self.steps
        sigma = self.low * torch.where(position < 1, position, ((position - 1) * self.rate).exp())
        return torch.ones_like(sigma), sigma

    def time(self, log_snr: Tensor) -> Tensor:
        ratio = (-0.5 * log_snr.double()).exp() / self.low
        return torch.where(ratio < 1, ratio, 1 + ratio.clamp(min=1).log() / self.rate) / self.steps

    @property
    def prior_scale(self) -> float:
        return self.high


def derivatives(of: Callable[[Tensor], tuple[Tensor, Tensor]], t: Tensor) -> tuple[Tensor, Tensor]:
    """The derivatives at t of two functions that map each time to a number, each of the shape of `t`, in double."""
    with torch.enable_grad():
        # Not by torch.func, whose first use loads hundreds of modules. A coefficient may be constant.
        shift = torch.zeros_like(t, dtype=torch.float64, requires_grad=True)
        first, second = ((values + 0 * shift).sum() for values in of(t.detach().double() + shift))
        (of_first,) = torch.autograd.grad(first, shift, retain_graph=True)
        (of_second,) = torch.autograd.grad(second, shift)
    return of_first, of_second
