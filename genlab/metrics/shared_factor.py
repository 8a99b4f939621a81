"""Which factor a group of data shares, told from their codes: the scores of Higgins et al. and of Kim & Mnih.

    Higgins      a linear classifier of k sees 1/L sum_l |z_l - z'_l|, where the data of each pair agree in factor k
    FactorVAE    a majority vote on k sees argmin_d Var_l(z_l,d) / Var(z_d), of L data that agree in factor k

Each is the accuracy on groups that were not learned from; chance is one over the number of factors.

References:
    beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework (Higgins et al., 2017), section 3.
    Disentangling by Factorising (Kim & Mnih, 2018), section 4.
    Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations (Locatello et al.,
        2019), whose numbers of groups and sizes are the defaults.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.metrics.record import How, Number

# Groups whose codes are looked at together.
CHUNK = 1000


class Groups:
    """Groups of sets of data, each set agreeing in the factor of its group, drawn from a table of data.

    A datum is drawn first, and then the set, with replacement, from all data that have its value of the factor.

    Arguments:
        factors: (N, F) int64.
    """

    def __init__(self, factors: Tensor) -> None:
        self.factors = factors
        self.order = factors.argsort(dim=0, stable=True)
        counts = [column.bincount() for column in factors.unbind(1)]
        self.count = torch.nn.utils.rnn.pad_sequence(counts)
        self.first = self.count.cumsum(0) - self.count

    def draw(self, factor: Tensor, sets: int, size: int, rng: Rng) -> Tensor:
        """(G, sets, size) numbers of data, a set of group g agreeing in factor[g]; `rng` has a row a group."""
        factor = factor[:, None].expand(-1, sets)
        value = self.factors[rng.stage("value").integers(len(self.factors), sets), factor]
        first, count = self.first[value, factor, None], self.count[value, factor, None]
        # A number below 2^32 times a count, so the place is uniform to within count / 2^32.
        place = first + (rng.stage("data").bits(sets, size) * count >> 32)
        return self.order[place, factor[..., None]]

    def drawn(self, seed: int, stage: str, count: int, sets: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(factor (G,), numbers of data (G, sets, size)) of `count` groups of random factors, some at a time."""
        for number in torch.arange(count).split(CHUNK):
            rng = Rng(seed, number).stage(stage)
            factor = rng.stage("factor").integers(self.factors.shape[1])
            yield factor, self.draw(factor, sets, size, rng)


def check_groups(size: int, train: int, test: int) -> None:
    for name, value, least in (("size", size, 2), ("train", train, 1), ("test", test, 1)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, not {value}")


def accuracy(name: str, share: float, test: int, chance: float, how: How) -> Number:
    """A share of groups, with its standard error."""
    error = (share * (1 - share) / test) ** 0.5
    said: How = {"chance": round(chance, 4), "test_groups": test, "error": "standard error over groups"}
    return Number(name, share, error, "", {**how, **said})


class Higgins:
    """The score of Higgins et al.: logistic regression on mean absolute differences.

    Arguments:
        size: L, pairs in a group.
        train, test: groups that are learned from, and judged.
    """

    def __init__(self, size: int = 64, train: int = 10_000, test: int = 5_000) -> None:
        check_groups(size, train, test)
        self.size, self.train, self.test = size, train, test

    def differences(self, z: Tensor, groups: Groups, seed: int, stage: str, count: int) -> tuple[Tensor, Tensor]:
        """(count, D) mean |z - z'| of each group, and (count,) the factor that it shares."""
        seen, shared = [], []
        for factor, number in groups.drawn(seed, stage, count, self.size, 2):
            one, other = z[number].unbind(2)
            seen.append((one - other).abs().mean(1))
            shared.append(factor)
        return torch.cat(seen), torch.cat(shared)

    def __call__(self, z: Tensor, factors: Tensor, names: Sequence[str], seed: int) -> list[Number]:
        """The score of codes z (N, D) of data with factors (N, F)."""
        from sklearn.linear_model import LogisticRegression

        groups = Groups(factors)
        x, y = self.differences(z, groups, seed, "higgins/train", self.train)
        classifier = LogisticRegression(max_iter=1000).fit(x.numpy(), y.numpy())
        x, y = self.differences(z, groups, seed, "higgins/test", self.test)
        how: How = {"is": "accuracy of logistic regression", "pairs": self.size, "train_groups": self.train}
        share = float(classifier.score(x.numpy(), y.numpy()))
        return [accuracy("higgins", share, self.test, 1 / len(names), how)]


class MajorityVote:
    """The score of Kim & Mnih: the least varying number of the code votes for the factor that is shared.

    Arguments:
        size: L, data in a group.
        train, test: groups that are learned from, and judged.
        collapsed: numbers of the code whose standard deviation over the data is below this have no vote; where all of
            them are, the score is 0.
    """

    def __init__(self, size: int = 64, train: int = 10_000, test: int = 5_000, collapsed: float = 0.05) -> None:
        check_groups(size, train, test)
        if collapsed < 0:
            raise ValueError(f"collapsed must be at least 0, not {collapsed}")
        self.size, self.train, self.test, self.collapsed = size, train, test, collapsed

    def votes(self, z: Tensor, groups: Groups, seed: int, stage: str, count: int) -> Tensor:
        """(D, F) how often each number of the code varied least where each factor was shared."""
        table = torch.zeros(z.shape[1], groups.factors.shape[1], dtype=torch.long)
        for factor, number in groups.drawn(seed, stage, count, 1, self.size):
            least = z[number[:, 0]].var(1).argmin(1)
            table.view(-1).index_add_(0, least * table.shape[1] + factor, torch.ones_like(factor))
        return table

    def __call__(self, z: Tensor, factors: Tensor, names: Sequence[str], seed: int) -> list[Number]:
        """The score of codes z (N, D) of data with factors (N, F)."""
        spread = z.std(0)
        live = (spread >= self.collapsed) & (spread > 0)
        share = 0.0
        if live.any():
            z, groups = z[:, live] / spread[live], Groups(factors)
            meant = self.votes(z, groups, seed, "factorvae/train", self.train).argmax(1)
            votes = self.votes(z, groups, seed, "factorvae/test", self.test)
            share = float(votes.gather(1, meant[:, None]).sum() / votes.sum())
        how: How = {"is": "accuracy of a majority vote", "size": self.size, "train_groups": self.train}
        how["collapsed"] = self.collapsed
        return [accuracy("factorvae", share, self.test, 1 / len(names), how)]
