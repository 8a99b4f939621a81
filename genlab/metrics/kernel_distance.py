"""The squared maximum mean discrepancy of features under a cubic kernel, without bias.

    KID = sum_(i != j) [k(x_i, x_j) + k(y_i, y_j)] / (m (m - 1)) - 2 sum_(i, j) k(x_i, y_j) / m^2
    k(x, y) = (x . y / d + 1)^3

It is averaged over random subsets of size m; unlike the FID it has no bias that depends on the number of samples.

References:
    Demystifying MMD GANs (Binkowski et al., 2018).
"""

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.metrics.contract import check_count, check_enough
from genlab.metrics.features import FeatureSet, provenance
from genlab.metrics.record import Number, Ranking


def kernel_distance(x: Tensor, y: Tensor) -> float:
    """KID of the features x (m, d) and y (m, d), all pairs."""
    m, dimension = x.shape
    x, y = x.double(), y.double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / dimension + 1) ** 3

    within = sum(k.sum() - k.trace() for k in (kernel(x, x), kernel(y, y)))
    return float(within / (m * (m - 1)) - 2 * kernel(x, y).mean())


def choose(rng: Rng, n: int, size: int) -> Tensor:
    """(size,) different numbers below n, by the one row of `rng`."""
    return rng.bits(n)[0].argsort(stable=True)[:size]


class KernelDistance:
    """KID, named after its features: the mean over subsets, and their standard deviation.

    Arguments:
        n: how many samples are judged; None for all that there are.
        subsets: how many subsets are drawn.
        subset_size: m, or the number of images where they are fewer.
        seed: of the choice of subsets.
    """

    needs = frozenset({"features"})
    ranks = Ranking("kid", rises=False)

    def __init__(self, n: int | None = None, subsets: int = 100, subset_size: int = 1000, seed: int = 0) -> None:
        if subsets < 1 or subset_size < 2:
            raise UserError(f"KID needs 1 subset of 2 images or more, not {subsets} of {subset_size}")
        self.n, self.subsets, self.subset_size, self.seed = check_count(n), subsets, subset_size, seed

    def least(self, dimension: int) -> int:
        return 2

    def evaluate(self, real: FeatureSet, fake: FeatureSet) -> list[Number]:
        fake = fake.first(self.n)
        if real.features is None or fake.features is None:
            raise UserError("KID needs features, not their mean and covariance alone: unset metric.reference")
        x, y = real.features, fake.features
        check_enough(self, "KID", len(y), y.shape[1])
        size = min(self.subset_size, len(x), len(y))
        subsets = 1 if size == len(x) == len(y) else self.subsets
        values = []
        for number in range(subsets):
            rng = Rng(self.seed, torch.tensor([number])).stage("kid")
            of_x = choose(rng.stage("real"), len(x), size)
            of_y = choose(rng.stage("fake"), len(y), size)
            values.append(kernel_distance(x[of_x], y[of_y]))
        spread = torch.tensor(values, dtype=torch.float64)
        error = float(spread.std(correction=0)) if subsets > 1 else None
        how = {**provenance(real, fake), "subsets": subsets, "subset_size": size}
        if error is not None:
            how["error"] = "standard deviation over subsets"
        return [Number(f"kid/{fake.extractor}", float(spread.mean()), error, how=how)]
