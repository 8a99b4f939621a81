"""How much more the code's best number tells of a factor than its second best.

    MIG = 1/F sum_k (I(z_(1); v_k) - I(z_(2); v_k)) / H(v_k)

z_(1) and z_(2) have the greatest mutual information with the factor v_k, computed from counts with each number of the
code in bins of equal width. It is 1 where every factor has a number of its own that tells it exactly, save that 20 bins
do not tell all values of a factor that has more.

References:
    Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018), section 4.
    Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations (Locatello et al.,
        2019), whose bins are the default.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from genlab.metrics.record import How, Number


def binned(z: Tensor, bins: int) -> Tensor:
    """(N, D) int64: which of the bins between the least and the greatest value of its column each z lies in."""
    low, high = z.amin(0), z.amax(0)
    share = (z - low) / (high - low).clamp(min=torch.finfo(z.dtype).tiny)
    return (share * bins).long().clamp(max=bins - 1)


def entropy(counts: Tensor) -> Tensor:
    """(K,) nats of K distributions, from counts (K, *)."""
    p = counts.double().flatten(1)
    p = p / p.sum(1, keepdim=True)
    return -torch.xlogy(p, p).sum(1)


def mutual_information(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(D, F) nats of information between the columns of a (N, D) and b (N, F), integers from 0; and (F,) H(b)."""
    values = int(a.max()) + 1, int(b.max()) + 1
    rows = []
    for column in a.unbind(1):
        joint = column[:, None] * values[1] + b
        found = [pairs.bincount(minlength=values[0] * values[1]) for pairs in joint.unbind(1)]
        counts = torch.stack(found).view(-1, *values)
        rows.append(entropy(counts.sum(2)) + entropy(counts.sum(1)) - entropy(counts))
    return torch.stack(rows), entropy(counts.sum(1))


class MutualInformationGap:
    """MIG, and that of each factor.

    Arguments:
        bins: of each number of the code.
    """

    def __init__(self, bins: int = 20) -> None:
        if bins < 2:
            raise ValueError(f"bins must be at least 2, not {bins}")
        self.bins = bins

    def __call__(self, z: Tensor, factors: Tensor, names: Sequence[str], seed: int) -> list[Number]:
        """The score of codes z (N, D) of data with factors (N, F); nothing of it is random."""
        information, of_factor = mutual_information(binned(z, self.bins), factors)
        # A code of a single number has no second best.
        two = torch.cat([information, torch.zeros_like(information[:1])]).topk(2, dim=0).values
        gap = (two[0] - two[1]) / of_factor
        how: How = {"is": "gap of mutual informations over the factor's entropy", "bins": self.bins}
        each = [Number(f"mig/{name}", float(g), None, "", how) for name, g in zip(names, gap, strict=True)]
        return [Number("mig", float(gap.mean()), None, "", {**how, "over": ", ".join(names)}), *each]
