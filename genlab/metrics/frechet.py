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
from genlab.metrics.contract import check_count, check_enough
from genlab.metrics.features import FeatureSet, provenance
from genlab.metrics.moments import Statistics
from genlab.metrics.record import Number


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
    """

    needs = frozenset({"statistics"})

    def __init__(self, n: int | None = None) -> None:
        self.n = check_count(n)

    def least(self, dimension: int) -> int:
        return dimension + 1

    def evaluate(self, real: FeatureSet, fake: FeatureSet) -> list[Number]:
        fake = fake.first(self.n)
        if fake.n is not None:
            check_enough(self, "FID", fake.n, fake.statistics.dimension)
        value = frechet_distance(real.statistics, fake.statistics)
        return [Number(f"fid/{fake.extractor}", value, how=provenance(real, fake))]
