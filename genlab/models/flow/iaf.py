"""Inverse autoregressive flow: gates that the noise before them tells, so that a sample takes one pass.

    h_{k-1} = s_k(h_k) h_k + (1 - s_k(h_k)) m_k(h_k),    z = h_K,    x = h_0

The likelihood of data that are given takes D steps, and more memory than MAF's in training. As a posterior, whose own
samples are all that it must know the density of, it takes one pass.

References:
    Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016), sections 3 and 4.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from genlab.core.rng import Rng
from genlab.models.flow.actnorm import ActNorm
from genlab.models.flow.affine import Gate
from genlab.models.flow.autoregressive import Inverted, MaskedAutoregressive, Order, orders
from genlab.models.flow.transform import Composition, Flatten, Mapped, Shape, Transform
from genlab.networks.layers import at_least_one


def gates(size: int, steps: int, hidden: Sequence[int], order: Order = "reversed", vector: int = 0) -> Composition:
    """From noise (B, size) on, in the direction that takes one pass.

    Their hidden layers are of tanh, by which what they say stays bounded far from all data, where the way back is long.
    """
    at_least_one(steps=steps)
    return Composition(
        [
            MaskedAutoregressive(Gate(), size, hidden, places, vector, scale=0.01, activation=nn.Tanh)
            for places in orders(order, size, steps)
        ]
    )


class IAF(Transform):
    """The map above, of data of any shape as vectors, between shifts and scales that the first data set.

    Arguments:
        shape: of a datum.
        steps: K.
        hidden: the widths of a step's layers.
        order: "reversed" turns the order around from step to step; "random" draws it.
        vector: the width of the context that the steps hear, 0 for none.
    """

    def __init__(
        self,
        shape: Sequence[int],
        steps: int = 4,
        hidden: Sequence[int] = (128, 128),
        order: Order = "reversed",
        vector: int = 0,
    ) -> None:
        super().__init__()
        size, self.vector = math.prod(shape), vector
        # Gates make noise smaller, so that on the way to it data grow.
        inverted = Inverted(gates(size, steps, hidden, order, vector))
        self.steps = Composition([Flatten(shape), ActNorm(size), inverted, ActNorm(size)])

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return self.steps(x, context, rng)

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return self.steps.inverse(z, context, rng)

    def out_shape(self, shape: Shape) -> Shape:
        return self.steps.out_shape(shape)
