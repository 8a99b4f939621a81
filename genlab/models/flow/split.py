"""Half of the channels are given away, and the rest goes on.

    (z_1, z_2) = x,    eps = (z_2 - mu(z_1)) exp(-s(z_1)),    log_det = -sum s(z_1)

eps is given away. A standard normal eps is a normal z_2 whose mean and scale are learned from z_1; with mu = s = 0 it
is z_2 itself. So all of the noise has one distribution, whose temperature is one number.

References:
    Density Estimation using Real NVP (Dinh, Sohl-Dickstein & Bengio, 2017), section 3.6.
    Glow: Generative Flow with Invertible 1x1 Convolutions (Kingma & Dhariwal, 2018), its code for the learned prior.
"""

import torch
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.networks.coupling_nets import ZeroConv

# A scale beyond exp(this) is of no use, and far beyond it the inverse would overflow.
LOG_SCALE = 10.0


class Split(nn.Module):
    """The first half of the channels is kept; the second is given away.

    Arguments:
        channels: of what comes in, even.
        learned: the given half is normal with a mean and a scale that a 3x3 convolution of the kept half says, at first
            0 and 1; else they are 0 and 1.
    """

    def __init__(self, channels: int, learned: bool = False) -> None:
        super().__init__()
        if channels % 2:
            raise UserError(f"{channels} channels cannot be split into halves: their number must be even")
        self.prior = ZeroConv(channels // 2, channels) if learned else None

    def shapes(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of what is kept and of what is given away."""
        half = (shape[0] // 2, *shape[1:])
        return half, half

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The kept half, the given one, (B, C / 2, *) each, and log_det (B,)."""
        kept, given = x.chunk(2, dim=1)
        if self.prior is None:
            return kept, given, x.new_zeros(len(x))
        mean, log_scale = self._normal(kept)
        return kept, (given - mean) * (-log_scale).exp(), -log_scale.flatten(1).sum(1)

    def inverse(self, kept: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, *) and log_det (B,)."""
        log_det = kept.new_zeros(len(kept))
        if self.prior is not None:
            mean, log_scale = self._normal(kept)
            given, log_det = given * log_scale.exp() + mean, log_scale.flatten(1).sum(1)
        return torch.cat([kept, given], dim=1), log_det

    def _normal(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        assert self.prior is not None
        mean, log_scale = self.prior(kept).to(kept.dtype).chunk(2, dim=1)
        return mean, log_scale.clamp(-LOG_SCALE, LOG_SCALE)
