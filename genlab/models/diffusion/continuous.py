"""Schedules in continuous time: the diffusions of score SDEs, EDM's noise levels, and the straight path.

    variance preserving    log alpha = -B / 2,    sigma^2 = 1 - exp(-B),     B(t) = beta_0 t + (beta_1 - beta_0) t^2 / 2
    sub-VP                 log alpha = -B / 2,    sigma = 1 - exp(-B)
    variance exploding     alpha = 1,             sigma = low (high / low)^t
    EDM                    alpha = 1,             sigma = high t
    straight               alpha = 1 - t,         sigma = t

References:
    Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), section 3.4.
    Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), table 1.
    Flow Matching for Generative Modeling (Lipman et al., 2023), section 4.1.
    Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow (Liu et al., 2023).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from genlab.models.diffusion.schedule import Schedule


def _check_smallest(t_min: float) -> None:
    if not 0 < t_min < 1:
        raise ValueError(f"t_min must lie between 0 and 1, not {t_min}")


class _LinearRate(Schedule):
    """alpha = exp(-B / 2) with B the integral of a rate that rises linearly from `first` to `last`."""

    def __init__(self, first: float = 0.1, last: float = 20.0, t_min: float = 1e-3) -> None:
        super().__init__()
        _check_smallest(t_min)
        if not 0 < first < last:
            raise ValueError(f"first={first} and last={last} must satisfy 0 < first < last")
        self.first, self.last, self.t_min = first, last, t_min

    def integral(self, t: Tensor) -> Tensor:
        """B(t)."""
        t = t.double()
        return t * (self.first + 0.5 * (self.last - self.first) * t)

    def time_of_integral(self, b: Tensor) -> Tensor:
        """The t at which B(t) = b."""
        return 2 * b / (self.first + (self.first**2 + 2 * (self.last - self.first) * b).sqrt())

    def level(self, t: Tensor) -> Tensor:
        """999 t, as if t counted 1,000 steps."""
        return 999 * t


class VariancePreserving(_LinearRate):
    """DDPM's process in continuous time.

    Arguments:
        first, last: beta_0 and beta_1, the rates at the data and at the noise.
        t_min: the smallest time that samplers go down to: 1e-3 as published; likelihoods go further.
    """

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        b = self.integral(t)
        return (-0.5 * b).exp(), (-torch.expm1(-b)).sqrt()

    def time(self, log_snr: Tensor) -> Tensor:
        return self.time_of_integral(F.softplus(-log_snr.double()))


class SubVariancePreserving(_LinearRate):
    """The process whose variance stays below that of the variance preserving one, with the same signal.

    Arguments:
        first, last, t_min: as in `VariancePreserving`.
    """

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        b = self.integral(t)
        return (-0.5 * b).exp(), -torch.expm1(-b)

    def time(self, log_snr: Tensor) -> Tensor:
        sigma = 2 / (1 + (1 + 4 * log_snr.double().exp()).sqrt())
        return self.time_of_integral(-torch.log1p(-sigma))


class VarianceExploding(Schedule):
    """NCSN's process in continuous time; the network is told log sigma.

    Arguments:
        low, high: the smallest and the largest noise, for data in [-1, 1].
        t_min: the smallest time that samplers go down to.
    """

    def __init__(self, low: float = 0.01, high: float = 50.0, t_min: float = 1e-5) -> None:
        super().__init__()
        _check_smallest(t_min)
        if not 0 < low < high:
            raise ValueError(f"low={low} and high={high} must satisfy 0 < low < high")
        self.low, self.high, self.t_min = low, high, t_min
        self.range = math.log(high / low)

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        t = t.double()
        sigma = torch.where(t > 0, self.low * (self.range * t).exp(), 0.0)
        return torch.ones_like(t), sigma

    def time(self, log_snr: Tensor) -> Tensor:
        return (-0.5 * log_snr.double() - math.log(self.low)) / self.range

    @property
    def prior_scale(self) -> float:
        return self.high

    def level(self, t: Tensor) -> Tensor:
        """log sigma."""
        return self(t)[1].log()


class LinearSigma(Schedule):
    """EDM's process: sigma is the time, here as a part of the largest.

    Arguments:
        low, high: the noise at which sampling ends and begins.
    """

    def __init__(self, low: float = 0.002, high: float = 80.0) -> None:
        super().__init__()
        if not 0 < low < high:
            raise ValueError(f"low={low} and high={high} must satisfy 0 < low < high")
        self.low, self.high, self.t_min = low, high, low / high

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        sigma = self.high * t.double()
        return torch.ones_like(sigma), sigma

    def time(self, log_snr: Tensor) -> Tensor:
        return (-0.5 * log_snr.double()).exp() / self.high

    @property
    def prior_scale(self) -> float:
        return self.high

    def level(self, t: Tensor) -> Tensor:
        """log sigma / 4."""
        return 0.25 * self(t)[1].log()


class Straight(Schedule):
    """The straight path from data to noise: flow matching's with sigma_min = 0, and rectified flow's.

    Arguments:
        t_min: the smallest time for methods that step in log-SNR, which begin at 1 - t_min as well.
    """

    def __init__(self, t_min: float = 1e-3) -> None:
        super().__init__()
        if not 0 < t_min < 0.5:
            raise ValueError(f"t_min must lie between 0 and 0.5, not {t_min}")
        self.t_min, self.t_max = t_min, 1 - t_min

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        t = t.double()
        return 1 - t, t

    def time(self, log_snr: Tensor) -> Tensor:
        return torch.sigmoid(-0.5 * log_snr.double())

    def level(self, t: Tensor) -> Tensor:
        """1000 t."""
        return 1000 * t
