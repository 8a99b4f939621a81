"""How sure a classifier is of each sample, and how evenly the samples spread over its classes.

    IS = exp( E_x KL( p(y | x) || p(y) ) ),    p(y) = E_x p(y | x)

taken over each of a few splits of the samples, then averaged. It lies between 1 and the number of classes.

References:
    Improved Techniques for Training GANs (Salimans et al., 2016).
"""

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.metrics.contract import check_count, check_enough
from genlab.metrics.features import FeatureSet
from genlab.metrics.kernel_distance import choose
from genlab.metrics.record import How, Number, Ranking


def inception_score(logits: Tensor, splits: int = 10) -> tuple[float, float]:
    """Mean and standard deviation over consecutive splits of the logits (n, K)."""
    n = len(logits)
    log_p = logits.double().log_softmax(1)
    scores = []
    for i in range(splits):
        part = log_p[i * n // splits : (i + 1) * n // splits]
        log_marginal = part.logsumexp(0) - torch.tensor(float(len(part)), dtype=torch.float64).log()
        scores.append((part.exp() * (part - log_marginal)).sum(1).mean().exp())
    score = torch.stack(scores)
    return float(score.mean()), float(score.std(correction=0))


class InceptionScore:
    """IS, named after the network that classifies.

    Arguments:
        n: how many samples are judged; None for all that there are.
        splits: how many parts the shuffled samples are divided into.
        seed: of the shuffle.
    """

    needs = frozenset({"logits"})
    ranks = Ranking("is", rises=True)

    def __init__(self, n: int | None = None, splits: int = 10, seed: int = 0) -> None:
        if splits < 1:
            raise UserError(f"IS needs at least 1 split, not {splits}")
        self.n, self.splits, self.seed = check_count(n), splits, seed

    def least(self, dimension: int) -> int:
        return self.splits

    def evaluate(self, real: FeatureSet, fake: FeatureSet) -> list[Number]:
        """`real` is not looked at."""
        fake = fake.first(self.n)
        if fake.logits is None:
            raise UserError(
                f"IS needs class probabilities, and the {fake.extractor} weights have no classifier head (fc): use "
                "metric.features=classifier on labelled data, or weights with the head"
            )
        n = len(fake.logits)
        check_enough(self, "IS", n, fake.statistics.dimension)
        order = choose(Rng(self.seed, torch.tensor([0])).stage("is"), n, n)
        mean, deviation = inception_score(fake.logits[order], self.splits)
        how: How = {"features": fake.extractor, "n": n, "splits": self.splits, **fake.how}
        how["error"] = "standard deviation over splits"
        return [Number(f"is/{fake.extractor}", mean, deviation, how=how)]
