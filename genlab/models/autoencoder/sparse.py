"""Codes of which each number is seldom on: the sparse autoencoder.

    z = sigmoid(h),    penalty = lambda sum_j KL(rho || rho_j),    rho_j = the mean of z_j over the data
    KL(rho || r) = rho log(rho / r) + (1 - rho) log((1 - rho) / (1 - r))

The mean is that of the batch, all processes' parts of it together, so the loss is not a mean over data. It is found as
its logarithm, from that of sigmoid(h): a number that is never on, or always, costs a finite amount and is drawn back.

References:
    Sparse Deep Belief Net Model for Visual Area V2 (Lee, Ekanadham & Ng, 2008).
    Sparse Autoencoder, CS294A lecture notes (Ng, 2011), section 3.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from genlab.core.collectives import all_cat_with_gradients
from genlab.models.autoencoder.point import At, Point


def divergence(rho: float, h: Tensor) -> Tensor:
    """KL(rho || mean of sigmoid(h)) in nats, (D,), the mean being over the rows of h (N, D)."""
    log_on, log_off = (torch.logsumexp(F.logsigmoid(side), 0) - math.log(len(h)) for side in (h, -h))
    return rho * (math.log(rho) - log_on) + (1 - rho) * (math.log1p(-rho) - log_off)


class Sparse(Point):
    """Codes in (0, 1), on for a share rho of the data.

    Arguments:
        size: of a code.
        rho: the share.
        penalty: lambda, what a nat of each number's divergence costs, in nats a datum.
    """

    whole_batch = True

    def __init__(self, size: int, rho: float = 0.05, penalty: float = 3.0) -> None:
        super().__init__(size)
        if not 0 < rho < 1:
            raise ValueError(f"rho must be between 0 and 1, not {rho}")
        if penalty < 0:
            raise ValueError(f"penalty must be at least 0, not {penalty}")
        self.rho, self.penalty = rho, penalty

    def forward(self, h: Tensor, step: int | None = None) -> At:
        z = h.sigmoid()
        if step is None:
            return At(z)
        # Half precision, should the encoder run in it, is too little for the logarithm of a sum.
        places = all_cat_with_gradients(h.to(torch.promote_types(h.dtype, torch.float32))).movedim(1, -1).flatten(0, -2)
        cost = self.penalty * divergence(self.rho, places).sum()
        return At(z, {"sparsity": cost.expand(len(z))}, {"activity": places.sigmoid().mean()})
