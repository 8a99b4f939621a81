"""Codes of which each number is seldom on: the sparse autoencoder.

    z = sigmoid(h),    penalty = lambda sum_j KL(rho || rho_j),    rho_j = the mean of z_j over the data
    KL(rho || r) = rho log(rho / r) + (1 - rho) log((1 - rho) / (1 - r))

The mean is that of the batch, all processes' parts of it together, so the loss is not a mean over data.

References:
    Sparse Deep Belief Net Model for Visual Area V2 (Lee, Ekanadham & Ng, 2008).
    Sparse Autoencoder, CS294A lecture notes (Ng, 2011), section 3.
"""

import torch
from torch import Tensor

from genlab.core.collectives import all_cat_with_gradients
from genlab.models.autoencoder.point import At, Point

# A mean of exactly 0 or 1 would cost infinitely much.
EDGE = 1e-6


def bernoulli_kl(rho: float, r: Tensor) -> Tensor:
    """KL(rho || r) in nats, of the shape of r in (0, 1)."""
    r = r.clamp(EDGE, 1 - EDGE)
    own = torch.tensor([rho, 1 - rho], dtype=torch.float64)
    entropy = float(-(own * own.log()).sum())
    return -(rho * r.log() + (1 - rho) * (1 - r).log()) - entropy


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
        places = all_cat_with_gradients(z).movedim(1, -1).flatten(0, -2)
        divergence = bernoulli_kl(self.rho, places.mean(0)).sum()
        return At(z, {"sparsity": (self.penalty * divergence).expand(len(z))}, {"activity": places.mean()})
