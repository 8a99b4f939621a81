"""Laws of the order of training: permutations, the same for any number of processes, to be had from any place."""

import itertools

import pytest
import torch
from torch.utils.data import DataLoader

from genlab.core.rng import Rng
from genlab.data.contract import InMemory, Joined
from genlab.data.stream import Requested, Stream, permutation


def taken(stream, count):
    return list(itertools.islice(iter(stream), count))


@pytest.mark.parametrize(("length", "batch_size"), [(10, 5), (10, 4), (3, 8), (1, 2)])
def test_each_epoch_is_a_permutation(length, batch_size):
    index = torch.cat([r.index for r in taken(Stream(length, batch_size, seed=1), 5 * length)])
    for epoch in index[: len(index) // length * length].view(-1, length):
        assert epoch.sort().values.tolist() == list(range(length))


def test_epochs_and_seeds_differ():
    first, second = Stream(100, 100, seed=1).request(0).index, Stream(100, 100, seed=1).request(1).index
    other = Stream(100, 100, seed=2).request(0).index
    assert not first.equal(second)
    assert not first.equal(other)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_together_see_what_one_sees(world):
    alone = taken(Stream(17, 4 * world, seed=3), 12)
    parts = [taken(Stream(17, 4, seed=3, rank=rank, world=world), 12) for rank in range(world)]
    for whole, *shares in zip(alone, *parts, strict=True):
        assert torch.cat([s.index for s in shares]).equal(whole.index)
        assert torch.cat([s.place for s in shares]).equal(whole.place)


def test_a_resumed_stream_continues():
    whole, rest = taken(Stream(13, 5, seed=0), 20), taken(Stream(13, 5, seed=0, start=7), 13)
    for a, b in zip(whole[7:], rest, strict=True):
        assert (a.step, a.index.tolist(), a.place.tolist()) == (b.step, b.index.tolist(), b.place.tolist())


def test_augmentation_belongs_to_the_place_in_the_global_batch():
    """Two processes flip what one would, and a step later other images are flipped."""
    split = InMemory(torch.randint(256, (50, 1, 4, 4), dtype=torch.uint8), levels=256, flip=True)
    data = Requested(split, seed=5)
    alone = data[Stream(50, 32, seed=0).request(3)]["x"]
    shares = [data[Stream(50, 16, seed=0, rank=rank, world=2).request(3)]["x"] for rank in range(2)]
    assert torch.cat(shares).equal(alone)

    still = InMemory(torch.arange(4, dtype=torch.uint8).view(1, 1, 1, 4).expand(50, 1, 1, 4), levels=4, flip=True)
    turned = [Requested(still, seed=5)[Stream(50, 32, seed=0).request(step)]["x"][:, 0, 0, 0] > 0 for step in (0, 1)]
    assert not turned[0].equal(turned[1])
    assert 4 < turned[0].sum() < 28


def test_a_permutation_never_changes():
    assert permutation(10, seed=0).tolist() == [2, 0, 1, 3, 4, 5, 9, 6, 8, 7]
    assert permutation(10, seed=0, number=1).tolist() == [4, 1, 3, 6, 9, 7, 5, 8, 0, 2]


def test_joined_splits_are_one_after_the_other():
    x = torch.arange(10, dtype=torch.uint8).view(10, 1)
    parts = [InMemory(x[:3], 10, torch.arange(3)), InMemory(x[3:], 10, torch.arange(3, 10))]
    index = torch.tensor([9, 0, 3, 2, 2, 5])
    whole = InMemory(x, 10, torch.arange(10))
    joined = Joined(*parts)
    assert len(joined) == 10
    assert joined.in_memory
    for key, value in whole.batch(index).items():
        assert joined.batch(index)[key].equal(value)


def test_nothing_is_augmented_without_random_numbers():
    split = InMemory(torch.randint(256, (8, 1, 4, 4), dtype=torch.uint8), levels=256, flip=True)
    index = torch.arange(8)
    assert split.batch(index)["x"].equal(split.batch(index)["x"])
    assert not split.batch(index, Rng(0, index))["x"].equal(split.batch(index)["x"])


def test_worker_processes_change_nothing():
    split = InMemory(torch.randint(256, (20, 1, 4, 4), dtype=torch.uint8), 256, torch.arange(20), flip=True)
    batches = []
    for workers in (0, 2):
        stream = Stream(20, 8, seed=0, start=3)
        loader = DataLoader(Requested(split, seed=1), batch_size=None, sampler=stream, num_workers=workers)
        batches.append(list(itertools.islice(loader, 4)))
    for here, there in zip(*batches, strict=True):
        assert here["x"].equal(there["x"])
        assert here["label"].equal(there["label"])
