"""What follows from a Markov chain: its classes, their periods, its stationary distribution, and the way there.

How: `genlab.models.autoregressive.chains`. Of an order k above 1 the states are runs of k values,
numbered to the base of how many values there are.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.spec import Batch
from genlab.models.autoregressive.chains import (
    Structure,
    check_probabilities,
    distributions,
    limit,
    structure,
    total_variation,
)
from genlab.models.autoregressive.markov_chain import MarkovChain
from genlab.models.contract import Model, Watch
from genlab.tasks.contract import Curve, Task

# So many states have a plot and a column of their own.
SHOWN = 4


class Analyze(Task):
    """The states of a Markov chain, one a row of the table, and the way of a start distribution to its limit.

    Arguments:
        start: the state that the chain starts in, or the probabilities of all states.
        steps: of its way.
    """

    needs = frozenset()
    layout = ()
    exact = True
    sampled = False
    table = "states"
    traces = ("state", "stationary", "class", "recurrent", "period", "limit", "reached")

    def __init__(self, start: int | list[float] = 0, steps: int = 30) -> None:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        if isinstance(start, list):
            check_probabilities(start, "start")
        elif start < 0:
            raise ValueError(f"start={start}: states are numbered from 0")
        self.start, self.steps = start, steps
        self.states, self.said = 1, ""

    def check(self, model: Model, sampler: Any) -> None:
        super().check(model, sampler)
        if not isinstance(model, MarkovChain):
            raise UserError(f"task=analyze: {type(model).__name__} is no Markov chain; train model=markov_chain")
        matrix = model.transitions()
        self.states, self.said = len(matrix), structure(matrix).said
        self.first()

    def first(self) -> Tensor:
        """The start distribution (S,)."""
        if isinstance(self.start, list):
            if len(self.start) != self.states:
                raise UserError(f"task.start has {len(self.start)} numbers, and the chain has {self.states} states")
            return torch.tensor(self.start, dtype=torch.float64)
        if self.start >= self.states:
            raise UserError(f"task.start={self.start}: the chain's states are 0 to {self.states - 1}")
        return torch.eye(self.states, dtype=torch.float64)[self.start]

    def count(self, n: int) -> int:
        return self.states

    def __call__(
        self,
        model: Model,
        index: Tensor,
        seed: int,
        sampler: Any,
        watch: Watch | None = None,
        batch: Batch | None = None,
    ) -> Batch:
        assert isinstance(model, MarkovChain)
        matrix, first = model.transitions(), self.first()
        found = structure(matrix)
        row = index.cpu() % self.states
        columns = {
            "state": torch.arange(self.states),
            "stationary": stationary(found),
            "class": found.classes,
            "recurrent": found.recurrent,
            "period": found.period,
            "limit": limit(matrix, first, found),
        }
        made = {name: column.double()[row, None] for name, column in columns.items()}
        return {**made, "reached": distributions(matrix, first, self.steps).T[row].contiguous()}

    def curves(self, values: Batch) -> list[Curve]:
        """The states, and the distance to the limit step by step."""
        columns = {name: values[name].flatten().tolist() for name in self.traces[:5]}
        how = f"{self.said}; stationary: of the state's class, 0 for a transient one"
        if self.states <= SHOWN:
            how += f"; {', '.join(f'{p:.8f}' for p in columns['stationary'])}"
        states = Curve("states", columns, (("state", "stationary"),), how, shown=20)
        reached = values["reached"].T
        distance = total_variation(reached, values["limit"].T)
        way = {"step": [float(t) for t in range(len(reached))], "distance": distance.tolist()}
        shown = range(min(SHOWN, reached.shape[1]))
        way |= {f"p({state})": reached[:, state].tolist() for state in shown}
        plots = tuple(("step", name) for name in way if name != "step")
        how = f"from {self.said_start}; distance: total variation to the limit of its mean over time"
        return [states, Curve("convergence", way, plots, how, shown=12)]

    @property
    def said_start(self) -> str:
        return f"state {self.start}" if isinstance(self.start, int) else "the start given"


def stationary(found: Structure) -> Tensor:
    """(S,), each state's share of its own class; 0 for a transient one."""
    parts: Sequence[Tensor] = found.stationary
    return torch.stack(tuple(parts)).sum(0)
