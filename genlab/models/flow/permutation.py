"""Channels, or the numbers of a vector, in another order.

    z_i = x_{order(i)},    log_det = 0

References:
    Density Estimation using Real NVP (Dinh, Sohl-Dickstein & Bengio, 2017), section 3.5.
    Glow: Generative Flow with Invertible 1x1 Convolutions (Kingma & Dhariwal, 2018), section 3.2.
"""

import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.flow.transform import Mapped, Transform


class Permutation(Transform):
    """A fixed order, which the checkpoint holds.

    Arguments:
        order: (C,), the numbers 0 .. C - 1 in any order.
    """

    order: Tensor

    def __init__(self, order: Tensor) -> None:
        super().__init__()
        if not torch.equal(order.sort().values, torch.arange(len(order))):
            raise ValueError(f"order must hold each of 0 .. {len(order) - 1} once")
        self.register_buffer("order", order.clone())

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return x[:, self.order], x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return z[:, self.order.argsort()], z.new_zeros(len(z))


def random_order(size: int, seed: int) -> Tensor:
    """The numbers 0 .. size - 1 in an order that depends on the seed alone."""
    drawn: Tensor = Rng(seed, torch.zeros(1, dtype=torch.long)).stage("permutation").uniform(size, dtype=torch.float64)
    return drawn[0].argsort(stable=True)


def reversed_order(size: int) -> Tensor:
    """The numbers size - 1 .. 0."""
    return torch.arange(size).flip(0)
