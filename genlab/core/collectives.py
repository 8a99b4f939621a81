"""Sums over processes, each the identity where there is one process only.

Tensors may lie on any device that the processes share; whether all agree on what happens next is asked on the CPU.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def world() -> tuple[int, int]:
    """(this process's rank, how many there are)."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def all_sum(x: Tensor) -> Tensor:
    """The sum of x over all processes; x is left as it is."""
    if world()[1] == 1:
        return x
    total = x.clone()
    dist.all_reduce(total)
    return total


def all_min(x: Tensor) -> Tensor:
    """The least x of all processes, element by element; x is left as it is."""
    if world()[1] == 1:
        return x
    least = x.clone()
    dist.all_reduce(least, dist.ReduceOp.MIN)
    return least


def all_cat(x: Tensor) -> Tensor:
    """The rows of all processes in the order of their ranks; they may hold different numbers of rows."""
    if world()[1] == 1:
        return x
    counts = [torch.zeros(1, dtype=torch.long, device=x.device) for _ in range(world()[1])]
    dist.all_gather(counts, torch.tensor([len(x)], device=x.device))
    most = max(int(c) for c in counts)
    padded = x.new_zeros(most, *x.shape[1:])
    padded[: len(x)] = x
    gathered = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(gathered, padded)
    return torch.cat([g[: int(c)] for g, c in zip(gathered, counts, strict=True)])


class _Gathered(torch.autograd.Function):
    """`all_cat`, and its transpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        counts = all_cat(torch.tensor([len(x)], device=x.device)).tolist()
        first = sum(counts[: world()[0]])
        ctx.rows = slice(first, first + len(x))
        return all_cat(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return all_sum(gradient)[ctx.rows]


def all_cat_with_gradients(x: Tensor) -> Tensor:
    """`all_cat` through which gradients pass: x gets the sum of what its rows have in all processes.

    Where a process's loss is a mean over its own rows, in which the rows of others appear, the mean of the processes'
    gradients then is the gradient of the mean of their losses. All of them must go backwards.
    """
    return x if world()[1] == 1 else _Gathered.apply(x)


def barrier() -> None:
    """Wait until every process is here."""
    if world()[1] > 1:
        dist.barrier()


def of_first(work: Callable[[], T]) -> T:
    """What the first process makes, given to all; made by none but the first."""
    if world()[1] == 1:
        return work()
    given = [work() if world()[0] == 0 else None]
    dist.broadcast_object_list(given)
    return given[0]  # type: ignore[return-value]


class Vote:
    """Whether any process says yes, asked in every step and answered one step later, so that no step waits for it.

    Each asks as often as the others do, and all get the same answers.
    """

    def __init__(self) -> None:
        self.asked: tuple[Tensor, dist.Work] | None = None

    def any(self, yes: bool) -> bool:
        """Whether any process said yes the time before; alone, whether this one does now."""
        if world()[1] == 1:
            return yes
        answer = False
        if self.asked is not None:
            ballot, work = self.asked
            work.wait()
            answer = bool(ballot)
        ballot = torch.tensor(int(yes))
        self.asked = ballot, dist.all_reduce(ballot, dist.ReduceOp.MAX, async_op=True)
        return answer
