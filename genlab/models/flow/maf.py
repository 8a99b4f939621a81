"""Masked autoregressive flow: MADEs in a row, in alternating order, with a normalisation between.

    h_k = (h_{k-1} - m_k(h_{k-1})) exp(-a_k(h_{k-1})),    z = h_K

With one step it is the autoregressive density with normal conditionals that MADE has for real numbers.

References:
    Masked Autoregressive Flow for Density Estimation (Papamakarios, Pavlakou & Murray, 2017), sections 3 and 4.2.
"""

import math
from collections.abc import Sequence

from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.flow.affine import MeanScale
from genlab.models.flow.autoregressive import MaskedAutoregressive, Order, orders
from genlab.models.flow.realnvp import NORMS, Norm
from genlab.models.flow.transform import Composition, Flatten, Mapped, Shape, Transform
from genlab.networks.layers import at_least_one


class MAF(Transform):
    """The map above, of data of any shape as vectors: the likelihood takes one pass, a sample D steps.

    Arguments:
        shape: of a datum.
        steps: K, 5 or 10 as published.
        hidden: the widths of a step's layers; published are one of 1,024 on MNIST, two of 100 to 512 on tables.
        norm: between steps: "batch" as published, "act" or "none".
        order: "reversed" turns the order around from step to step; "random" draws it.
        vector: the width of the context that the steps hear, 0 for none.
    """

    def __init__(
        self,
        shape: Sequence[int],
        steps: int = 5,
        hidden: Sequence[int] = (512, 512),
        norm: Norm = "batch",
        order: Order = "reversed",
        vector: int = 0,
    ) -> None:
        super().__init__()
        at_least_one(steps=steps)
        size, self.vector = math.prod(shape), vector
        parts: list[Transform] = [Flatten(shape)]
        for i, places in enumerate(orders(order, size, steps)):
            parts += NORMS[norm](size) if i else []
            parts.append(MaskedAutoregressive(MeanScale(), size, hidden, places, vector))
        self.steps = Composition(parts)

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return self.steps(x, context, rng)

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return self.steps.inverse(z, context, rng)

    def out_shape(self, shape: Shape) -> Shape:
        return self.steps.out_shape(shape)
