"""Batch normalisation as an invertible map.

    z = (x - m) / sqrt(v + eps) exp(s) + b,    log_det = H W sum_c (s_c - log(v_c + eps) / 2)

In training m and v are the mean and the variance of each channel over the batch and all places, those of the other
processes among them, and gradients pass through them; elsewhere, and on the way back, they are running averages.

References:
    Density Estimation using Real NVP (Dinh, Sohl-Dickstein & Bengio, 2017), section 3.7 and appendix E.
"""

from typing import Any

import torch
from torch import Tensor, nn

from genlab.core.collectives import all_sum
from genlab.core.rng import Rng
from genlab.models.flow.transform import Mapped, Transform
from genlab.networks.actnorm import FirstSeen, moments, per_channel

EPS = 1e-5


class OverProcesses(torch.autograd.Function):
    """The sum over all processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return all_sum(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return all_sum(gradient)


class Averages(FirstSeen):
    """The running mean and variance of each channel, those of the first data at first.

    Arguments:
        channels: how many.
        momentum: the weight of a batch in the averages.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    @torch.no_grad()
    def update(self, mean: Tensor, variance: Tensor) -> None:
        """Take in a batch's."""
        weight = 1.0 if self.is_first else self.momentum
        self.mean.lerp_(mean.detach().to(self.mean), weight)
        self.variance.lerp_(variance.detach().to(self.variance), weight)


class BatchNorm(Transform):
    """The map above.

    Arguments:
        channels: of x (B, C, *).
        momentum: the weight of a batch in the running averages.
    """

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__()
        if not 0 < momentum <= 1:
            raise ValueError(f"momentum must be above 0 and at most 1, not {momentum}")
        self.averages = Averages(channels, momentum)
        self.shift = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        if self.averages.is_first:
            self.averages.update(*moments(x))
        if self.training:
            places = x.transpose(0, 1).flatten(1)
            count = all_sum(places.new_tensor(places.shape[1]))
            mean = OverProcesses.apply(places.sum(1)) / count
            variance = OverProcesses.apply((places - mean[:, None]).square().sum(1)) / count
            self.averages.update(mean, variance)
        else:
            mean, variance = self.averages.mean, self.averages.variance
        log_scale = self._log_scale(variance)
        z = (x - per_channel(mean, x)) * per_channel(log_scale, x).exp() + per_channel(self.shift, x)
        return z, self._log_det(log_scale, x)

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        log_scale = self._log_scale(self.averages.variance)
        x = (z - per_channel(self.shift, z)) * (-per_channel(log_scale, z)).exp()
        return x + per_channel(self.averages.mean, z), -self._log_det(log_scale, z)

    def _log_scale(self, variance: Tensor) -> Tensor:
        return self.log_scale - (variance + EPS).log() / 2

    def _log_det(self, log_scale: Tensor, x: Tensor) -> Tensor:
        return (log_scale.sum() * (x[0].numel() // x.shape[1])).expand(len(x))
