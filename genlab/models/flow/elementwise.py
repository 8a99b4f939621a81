"""Invertible maps of single numbers, whose parameters are told to them.

    shift            z = x + t
    tanh_affine      z = x exp(s) + t,                 s = g tanh(a),    g learned
    sigmoid_affine   z = (x + t) (sigmoid(a + 2) + c),    c = 0.001

With parameters of zero, as networks give them at first, the first two are the identity and the third nearly is. c is
not in Glow: without it, what is far from all data may be mapped to infinity on the way back.

References:
    NICE: Non-linear Independent Components Estimation (Dinh, Krueger & Bengio, 2015), section 3.2.
    Density Estimation using Real NVP (Dinh, Sohl-Dickstein & Bengio, 2017), section 3.3, and its code for g.
    Glow: Generative Flow with Invertible 1x1 Convolutions (Kingma & Dhariwal, 2018), its code for the sigmoid.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from genlab.networks.actnorm import per_channel

# c above.
LEAST_SCALE = 1e-3


class Elementwise(nn.Module, ABC):
    """z_i = f(x_i; parameters_i), rising in x_i.

    Attributes:
        features: how many parameters an element has.
    """

    features: int

    @abstractmethod
    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """z and log dz/dx, (B, n, *) each, of x (B, n, *).

        Arguments:
            parameters: (B, features, n, *).
        """

    @abstractmethod
    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """x and log dx/dz, (B, n, *) each."""


class Shift(Elementwise):
    """Adds t, and stretches nothing."""

    features = 1

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return x + parameters[:, 0], torch.zeros_like(x)

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return z - parameters[:, 0], torch.zeros_like(z)


class TanhAffine(Elementwise):
    """RealNVP's affine map, whose log-scale is bounded by a learned number for each channel.

    Arguments:
        channels: n.
    """

    features = 2

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bound = nn.Parameter(torch.ones(channels))

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        shift, raw = parameters.unbind(1)
        return shift, per_channel(self.bound, raw) * raw.tanh()

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_scale = self._split(parameters)
        return x * log_scale.exp() + shift, log_scale

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_scale = self._split(parameters)
        return (z - shift) * (-log_scale).exp(), -log_scale


class SigmoidAffine(Elementwise):
    """Glow's affine map, which enlarges by c at most."""

    features = 2

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        shift, raw = parameters.unbind(1)
        log_scale = (torch.sigmoid(raw + 2) + LEAST_SCALE).log()
        return (x + shift) * log_scale.exp(), log_scale

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        shift, raw = parameters.unbind(1)
        log_scale = (torch.sigmoid(raw + 2) + LEAST_SCALE).log()
        return z * (-log_scale).exp() - shift, -log_scale
