"""A scale for each number of a vector, by which NICE says which of them vary most.

    z_i = x_i exp(s_i),    log_det = sum_i s_i

s is set so that the first data have variance 1, and learned from there on. The paper begins at s = 0, from where pixels
that hardly vary, as those at the border of digits, take thousands of steps to their scales.

References:
    NICE: Non-linear Independent Components Estimation (Dinh, Krueger & Bengio, 2015), section 3.3.
"""

from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.flow.transform import Mapped, Transform
from genlab.networks.actnorm import ChannelScale


class Scaling(Transform):
    """The map above.

    Arguments:
        size: D of x (B, D).
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.scale = ChannelScale(size, shifts=False)

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return self.scale(x), self.scale.log_scale.sum().expand(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return self.scale.inverse(z), -self.scale.log_scale.sum().expand(len(z))
