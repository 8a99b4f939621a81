"""How many samples lie among the data, and how many data lie among the samples.

    precision = mean_j [ y_j in M(x) ],  recall = mean_i [ x_i in M(y) ],  M(x) = union of balls B(x_i, r_k(x_i))

with r_k(x_i) the distance from x_i to the k-th nearest of the other x.

References:
    Improved Precision and Recall Metric for Assessing Generative Models (Kynkaanniemi et al., 2019).
"""

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.metrics.contract import check_count, check_enough
from genlab.metrics.features import FeatureSet, provenance
from genlab.metrics.kernel_distance import choose
from genlab.metrics.record import How, Number, Ranking

CHUNK = 1024


def radii(x: Tensor, k: int) -> Tensor:
    """(n,) the distance from each of x (n, d) to its k-th nearest neighbour."""
    return torch.cat([torch.cdist(part, x).kthvalue(k + 1, dim=1).values for part in x.split(CHUNK)])


def coverage(points: Tensor, centres: Tensor, radius: Tensor) -> float:
    """The share of the points that lie in at least one ball."""
    inside = [(torch.cdist(part, centres) <= radius).any(1) for part in points.split(CHUNK)]
    return float(torch.cat(inside).double().mean())


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """(precision, recall) of the features fake (n, d) and real (m, d)."""
    return coverage(fake, real, radii(real, k)), coverage(real, fake, radii(fake, k))


class PrecisionRecall:
    """Precision and recall, named after their features, of as many data as there are samples, or the other way round.

    Arguments:
        n: how many samples are judged; None for all that there are.
        k: which neighbour gives the radius.
        seed: of the choice among data or samples, where there are more of one than of the other.
    """

    needs = frozenset({"features"})
    ranks = Ranking("precision", rises=True)

    def __init__(self, n: int | None = None, k: int = 3, seed: int = 0) -> None:
        if k < 1:
            raise UserError(f"precision and recall need k of at least 1, not {k}")
        self.n, self.k, self.seed = check_count(n), k, seed

    def least(self, dimension: int) -> int:
        return self.k + 1

    def evaluate(self, real: FeatureSet, fake: FeatureSet) -> list[Number]:
        fake = fake.first(self.n)
        if real.features is None or fake.features is None:
            raise UserError("precision needs features, not their mean and covariance alone: unset metric.reference")
        size = min(len(real.features), len(fake.features))
        check_enough(self, "precision and recall", size, real.features.shape[1])
        rng = Rng(self.seed, torch.tensor([0])).stage("precision_recall")
        x = real.features[choose(rng.stage("real"), len(real.features), size)]
        y = fake.features[choose(rng.stage("fake"), len(fake.features), size)]
        precision, recall = precision_recall(x, y, self.k)
        how: How = {**provenance(real, fake), "k": self.k, "n": size, "reference_n": size}
        return [
            Number(f"precision/{fake.extractor}", precision, how=how),
            Number(f"recall/{fake.extractor}", recall, how=how),
        ]
