"""The Frechet distance of two Gaussians, fitted to the features of samples and of data.

    d^2 = |m_1 - m_2|^2 + tr S_1 + tr S_2 - 2 tr (S_1 S_2)^(1/2)

S_1 S_2 has the eigenvalues of the symmetric R^T S_2 R with R R^T = S_1, which are real and not negative; the trace of
its root is the sum of their roots. (Twice as fast as the eigenvalues of S_1 S_2 itself, and equal to 1e-13.)
On the features of the 2015 Inception network it is the FID. It is biased upwards for few samples.

References:
    GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (Heusel et al., 2017).
    The Frechet Distance between Multivariate Normal Distributions (Dowson & Landau, 1982).
"""

import torch

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.metrics.contract import check_count, check_enough
from genlab.metrics.features import FeatureSet, provenance
from genlab.metrics.moments import Moments, Statistics
from genlab.metrics.record import How, Number, Ranking


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """d^2 of two sets of features of equal dimension."""
    if a.dimension != b.dimension:
        raise UserError(f"statistics of {a.dimension} and of {b.dimension} features cannot be compared")
    for statistics in (a, b):
        if statistics.count is not None and statistics.count <= statistics.dimension:
            d, n = statistics.dimension, statistics.count
            raise UserError(f"FID on {d} features needs at least {d + 1} images, not {n}")
    scale, axes = torch.linalg.eigh(a.covariance)
    root = axes * scale.clamp(min=0).sqrt()
    root_trace = torch.linalg.eigvalsh(root.T @ b.covariance @ root).clamp(min=0).sqrt().sum()
    distance = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * root_trace
    return float(distance)


class FrechetDistance:
    """FID, named after its features.

    Arguments:
        n: how many samples are judged; None for all that there are.
        halves: also give the distance between two random halves of the data, what perfect samples would come near to.
        seed: of the halves.
    """

    ranks = Ranking("fid", rises=False)

    def __init__(self, n: int | None = None, halves: bool = False, seed: int = 0) -> None:
        self.n, self.halves, self.seed = check_count(n), halves, seed
        self.needs = frozenset({"features" if halves else "statistics"})

    def least(self, dimension: int) -> int:
        return dimension + 1

    def evaluate(self, real: FeatureSet, fake: FeatureSet) -> list[Number]:
        fake = fake.first(self.n)
        if fake.n is not None:
            check_enough(self, "FID", fake.n, fake.statistics.dimension)
        value = frechet_distance(real.statistics, fake.statistics)
        numbers = [Number(f"fid/{fake.extractor}", value, how=provenance(real, fake))]
        return [*numbers, self.between_halves(real)] if self.halves else numbers

    def between_halves(self, real: FeatureSet) -> Number:
        """The distance between two random halves of the data."""
        if real.features is None:
            raise UserError("metric.fid.halves needs features of the data, not their statistics alone")
        rng = Rng(self.seed, torch.tensor([0])).stage("halves")
        order = rng.bits(len(real.features))[0].argsort(stable=True)
        halves = []
        for part in order[: len(order) // 2 * 2].chunk(2):
            moments = Moments(real.statistics.dimension)
            moments.add(real.features[part])
            halves.append(moments.statistics())
        how: How = {**real.how, "n": len(order) // 2, "reference_n": len(order) // 2, "seed": self.seed}
        return Number(f"fid-halves/{real.extractor}", frechet_distance(*halves), how=how)
