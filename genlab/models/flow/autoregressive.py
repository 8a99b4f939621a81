"""Autoregressive maps: each number is changed by a map of its own, which the numbers before it tell.

    z_i = f(x_i; network_i(x_before i)),    log_det = sum_i log f'(x_i)

From x to z all numbers are mapped at once. On the way back x_i is needed before the map of x_{i+1} is known: D steps,
which together compute each hidden unit of the network once.

References:
    Masked Autoregressive Flow for Density Estimation (Papamakarios, Pavlakou & Murray, 2017), section 3.
    Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016), section 3.
"""

from collections.abc import Callable, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from genlab.core.rng import Rng
from genlab.models.flow.elementwise import Elementwise
from genlab.models.flow.permutation import random_order, reversed_order
from genlab.models.flow.transform import Mapped, Shape, Transform
from genlab.networks.masked import MADE

Order = Literal["reversed", "random"]


def orders(kind: Order, size: int, count: int) -> list[Tensor]:
    """The orders of maps in a row: forwards and backwards in turn, or forwards and then any."""
    if kind == "reversed":
        return [reversed_order(size) if i % 2 else torch.arange(size) for i in range(count)]
    return [random_order(size, seed=i) if i else torch.arange(size) for i in range(count)]


class MaskedAutoregressive(Transform):
    """The map above, of vectors (B, D).

    Arguments:
        elementwise: f.
        size: D.
        hidden: the widths of the network's hidden layers.
        order: (D,), the number that comes first, second and so on; None is 0 .. D - 1.
        vector: the width of the context that the network hears, 0 for none.
        scale: of the last layer's first weights; at 0 all maps begin equal, near the identity.
        activation: makes the nonlinearity of the hidden layers.
    """

    def __init__(
        self,
        elementwise: Elementwise,
        size: int,
        hidden: Sequence[int],
        order: Tensor | None = None,
        vector: int = 0,
        scale: float = 0.0,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        self.elementwise, self.vector = elementwise, vector
        self.network = MADE(
            size, elementwise.features, hidden, context=vector, order=order, scale=scale, activation=activation
        )

    def _heard(self, context: Tensor | None) -> Tensor | None:
        return context if self.vector else None

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        parameters = self.network(x[:, None], self._heard(context)).to(x.dtype)
        z, log_slope = self.elementwise(x, parameters)
        return z, log_slope.sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        elementwise = cast(Elementwise, self.elementwise)
        places = self.network.start(len(z), self._heard(context))
        total, last = z.new_zeros(len(z), 1), None
        found: list[Tensor] = []
        for place in self.network.order.tolist():
            parameters = places.advance(last).to(z.dtype)
            last, log_slope = elementwise.inverse(z[:, place : place + 1], parameters[:, :, None])
            total = total + log_slope
            found.append(last)
        return torch.cat(found, dim=1)[:, self.network.ranks], total[:, 0]


class Inverted(Transform):
    """Another map the other way around.

    Arguments:
        transform: of data that keep their shape.
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform, self.vector = transform, transform.vector

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return cast(Transform, self.transform).inverse(x, context, rng)

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return self.transform(z, context, rng)

    def out_shape(self, shape: Shape) -> Shape:
        return shape
