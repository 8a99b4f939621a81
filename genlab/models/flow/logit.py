"""From (0, 1) to the real line, the ends kept away from infinity.

    z = log p - log (1 - p),    p = alpha + (1 - 2 alpha) x,    log_det = sum log (1 - 2 alpha) - log p - log (1 - p)

References:
    Density Estimation using Real NVP (Dinh, Sohl-Dickstein & Bengio, 2017), section 4.1, with alpha 0.05.
    Masked Autoregressive Flow for Density Estimation (Papamakarios, Pavlakou & Murray, 2017), appendix E, with 1e-6 on
    MNIST and 0.05 on CIFAR-10.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.flow.transform import Mapped, Transform


class Logit(Transform):
    """The map above.

    Arguments:
        alpha: the distance from 0 and 1 that data are kept at, above 0 and below 1/2.

    Raises UserError outside training where x does not lie in [0, 1].
    """

    def __init__(self, alpha: float = 0.05) -> None:
        super().__init__()
        if not 0 < alpha < 0.5:
            raise ValueError(f"alpha must be above 0 and below 0.5, not {alpha}: 0.05 for images, 1e-6 for MNIST")
        self.alpha = alpha

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        # Training does not look, since a look would wait for the device.
        if not self.training and bool(((x < 0) | (x > 1)).any()):
            raise UserError(
                f"preprocess.logit: it takes values in [0, 1], and these reach from {float(x.min()):.4g} to "
                f"{float(x.max()):.4g}; are they outside of the data's levels?"
            )
        inner = 1 - 2 * self.alpha
        log_p, log_q = (self.alpha + inner * x).log(), (self.alpha + inner * (1 - x)).log()
        return log_p - log_q, (math.log(inner) - log_p - log_q).flatten(1).sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        log_p, log_q, inner = F.logsigmoid(z), F.logsigmoid(-z), 1 - 2 * self.alpha
        return (torch.sigmoid(z) - self.alpha) / inner, (log_p + log_q - math.log(inner)).flatten(1).sum(1)
