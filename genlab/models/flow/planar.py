"""Planar flow: everything is moved along one direction, as far as another direction tells.

    z = x + u tanh(w x + b),    log_det = log |1 + (u w) (1 - tanh^2(w x + b))|
    u = v + (softplus(w v) - 1 - w v) w / |w|^2

u w > -1 whatever v is, so that w z rises with w x and the map has an inverse. It has no formula: w x is the root of
a + (u w) tanh(a + b) = w z, which halving finds, and x is z less the move.

References:
    Variational Inference with Normalizing Flows (Rezende & Mohamed, 2015), section 4.1 and appendix A.1.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.core.rng import Rng
from genlab.models.flow.transform import Composition, Flatten, Mapped, Shape, Transform
from genlab.networks.layers import at_least_one, linear


class PlanarStep(Transform):
    """The map above, of vectors (B, D).

    Arguments:
        size: D.
        vector: the width of the context, which adds to v, w and b; 0 for none.
    """

    def __init__(self, size: int, vector: int = 0) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.zeros(size))
        self.w = nn.Parameter(torch.randn(size) / math.sqrt(size))
        self.b = nn.Parameter(torch.zeros(1))
        self.vector = vector
        self.told = linear(vector, 2 * size + 1, scale=0) if vector else None

    def _plane(self, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """u and w (1 or B, D), b and u w (1 or B,)."""
        v, w, b = self.v[None], self.w[None], self.b
        if self.told is not None:
            more = self.told(context)
            size = v.shape[1]
            v, w, b = v + more[:, :size], w + more[:, size:-1], b + more[:, -1]
        product = (w * v).sum(1)
        allowed = F.softplus(product) - 1
        u = v + ((allowed - product) / w.square().sum(1))[:, None] * w
        return u, w, b, allowed

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        u, w, b, product = self._plane(context)
        t = ((w * x).sum(1) + b).tanh()
        return x + u * t[:, None], torch.log1p(product * (1 - t.square()))

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        u, w, b, product = self._plane(context)
        t = (root((w * z).sum(1), b, product) + b).tanh()
        return z - u * t[:, None], -torch.log1p(product * (1 - t.square()))


def root(aim: Tensor, b: Tensor, product: Tensor) -> Tensor:
    """a with a + product tanh(a + b) = aim, (B,), to the last digits of its type; the left side rises in a."""
    with torch.no_grad():
        low, high = aim - product.abs(), aim + product.abs()
        for _ in range(64 if aim.dtype == torch.float64 else 32):
            middle = (low + high) / 2
            above = middle + product * (middle + b).tanh() > aim
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        a = (low + high) / 2
        slope = 1 + product * (1 - (a + b).tanh().square())
    # A step of Newton's method, through which the gradients of the root pass.
    return a - (a + product * (a + b).tanh() - aim) / slope


class Planar(Transform):
    """Planar maps in a row, of data of any shape as vectors; they suit a few dimensions.

    Arguments:
        shape: of a datum.
        steps: how many.
        vector: the width of the context that the steps hear, 0 for none.
    """

    def __init__(self, shape: Sequence[int], steps: int = 32, vector: int = 0) -> None:
        super().__init__()
        at_least_one(steps=steps)
        size, self.vector = math.prod(shape), vector
        self.steps = Composition([Flatten(shape), *(PlanarStep(size, vector) for _ in range(steps))])

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return self.steps(x, context, rng)

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return self.steps.inverse(z, context, rng)

    def out_shape(self, shape: Shape) -> Shape:
        return self.steps.out_shape(shape)
