"""How often a classifier is wrong.

    error = 1/n sum_i [argmax_y p(y | x_i) is not y_i],    standard error = sqrt(error (1 - error) / n)

Both are given in percent, as they are published.
"""

import math

import torch
from torch import Tensor

from genlab.core.collectives import all_sum
from genlab.core.errors import UserError
from genlab.core.spec import Spec
from genlab.metrics.contract import Codes
from genlab.metrics.record import How, Number, Ranking

PAIRS = (("x", "label"), ("labelled", "labelled_as"))
"""Keys of data, and of their classes."""


class ErrorRate:
    """The share of data whose most probable class is not theirs, in percent."""

    needs = frozenset({"classify"})
    ranks = Ranking("error_rate", rises=False)

    def check(self, codes: Codes) -> None:
        self.pair(codes)
        codes.classified()

    @staticmethod
    def pair(codes: Codes) -> tuple[str, str]:
        """The keys of what is classified, and of the truth."""
        spec: Spec = codes.spec
        found = [(x, y) for x, y in PAIRS if y in spec and spec[y].classes is not None]
        if not found:
            raise UserError(f"metric=error_rate: {codes.name} has no labels; choose data that have, as data=mnist")
        return found[0]

    def evaluate(self, codes: Codes) -> list[Number]:
        x, y = self.pair(codes)
        counts = torch.zeros(2, dtype=torch.float64)
        for part in codes.classified(x).parts((y,)):
            wrong: Tensor = part["log_p"].argmax(1) != part[y]
            counts += torch.tensor([len(wrong), int(wrong.sum())], dtype=torch.float64)
        n, wrong_ones = (int(count) for count in all_sum(counts))
        share = wrong_ones / n
        how: How = {
            "is": "share of data whose most probable class is not theirs",
            "n": n,
            "data": codes.name,
            "wrong": wrong_ones,
            "error": "binomial standard error",
        }
        return [Number("error_rate", 100 * share, 100 * math.sqrt(share * (1 - share) / n), "%", how)]
