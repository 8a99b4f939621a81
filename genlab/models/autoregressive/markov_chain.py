"""Markov chains of any order over a finite set of values, fitted by counting.

    p(x) = prod_t P(x_t | x_{t-k}, .., x_{t-1}),    P(v | c) = (n(c, v) + a) / (n(c) + a S)

n counts how often v came after c in the training data. The first k places have fewer before them, and each of them a
table of its own, so that no symbol is needed for a beginning. Nothing is optimised: it is the most likely chain of its
order where a = 0, and with a > 0 the mean under a Dirichlet prior.

References:
    A Mathematical Theory of Communication (Shannon, 1948), sections 2 and 3.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Spec
from genlab.core.units import from_levels, to_levels
from genlab.models.autoregressive.chains import check_probabilities, transition_matrix
from genlab.models.autoregressive.drawing import SHOWN
from genlab.models.autoregressive.sampler import Places
from genlab.models.contract import Model, Nll, Player, Watch
from genlab.models.outputs.categorical import choose

# Numbers that the longest table may have.
MOST = 2**26
# States that a matrix may have to be looked at as a whole.
STATES = 1024


class MarkovChain(Model):
    """A chain over sequences "x" (1, L) of discrete values.

    Arguments:
        spec: of the data.
        order: k, how many places before a place it is told of.
        smoothing: a, added to every count. With 0 what was never seen is impossible; what comes after a context that
            was never seen is then anything.
        matrix: P (S, S), rows summing to one, of a chain of order 1 that is given and not fitted.
        start: p(x_1) (S,) of a given chain; None is the same for all.

    Raises UserError where data are not sequences of discrete values, or the tables would be too long.
    """

    can = frozenset({"sample", "nll"})
    stationary = True
    fitted: Tensor

    def __init__(
        self,
        spec: Spec,
        order: int = 1,
        smoothing: float = 0.01,
        matrix: Sequence[Sequence[float]] | None = None,
        start: Sequence[float] | None = None,
    ) -> None:
        super().__init__(spec)
        field = spec["x"]
        if len(field.shape) != 2 or field.shape[0] != 1 or field.levels is None:
            raise UserError(
                f"model=markov_chain is for sequences (1, length) of discrete values, not {list(field.shape)}: "
                "take data=daily_states or data=text_file"
            )
        if order < 0:
            raise ValueError(f"order must be at least 0, not {order}")
        if not 0 <= smoothing < float("inf"):
            raise ValueError(f"smoothing must be at least 0, not {smoothing}")
        self.levels, self.order, self.smoothing, self.given = field.levels, order, smoothing, matrix is not None
        if self.levels ** (order + 1) > MOST:
            raise ValueError(
                f"order={order} of {self.levels} values takes a table of {self.levels ** (order + 1):,} numbers; "
                f"at most {MOST:,} are kept"
            )
        for number in range(order + 1):
            blank = torch.zeros(self.levels**number, self.levels, dtype=torch.float64)
            self.register_buffer(f"counts_{number}", blank)
        self.register_buffer("fitted", torch.tensor(self.given))
        if matrix is not None:
            self._take(matrix, start)
        elif start is not None:
            raise ValueError("start is of a given chain; give matrix, or leave it out")

    def _take(self, matrix: Sequence[Sequence[float]], start: Sequence[float] | None) -> None:
        if self.order != 1:
            raise ValueError(f"order={self.order}: a given matrix is of order 1")
        if len(matrix) != self.levels:
            raise ValueError(f"matrix has {len(matrix)} rows, and data have {self.levels} values")
        first = [1 / self.levels] * self.levels if start is None else list(start)
        if len(first) != self.levels:
            raise ValueError(f"start has {len(first)} numbers, and data have {self.levels} values")
        check_probabilities(first, "start")
        self.table(1).copy_(transition_matrix(matrix))
        self.table(0).copy_(torch.tensor(first))

    def table(self, number: int) -> Tensor:
        """Counts (S^number, S) of what came after the last `number` values; a context is a number to the base S."""
        return self.get_buffer(f"counts_{number}")

    def log_table(self, number: int) -> Tensor:
        """log P, of the shape of the counts."""
        counts = self.table(number) + (0.0 if self.given else self.smoothing)
        total = counts.sum(1, keepdim=True)
        return torch.where(total > 0, counts / total.clamp(min=1e-300), 1 / self.levels).log()

    @property
    def places(self) -> Tensor:
        """(L,) int64, in the order in which they are drawn."""
        return torch.arange(self.spec["x"].shape[1])

    @property
    def device(self) -> torch.device:
        return self.fitted.device

    def players(self) -> dict[str, Player]:
        return {}

    def loss(self, batch: Batch, rng: Rng, player: str, step: int) -> dict[str, Tensor]:
        return {"loss": -self.log_prob(batch["x"]).mean()}

    def finish(self, batches: Iterable[Batch]) -> None:
        """Count what comes after what."""
        if self.given:
            return
        for number in range(self.order + 1):
            self.table(number).zero_()
        for batch in batches:
            v = self.values(batch["x"]).to(self.device)
            for place, number, context in self.contexts(v):
                index = context * self.levels + v[:, place]
                found = torch.bincount(index.flatten(), minlength=self.table(number).numel())
                self.table(number).add_(found.view_as(self.table(number)))
        self.fitted.fill_(True)

    def values(self, x: Tensor) -> Tensor:
        """(B, L) int64."""
        return to_levels(x[:, 0], self.levels)

    def contexts(self, v: Tensor) -> Iterable[tuple[slice, int, Tensor]]:
        """Of values (B, L): the places of each table, how long its contexts are, and these, (B, places)."""
        length = v.shape[1]
        for number in range(min(self.order + 1, length)):
            stop = length if number == self.order else number + 1
            context = torch.zeros_like(v[:, number:stop])
            for back in range(number, 0, -1):
                context = context * self.levels + v[:, number - back : stop - back]
            yield slice(number, stop), number, context

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), (B,), float64."""
        if not self.fitted:
            raise UserError("the chain was not fitted: its run ended before it was shown its data")
        v = self.values(x)
        total = torch.zeros(len(v), dtype=torch.float64, device=v.device)
        for place, number, context in self.contexts(v):
            total = total + self.log_table(number)[context, v[:, place]].sum(1)
        return total

    @torch.no_grad()
    def nll(self, batch: Batch, rng: Rng, estimator: None = None) -> Nll:
        return Nll(-self.log_prob(batch["x"]), "exact", {}, f"the sum over places, each given {self.order} before it")

    @torch.no_grad()
    def sample(self, conditions: Batch, rng: Rng, sampler: Places | None = None, watch: Watch | None = None) -> Batch:
        shape = (sampler or Places()).shape(self.spec["x"].shape, self.stationary)
        blank = torch.zeros(len(rng), *shape, device=rng.device)
        return {"x": self.completed(blank, None, conditions, rng, sampler, watch)}

    @torch.no_grad()
    def completed(
        self,
        x: Tensor,
        given: Tensor | None,
        conditions: Batch,
        rng: Rng,
        sampler: Places | None = None,
        watch: Watch | None = None,
    ) -> Tensor:
        """Sequences (B, 1, L) that have the values of x at the places that `given` (L,) marks, drawn at others."""
        if not self.fitted:
            raise UserError("the chain was not fitted: its run ended before it was shown its data")
        temperature = 1.0 if sampler is None else sampler.temperature
        tables = [self.log_table(number) / temperature for number in range(self.order + 1)]
        v, length, stage = self.values(x), x.shape[2], rng.stage("draw")
        keeps = torch.zeros(length, dtype=torch.bool).tolist() if given is None else given.tolist()
        if given is not None:
            v = torch.where(given.to(v.device), v, 0)
        context = torch.zeros_like(v[:, 0])
        for place in range(length):
            if watch is not None and place % max(1, length // SHOWN) == 0:
                watch(place / length, from_levels(v, self.levels, x.dtype)[:, None])
            if not keeps[place]:
                u = stage.stage(f"place {place}").uniform()
                v[:, place] = choose(tables[min(place, self.order)][context], u, 1)
            context = (context * self.levels + v[:, place]) % self.levels**self.order
        made = from_levels(v, self.levels, x.dtype)[:, None]
        if watch is not None:
            watch(1.0, made)
        return made

    def transitions(self) -> Tensor:
        """The transition matrix of the chain of contexts, (S^k, S^k), of what was seen, without smoothing.

        A context that was last in every sequence that had it is not known to be left, and stays.

        Raises UserError where there are too many contexts, or none.
        """
        if self.order == 0:
            raise UserError("model.order=0: a chain that remembers nothing has no states; take order 1 or more")
        contexts = self.levels**self.order
        if contexts > STATES:
            raise UserError(
                f"the chain has {contexts:,} states, and at most {STATES:,} are looked at: lower model.order"
            )
        counts = self.table(self.order).cpu()
        total = counts.sum(1, keepdim=True)
        context, value = torch.meshgrid(torch.arange(contexts), torch.arange(self.levels), indexing="ij")
        matrix = torch.zeros(contexts, contexts, dtype=torch.float64)
        matrix[context, (context * self.levels + value) % contexts] = counts / total.clamp(min=1e-300)
        matrix += torch.diag((total[:, 0] == 0).double())
        return matrix
