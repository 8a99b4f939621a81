"""Neural spline flows: couplings, or autoregressive maps, whose numbers pass splines.

    couplings         the even and the odd places of a vector stay in turn, each time after an invertible matrix
    autoregressive    all numbers pass a spline that those before them tell, in alternating order

The published couplings have residual networks; here they are plain layers.

References:
    Neural Spline Flows (Durkan, Bekasov, Murray & Papamakarios, 2019), sections 3 and 5.1, appendix B.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.flow.actnorm import ActNorm
from genlab.models.flow.autoregressive import MaskedAutoregressive, orders
from genlab.models.flow.conv1x1 import Conv1x1
from genlab.models.flow.coupling import Alternate, Coupling
from genlab.models.flow.permutation import Permutation, random_order
from genlab.models.flow.spline import RationalQuadratic
from genlab.models.flow.transform import Composition, Flatten, Mapped, Shape, Transform
from genlab.networks.coupling_nets import Dense
from genlab.networks.layers import at_least_one

Mixing = Literal["lu", "shuffle", "none"]


def mixed(mixing: Mixing, size: int, seed: int) -> list[Transform]:
    """A matrix that begins as a random order, the order itself, or nothing."""
    order = random_order(size, seed)
    if mixing == "lu":
        return [Conv1x1(size, weight=torch.eye(size)[order])]
    return [Permutation(order)] if mixing == "shuffle" else []


class NSF(Transform):
    """The map above, of data of any shape as vectors, behind a shift and a scale that the first data set.

    Arguments:
        shape: of a datum.
        steps: how many; published are 10 on tables.
        kind: "coupling", which maps in one pass both ways, or "autoregressive", where a sample takes D steps.
        hidden: the widths of a step's layers.
        bins: K of each spline.
        bound: the splines span [-bound, bound], and beyond numbers stay what they are.
        mixing: before each step: "lu" is an invertible matrix, "shuffle" a fixed order, "none" nothing.
        vector: the width of the context that the steps hear, 0 for none.
    """

    def __init__(
        self,
        shape: Sequence[int],
        steps: int = 8,
        kind: Literal["coupling", "autoregressive"] = "coupling",
        hidden: Sequence[int] = (128, 128),
        bins: int = 8,
        bound: float = 3.0,
        mixing: Mixing = "lu",
        vector: int = 0,
    ) -> None:
        super().__init__()
        at_least_one(steps=steps)
        size, self.vector = math.prod(shape), vector
        network = partial(Dense, hidden=hidden, context=vector)
        parts: list[Transform] = [Flatten(shape), ActNorm(size)]
        for i, order in enumerate(orders("reversed", size, steps)):
            parts += mixed(mixing, size, i)
            spline = RationalQuadratic(bins, bound)
            if kind == "coupling":
                parts.append(Coupling(Alternate(size, i % 2 == 1), spline, network, vector))
            else:
                parts.append(MaskedAutoregressive(spline, size, hidden, order, vector))
        self.steps = Composition(parts)

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return self.steps(x, context, rng)

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return self.steps.inverse(z, context, rng)

    def out_shape(self, shape: Shape) -> Shape:
        return self.steps.out_shape(shape)
