"""Which numbers of a code a predictor of each factor makes use of: disentanglement, completeness, informativeness.

    D = sum_d w_d (1 - H_F(R_d. / sum_k R_dk)),  w_d = sum_k R_dk / sum R        a number of the code serves one factor
    C = 1/F sum_k (1 - H_D(R_.k / sum_d R_dk))                                 a factor is told by one number
    I = 1/F sum_k accuracy of the predictor of factor k on data it has not seen

R (D, F) is how important number d is to the predictor of factor k, and H_n an entropy with logarithms of base n.

References:
    A Framework for the Quantitative Evaluation of Disentangled Representations (Eastwood & Williams, 2018).
    Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations (Locatello et al.,
        2019), whose counts of data are the default, and whose predictor is `Boosted`.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.metrics.record import How, Number


class Predictor(Protocol):
    """Learns to tell a factor from codes."""

    @property
    def name(self) -> str:
        """In words."""

    def __call__(
        self, z: np.ndarray, y: np.ndarray, z_test: np.ndarray, y_test: np.ndarray, seed: int
    ) -> tuple[np.ndarray, float]:
        """(the importance (D,) of each number of the code, the accuracy on the test data)."""


class Forest:
    """Random decision trees, each of which may look at all numbers of the code; importance is the impurity taken away.

    Arguments:
        trees: how many.
        depth: of each at most.
    """

    def __init__(self, trees: int = 10, depth: int | None = 12) -> None:
        check_trees(trees, depth)
        self.trees, self.depth = trees, depth

    @property
    def name(self) -> str:
        return f"random forest of {self.trees} trees of depth {self.depth}"

    def __call__(
        self, z: np.ndarray, y: np.ndarray, z_test: np.ndarray, y_test: np.ndarray, seed: int
    ) -> tuple[np.ndarray, float]:
        from sklearn.ensemble import RandomForestClassifier

        # Were some numbers hidden from a split, others would seem to matter in their stead.
        forest = RandomForestClassifier(self.trees, max_depth=self.depth, max_features=None, random_state=seed)
        forest.fit(z, y)
        return forest.feature_importances_, float(forest.score(z_test, y_test))


class Boosted:
    """Gradient boosted trees, many minutes where factors have many values.

    Arguments:
        trees: how many for each value of the factor.
        depth: of each.
    """

    def __init__(self, trees: int = 100, depth: int = 3) -> None:
        check_trees(trees, depth)
        self.trees, self.depth = trees, depth

    @property
    def name(self) -> str:
        return f"{self.trees} gradient boosted trees of depth {self.depth}"

    def __call__(
        self, z: np.ndarray, y: np.ndarray, z_test: np.ndarray, y_test: np.ndarray, seed: int
    ) -> tuple[np.ndarray, float]:
        from sklearn.ensemble import GradientBoostingClassifier

        boosted = GradientBoostingClassifier(n_estimators=self.trees, max_depth=self.depth, random_state=seed)
        boosted.fit(z, y)
        return boosted.feature_importances_, float(boosted.score(z_test, y_test))


def check_trees(trees: int, depth: int | None) -> None:
    if trees < 1:
        raise ValueError(f"trees must be at least 1, not {trees}")
    if depth is not None and depth < 1:
        raise ValueError(f"depth must be at least 1, not {depth}")


def concentration(importance: Tensor) -> Tensor:
    """(K,) one minus the entropy of each row of importance (K, M), base M; 0 where nothing is important."""
    total = importance.sum(1, keepdim=True)
    p = importance / total.clamp(min=torch.finfo(importance.dtype).tiny)
    base = math.log(importance.shape[1]) or 1.0
    return torch.where(total[:, 0] > 0, 1 + torch.xlogy(p, p).sum(1) / base, 0.0)


def disentanglement(importance: Tensor) -> float:
    """D of importance (D, F)."""
    weight = importance.sum(1) / importance.sum().clamp(min=torch.finfo(importance.dtype).tiny)
    return float((weight * concentration(importance)).sum())


def completeness(importance: Tensor) -> float:
    """C of importance (D, F)."""
    return float(concentration(importance.T).mean())


class FactorPrediction:
    """Disentanglement, completeness and informativeness.

    Arguments:
        predictor: of a factor.
        train, test: data that are learned from, and judged; of fewer data two thirds and one third.
    """

    def __init__(self, predictor: Predictor, train: int = 10_000, test: int = 5_000) -> None:
        for name, value in (("train", train), ("test", test)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        self.predictor, self.train, self.test = predictor, train, test

    def __call__(self, z: Tensor, factors: Tensor, names: Sequence[str], seed: int) -> list[Number]:
        """The scores of codes z (N, D) of data with factors (N, F)."""
        test = min(self.test, len(z) // 3)
        train = min(self.train, len(z) - test)
        if test < 1:
            raise UserError(f"metric.data: {len(z)} data are too few to learn from some and judge the others")
        x, y = z.numpy(), factors.numpy()
        of_trees = int(Rng(seed, torch.tensor([0])).stage("dci").integers(2**31))
        found = [
            self.predictor(x[:train], y[:train, k], x[train : train + test], y[train : train + test, k], of_trees)
            for k in range(len(names))
        ]
        importance = torch.from_numpy(np.stack([of_factor for of_factor, _ in found], axis=1)).double()
        told = sum(accuracy for _, accuracy in found) / len(found)
        how: How = {"predictor": self.predictor.name, "train": train, "test": test}
        values = {
            "disentanglement": (disentanglement(importance), "how far a number of the code serves one factor"),
            "completeness": (completeness(importance), "how far a factor is told by one number of the code"),
            "informativeness": (told, "mean accuracy of predicted factors"),
        }
        return [Number(f"dci/{name}", value, None, "", {"is": what, **how}) for name, (value, what) in values.items()]
