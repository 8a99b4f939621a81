"""Codes that are points: the bottleneck of plain and denoising autoencoders, and of k-sparse ones.

    z = h,    or the k largest numbers of h and 0 for the others

Gradients reach the numbers that are kept alone.

References:
    Reducing the Dimensionality of Data with Neural Networks (Hinton & Salakhutdinov, 2006).
    k-Sparse Autoencoders (Makhzani & Frey, 2014).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.core.spec import Field, Spec
from genlab.models.autoencoder.bottleneck import Bottleneck, Posterior


class At(Posterior):
    """All of q at one z, without a prior.

    Arguments:
        z: (B, *).
        penalties, notes: as of any posterior.
    """

    def __init__(
        self, z: Tensor, penalties: Mapping[str, Tensor] | None = None, notes: Mapping[str, Tensor] | None = None
    ) -> None:
        self.z, self.penalties, self.notes = z, penalties or {}, notes or {}

    def sample(self, rng: Rng, k: int = 1) -> Tensor:
        return self.z[:, None].expand(-1, k, *self.z.shape[1:])

    def mode(self) -> Tensor:
        return self.z

    def log_prob(self, z: Tensor) -> Tensor:
        return z.new_zeros(z.shape[:2])

    def log_prior(self, z: Tensor) -> Tensor:
        return z.new_zeros(z.shape[:2])

    def kl(self) -> Tensor:
        """0: nothing holds the codes to a prior."""
        return self.z.new_zeros(len(self.z))


class Point(Bottleneck):
    """What the encoder says is the code.

    Arguments:
        size: of a code, or of each place of it where codes are maps.
    """

    variational = False

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"size must be at least 1, not {size}: a code has at least one number")
        self.inputs = self.outputs = size

    def forward(self, h: Tensor, step: int | None = None) -> At:
        return At(h)

    def fields(self, shape: torch.Size) -> Spec:
        return {"z": Field(tuple(shape))}


class KSparse(Point):
    """The k largest numbers of a code.

    Arguments:
        size: of a code.
        k: how many of its numbers are not 0 while it is learned.
        alpha: times so many afterwards.
    """

    def __init__(self, size: int, k: int = 25, alpha: float = 1.0) -> None:
        super().__init__(size)
        if not 1 <= k <= size:
            raise ValueError(f"k must be 1 to size={size}, not {k}")
        if alpha < 1:
            raise ValueError(f"alpha must be at least 1, not {alpha}")
        self.k, self.alpha = k, alpha

    def forward(self, h: Tensor, step: int | None = None) -> At:
        k = self.k if step is not None else min(self.inputs, round(self.alpha * self.k))
        kept = torch.zeros_like(h).scatter(1, h.topk(k, dim=1).indices, 1.0)
        return At(h * kept)
