"""Activation normalisation: each channel is shifted and scaled, so that the first data have mean 0 and variance 1.

    z = (x + b) exp(s),    log_det = H W sum_c s_c

b and s are set from the first data and learned from there on.

References:
    Glow: Generative Flow with Invertible 1x1 Convolutions (Kingma & Dhariwal, 2018), section 3.1.
"""

from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.flow.transform import Mapped, Transform
from genlab.networks.actnorm import ChannelScale


class ActNorm(Transform):
    """The map above.

    Arguments:
        channels: of x (B, C, *).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = ChannelScale(channels)

    def _log_det(self, x: Tensor) -> Tensor:
        return (self.scale.log_scale.sum() * (x[0].numel() // x.shape[1])).expand(len(x))

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        z = self.scale(x)
        return z, self._log_det(x)

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return self.scale.inverse(z), -self._log_det(z)
