"""The order of training: one endless stream of permutations, addressed by the micro-batch count.

Position p of the stream is element p mod N of permutation number p div N, and micro-batch m of process r out of W
holds the positions (m W + r) B .. (m W + r + 1) B - 1. So the m-th micro-batch can be had without those before it, and
W processes see what one would with a batch W times as large.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from genlab.core.rng import Rng
from genlab.core.spec import Batch
from genlab.data.contract import Split


def permutation(length: int, seed: int, number: int = 0) -> Tensor:
    """(length,) the order of 0 .. length - 1 by 63 random bits each, the same for equal (seed, number) for ever."""
    bits = Rng(seed, torch.tensor([number])).stage("order").bits(2 * length)[0].view(2, -1)
    return ((bits[0] >> 1 << 32) | bits[1]).argsort(stable=True)


@dataclass(frozen=True)
class Request:
    """Which data, and the place of each in the global batch of micro-batch number `step`."""

    step: int
    index: Tensor
    place: Tensor


class Stream(Sampler[Request]):
    """The micro-batches of one process, from number `start` on, without end.

    Arguments:
        length: N, how many data there are.
        batch_size: B, of one process.
        seed: of the permutations.
        start: the first micro-batch.
        rank, world: this process and how many there are.
    """

    def __init__(self, length: int, batch_size: int, seed: int, start: int = 0, rank: int = 0, world: int = 1) -> None:
        self.length, self.batch_size, self.seed, self.start = length, batch_size, seed, start
        self.rank, self.world = rank, world
        self._permutation = (-1, torch.empty(0))

    def permutation(self, number: int) -> Tensor:
        """(N,) the order of epoch `number`."""
        if self._permutation[0] != number:
            self._permutation = (number, permutation(self.length, self.seed, number))
        return self._permutation[1]

    def request(self, step: int) -> Request:
        """Micro-batch number `step`."""
        place = torch.arange(self.batch_size) + self.rank * self.batch_size
        position = (step * self.world + self.rank) * self.batch_size
        index: list[Tensor] = []
        while (missing := self.batch_size - sum(map(len, index))) > 0:
            epoch, element = divmod(position, self.length)
            index.append(self.permutation(epoch)[element : element + missing])
            position += len(index[-1])
        return Request(step, torch.cat(index), place)

    def __iter__(self) -> Iterator[Request]:
        step = self.start
        while True:
            yield self.request(step)
            step += 1


class Requested(Dataset[Batch]):
    """A split asked by `Request`, augmented by random numbers that belong to the place in the global batch."""

    def __init__(self, split: Split, seed: int) -> None:
        self.split, self.seed = split, seed

    def __getitem__(self, request: Request) -> Batch:
        rng = Rng(self.seed, request.place, step=request.step).stage("augment")
        return self.split.batch(request.index, rng)
