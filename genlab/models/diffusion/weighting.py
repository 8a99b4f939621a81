"""What an error counts at each time, and which times are drawn in training.

    L = E_t  w(t) |eps - eps_hat|^2 / D,    whatever the network predicts

w = 1 is DDPM's L_simple. An error of another prediction's target counts as 1 by w = 1 / worth, `prediction.target`'s.
The bound on the likelihood has, in continuous time and for a table of T steps,

    w = -1/2 d log-SNR / dt        w = T / 2 expm1(log-SNR(s) - log-SNR(t)),    s = t - 1 / T

Here are the uniform times; other ways to draw them are in `times`.

References:
    Denoising Diffusion Probabilistic Models (Ho et al., 2020), eq. 12 and 14.
    Maximum Likelihood Training of Score-Based Diffusion Models (Song et al., 2021), theorem 1.
    Variational Diffusion Models (Kingma et al., 2021), sections 4 and 5.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from genlab.core.rng import Rng
from genlab.models.diffusion.prediction import DATA_SCALE, Kind, target
from genlab.models.diffusion.schedule import Schedule


class Weighting(nn.Module, ABC):
    """w(t), the weight of a squared error of eps."""

    @abstractmethod
    def forward(self, schedule: Schedule, t: Tensor) -> Tensor:
        """(B,) for times (B,)."""


class Simple(Weighting):
    """w = 1: DDPM's L_simple, and denoising score matching with the weight sigma^2, NCSN's.

    References:
        Generative Modeling by Estimating Gradients of the Data Distribution (Song & Ermon, 2019), eq. 6.
    """

    def forward(self, schedule: Schedule, t: Tensor) -> Tensor:
        return torch.ones_like(t)


class Unit(Weighting):
    """A squared error of the target of a prediction counts as 1, whatever the network itself is asked for.

    velocity is flow matching's loss, v progressive distillation's "SNR + 1" on x_0, and edm EDM's,
    (s^2 + data_scale^2) / (s data_scale)^2 on x_0 with s = sigma / alpha.

    References:
        Progressive Distillation for Fast Sampling of Diffusion Models (Salimans & Ho, 2022), section 4.
        Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), table 1.
        Flow Matching for Generative Modeling (Lipman et al., 2023), eq. 23.

    Arguments:
        kind: the prediction: eps, x0, v, score, velocity or edm.
        data_scale: the standard deviation of the data that edm takes for given.
    """

    def __init__(self, kind: Kind, data_scale: float = DATA_SCALE) -> None:
        super().__init__()
        if data_scale <= 0:
            raise ValueError(f"data_scale must be above 0, not {data_scale}")
        self.kind, self.data_scale = kind, data_scale

    def forward(self, schedule: Schedule, t: Tensor) -> Tensor:
        alpha, sigma = schedule(t)
        return 1 / target(self.kind, alpha, sigma, self.data_scale).worth


class Likelihood(Weighting):
    """The loss is the bound on -log p(x_0), in nats a dimension, less its terms at t = 0 and t = 1.

    In continuous time w = -1/2 d log-SNR / dt = g^2 / (2 sigma^2). In a table it is T times what the KL of a step
    counts if its variance is the posterior's; the first step has the second's, as in `bound`.
    """

    def forward(self, schedule: Schedule, t: Tensor) -> Tensor:
        if schedule.steps is None:
            return -0.5 * schedule.slopes(t)[1]
        step = 1 / schedule.steps
        # Half a step of play, for i / T is rounded.
        first = t < 1.5 * step
        t = torch.where(first, 2 * step, t)
        fall = schedule.log_snr(t - step) - schedule.log_snr(t)
        weight = 0.5 * schedule.steps * torch.expm1(fall)
        return torch.where(first, self._of_first(schedule, step, fall), weight)

    @staticmethod
    def _of_first(schedule: Schedule, step: float, fall: Tensor) -> Tensor:
        """T (sigma_1 / alpha_1)^2 / (2 variance), the variance being q(x_1 | x_2, x_0)'s: -expm1(-fall) sigma_1^2."""
        alpha, _ = schedule(torch.full_like(fall, step))
        return -0.5 / step / (alpha**2 * torch.expm1(-fall))


class Times(nn.Module):
    """How times are drawn in training.

    A sampler that draws some times more often than others for the gradient's sake alone, not because they should count
    more, gives a `weight` that undoes it.
    """

    def check(self, schedule: Schedule) -> None:
        """Raise a UserError where it cannot draw times of this schedule."""

    def forward(self, schedule: Schedule, rng: Rng) -> Tensor:
        """(B,) in double, one row of `rng` each."""
        raise NotImplementedError

    def weight(self, schedule: Schedule, t: Tensor) -> Tensor:
        """(B,), the density of uniform times over that of the times drawn."""
        return torch.ones_like(t)

    def observe(self, schedule: Schedule, t: Tensor, losses: Tensor) -> None:
        """What was lost at times (B,) in a training batch, each (B,), without gradients."""


def placed(schedule: Schedule, u: Tensor, first: float = 0.0) -> Tensor:
    """u in [0, 1) as times: i / T, i = 1 .. T, where the schedule is a table of T steps, else from `first` to 1."""
    if schedule.steps is None:
        return first + (1 - first) * u
    return ((u * schedule.steps).floor() + 1) / schedule.steps


def check_first(first: float) -> None:
    """Raise a ValueError where it is not the smallest of the times to be drawn."""
    if not 0 <= first < 1:
        raise ValueError(f"first must be at least 0 and below 1, not {first}")


class UniformTimes(Times):
    """t uniform: over i / T, i = 1 .. T, where the schedule is a table of T steps, else over (first, 1).

    Arguments:
        first: the smallest time, where time is continuous.
    """

    def __init__(self, first: float = 1e-5) -> None:
        super().__init__()
        check_first(first)
        self.first = first

    def forward(self, schedule: Schedule, rng: Rng) -> Tensor:
        return placed(schedule, rng.stage("time").uniform(dtype=torch.float64), self.first)
