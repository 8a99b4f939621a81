"""Codebooks: K vectors e_j, of which a code is the number of one at each of its places.

    nearest       j = argmin_j |v - e_j|^2 = argmax_j v . e_j - |e_j|^2 / 2
    perplexity    exp(-sum_j p_j log p_j),    p_j the share of places that take e_j

A prior that is uniform makes every code of P places as likely as any other: log p(z) = -P log K.

References:
    Neural Discrete Representation Learning (van den Oord, Vinyals & Kavukcuoglu, 2017), section 3.
    k-means++: The Advantages of Careful Seeding (Arthur & Vassilvitskii, 2007); Scalable K-Means++ (Bahmani et al.,
    2012), for several draws a round.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from genlab.core.rng import Rng
from genlab.core.spec import Batch, Field, Spec
from genlab.models.autoencoder.bottleneck import Posterior

# Similarities that are held at once.
AT_ONCE = 2**24
# A squared distance that is nothing, but not 0.
TINY = 1e-30


def check_sizes(codes: int, size: int) -> None:
    """Raise a ValueError where there would be no code, or nothing in it."""
    if codes < 1:
        raise ValueError(f"codes must be at least 1, not {codes}: a codebook has at least one vector")
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size}: a code's vector has at least one number")


def rows(h: Tensor) -> Tensor:
    """The vectors of all places of h (B, D, *), (B P, D)."""
    return h.movedim(1, -1).flatten(0, -2)


@torch.no_grad()
def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """The number of the nearest e_j, the lowest of those equally near, (N,) int64.

    Arguments:
        vectors: (N, D).
        codebook: (K, D).
    """
    offset, columns = codebook.square().sum(1) / -2, codebook.T
    parts = vectors.split(max(1, AT_ONCE // len(codebook)))
    found = [torch.addmm(offset, part, columns).argmax(1) for part in parts]
    return found[0] if len(found) == 1 else torch.cat(found)


def look_up(codebook: Tensor, index: Tensor) -> Tensor:
    """The vectors (B, D, *) of the numbers (B, *)."""
    return F.embedding(index, codebook).movedim(-1, 1)


def requantized(codebook: Tensor, z: Tensor) -> Tensor:
    """Of each place of z (B, D, *) the nearest vector."""
    index = nearest(rows(z), codebook).view(len(z), *z.shape[2:])
    return look_up(codebook, index)


def count(index: Tensor, codes: int) -> Tensor:
    """How often each number of 0 .. codes - 1 stands in `index`, (codes,) single precision."""
    flat = index.flatten()
    return torch.zeros(codes, device=flat.device).index_add_(0, flat, torch.ones(len(flat), device=flat.device))


def usage(index: Tensor, codes: int) -> dict[str, Tensor]:
    """The perplexity of the numbers in `index`, and the share of codes that stand there at all."""
    counted = count(index, codes)
    share = counted / counted.sum()
    return {"perplexity": torch.special.entr(share).sum().exp(), "used": (counted > 0).float().mean()}


def fields(shape: torch.Size, codes: int) -> Spec:
    """What codes are, where the decoder takes z of this shape (D, *)."""
    return {"z": Field(tuple(shape)), "index": Field(tuple(shape[1:]), classes=codes)}


def uniform(codebook: Tensor, field: Field, rng: Rng) -> Batch:
    """Codes that are all equally likely, one a row of `rng`."""
    index = rng.integers(len(codebook), *field.shape)
    return {"z": look_up(codebook, index), "index": index}


def interval(ends: Tensor, place: Tensor) -> Tensor:
    """In which of the intervals that end at `ends` (N,), rising, the places (M,) lie: 0 .. N - 1."""
    return torch.searchsorted(ends, place, right=True).clamp(max=len(ends) - 1)


@torch.no_grad()
def spread(vectors: Tensor, codes: int, rng: Rng) -> Tensor:
    """So many of the vectors (N, D), far from each other: (codes, D).

    They are drawn in rounds, each of as many as there are already, in proportion to their squared distance from those.

    Arguments:
        rng: one row a code.
    """
    u = rng.uniform(dtype=torch.float64)
    chosen = vectors[(u[:1] * len(vectors)).long()]
    while len(chosen) < codes:
        distance = (vectors - chosen[nearest(vectors, chosen)]).square().sum(1).double()
        # Where there are fewer different vectors than codes, all distances come to nothing.
        ends = (distance + TINY).cumsum(0)
        more = u[len(chosen) : 2 * len(chosen)] * ends[-1]
        chosen = torch.cat([chosen, vectors[interval(ends, more)]])
    return chosen


class Point(Posterior):
    """All mass on one of finitely many codes, each as likely as the others under the prior.

    Arguments:
        z: as the decoder takes it, (B, *).
        codes: as `encode` gives them.
        information: the logarithm of how many codes there are, which is the divergence.
        penalties, notes: as in every posterior.
    """

    nature = "codes are points, and the prior is uniform over all of them, so the divergence is log of their number"

    def __init__(
        self, z: Tensor, codes: Batch, information: float, penalties: Mapping[str, Tensor], notes: Mapping[str, Tensor]
    ) -> None:
        self.z, self.given, self.information, self.penalties, self.notes = z, codes, information, penalties, notes

    def sample(self, rng: Rng, k: int = 1) -> Tensor:
        return self.z[:, None].expand(-1, k, *self.z.shape[1:])

    def mode(self) -> Tensor:
        return self.z

    def log_prob(self, z: Tensor) -> Tensor:
        return z.new_zeros(z.shape[:2])

    def log_prior(self, z: Tensor) -> Tensor:
        return z.new_full(z.shape[:2], -self.information)

    def kl(self) -> Tensor:
        return self.z.new_full((len(self.z),), self.information)

    def codes(self, rng: Rng | None = None) -> Batch:
        return self.given


def information(index: Tensor, codes: int) -> float:
    """P log K of numbers (B, *) at P places."""
    return math.prod(index.shape[1:]) * math.log(codes)
