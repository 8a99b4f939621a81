"""The affine maps of autoregressive flows.

    mean_scale    z = (x - m) exp(-a)                          as MAF has it
    gate          z = s x + (1 - s) m,    s = sigmoid(a + 1)   as IAF has it

|a| of the first is held below 10, softly, by a / (1 + |a| / 10), which is not in the paper: what is far from all data
else is mapped to infinity on the way back. A step of the second keeps most of what it is given, at first.

References:
    Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016), eq. 13 and 14.
    Masked Autoregressive Flow for Density Estimation (Papamakarios, Pavlakou & Murray, 2017), section 3.1.
"""

import torch.nn.functional as F
from torch import Tensor

from genlab.models.flow.elementwise import Elementwise

LIMIT = 10.0
KEEPING = 1.0


class MeanScale(Elementwise):
    """A mean that is taken away and a log-scale that is divided by."""

    features = 2

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = self._split(parameters)
        return (x - mean) * (-log_scale).exp(), -log_scale

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = self._split(parameters)
        return z * log_scale.exp() + mean, log_scale

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = parameters.unbind(1)
        return mean, raw / (1 + raw.abs() / LIMIT)


class Gate(Elementwise):
    """A mean of what comes in and of what is new, weighted by s."""

    features = 2

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        new, log_gate = self._split(parameters)
        return new + log_gate.exp() * (x - new), log_gate

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        new, log_gate = self._split(parameters)
        return new + (-log_gate).exp() * (z - new), -log_gate

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        new, raw = parameters.unbind(1)
        return new, F.logsigmoid(raw + KEEPING)
