"""Sums over processes, each the identity where there is one process only."""

import torch
import torch.distributed as dist
from torch import Tensor


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


def barrier() -> None:
    """Wait until every process is here."""
    if world()[1] > 1:
        dist.barrier()
