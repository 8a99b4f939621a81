"""What follows from the transition matrix of a finite Markov chain.

    P_ij = P(x_{t+1} = j | x_t = i),    pi = pi P,    p_t = p_0 P^t

Two states are of one class where each is reached from the other. A class that is never left is closed, and its states
are recurrent; all others are transient. A chain of one class is irreducible. The period of a state is the greatest
common divisor of the lengths of the ways from it back to it; it is one number a class.

Each closed class has one stationary distribution. From a start p_0 the mean of p_0 .. p_t goes to

    sum over closed classes C of P(the chain ends in C) pi_C

and so does p_t itself where the closed classes have period 1.

References:
    Markov Chains (Norris, 1997), chapter 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# By how much a sum of probabilities may miss one.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Structure:
    """Which states of a chain of S states belong together.

    Arguments:
        classes: (S,) int64, the number of a state's class, counted in the order of their first states.
        recurrent: (S,) bool.
        period: (S,) int64; 0 for a state that no way leads back to.
        stationary: for each closed class, in order, its stationary distribution (S,), float64.
    """

    classes: Tensor
    recurrent: Tensor
    period: Tensor
    stationary: tuple[Tensor, ...]

    @property
    def irreducible(self) -> bool:
        return int(self.classes.max()) == 0

    @property
    def said(self) -> str:
        """In a line."""
        closed = len(self.stationary)
        periods = sorted(set(self.period[self.recurrent].tolist()))
        transient = int((~self.recurrent).sum())
        return (
            f"{'irreducible' if self.irreducible else f'reducible, {int(self.classes.max()) + 1} classes'}, "
            f"{closed} closed, {transient} transient of {len(self.classes)} states, "
            f"period {' and '.join(str(period) for period in periods)}"
        )


def transition_matrix(rows: Sequence[Sequence[float]], option: str = "matrix") -> Tensor:
    """A given matrix (S, S), float64; a ValueError that names the row where it is none of probabilities."""
    sizes = {len(row) for row in rows}
    if sizes != {len(rows)}:
        raise ValueError(f"{option} must have as many numbers in each row as rows, {len(rows)}")
    for number, row in enumerate(rows):
        check_probabilities(row, f"{option}[{number}]")
    matrix = torch.tensor(rows, dtype=torch.float64)
    return matrix / matrix.sum(1, keepdim=True)


def check_probabilities(row: Sequence[float], option: str) -> None:
    """A ValueError where numbers are not probabilities that sum to one."""
    if not all(0 <= p <= 1 for p in row):
        raise ValueError(f"{option}={list(row)}: must be probabilities, each from 0 to 1")
    if abs(sum(row) - 1) > TOLERANCE:
        raise ValueError(f"{option}={list(row)}: must sum to 1, and sums to {sum(row):.6g}")


def structure(matrix: Tensor) -> Structure:
    """Of the chain whose transition matrix (S, S) this is."""
    size = len(matrix)
    reached = reach(matrix > 0)
    together = (reached & reached.T) | torch.eye(size, dtype=torch.bool)
    first = together.int().argmax(1)
    classes = torch.unique(first, return_inverse=True)[1]
    # Closed: all that is reached is of the class.
    recurrent = ~(reached & ~together).any(1)
    period = torch.zeros(size, dtype=torch.long)
    stationary = []
    for number in range(int(classes.max()) + 1):
        members = (classes == number).nonzero().flatten()
        inner = matrix[members][:, members]
        period[members] = period_of(inner > 0)
        if recurrent[members[0]]:
            found = torch.zeros(size, dtype=torch.float64)
            found[members] = stationary_of(inner)
            stationary.append(found)
    return Structure(classes, recurrent, period, tuple(stationary))


def reach(edges: Tensor) -> Tensor:
    """(S, S) bool, whether j is reached from i in one step or more."""
    found = edges
    while True:
        more = found | (found.float() @ found.float() > 0)
        if torch.equal(more, found):
            return found
        found = more


def period_of(edges: Tensor) -> int:
    """Of a class, whose steps (S, S) these are: gcd of d(i) + 1 - d(j) over steps i -> j; d, the distance from 0."""
    distance = torch.full((len(edges),), -1)
    front, steps = torch.zeros(len(edges), dtype=torch.bool), 0
    front[0] = True
    while front.any():
        distance[front] = steps
        front, steps = edges[front].any(0) & (distance < 0), steps + 1
    i, j = edges.nonzero(as_tuple=True)
    return math.gcd(*(distance[i] + 1 - distance[j]).tolist())


def stationary_of(matrix: Tensor) -> Tensor:
    """Of a class, whose steps (S, S) these are: gcd of d(i) + 1 - d(j) over i -> j, d the distance from 0."""
    equations = matrix.double().T - torch.eye(len(matrix), dtype=torch.float64)
    equations[-1] = 1
    right = torch.zeros(len(matrix), dtype=torch.float64)
    right[-1] = 1
    return torch.linalg.solve(equations, right)


def limit(matrix: Tensor, start: Tensor, found: Structure) -> Tensor:
    """Where the mean of the distributions over time goes from a start (S,)."""
    transient = ~found.recurrent
    # How much of the start each recurrent state catches: what begins there, and what comes there from transient ones.
    caught = torch.where(transient, 0.0, start)
    if transient.any():
        inner = torch.eye(int(transient.sum()), dtype=torch.float64) - matrix[transient][:, transient]
        visits = torch.linalg.solve(inner.T, start[transient])
        caught[found.recurrent] += visits @ matrix[transient][:, found.recurrent]
    return torch.stack([pi * caught[pi > 0].sum() for pi in found.stationary]).sum(0)


def distributions(matrix: Tensor, start: Tensor, steps: int) -> Tensor:
    """p_0 .. p_steps, (steps + 1, S)."""
    found = [start]
    for _ in range(steps):
        found.append(found[-1] @ matrix)
    return torch.stack(found)


def total_variation(p: Tensor, q: Tensor) -> Tensor:
    """(1/2) sum |p - q| over the last dimension: the most by which the two differ in the probability of an event."""
    return (p - q).abs().sum(-1) / 2
