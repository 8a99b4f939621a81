"""Stacks are of digits of their own split, are read as numbers, and never change."""

import pytest
import torch

from genlab.core.units import to_uint8
from genlab.data.contract import InMemory
from genlab.data.dirac import Dirac
from genlab.data.mnist import MNIST
from genlab.data.stacked_mnist import StackedMNIST

SECOND = [24, 11, 47]
"""Of 50 digits, those of stack number 1."""


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """MNIST whose images are as bright as their number, which of a split begins at 0, 100 or 200."""
    first = {"train": 0, "validation": 100, "test": 200}

    def split(self, name):
        number = torch.arange(50, dtype=torch.uint8) + first[name]
        return InMemory(number.view(-1, 1, 1, 1).expand(-1, 1, self.side, self.side), 256, number.long() % 10)

    monkeypatch.setattr(MNIST, "split", split)


@pytest.mark.parametrize("pad", [None, 32])
def test_channels_are_digits_and_the_label_their_number(pad):
    data = StackedMNIST(pad=pad, size=500)
    batch = data.split("train").batch(torch.arange(500))
    side = pad or 28
    assert batch["x"].shape == (500, 3, side, side)
    assert batch["x"].shape[1:] == data.spec["x"].shape
    assert data.spec["x"].dimensions == 3 * 784
    numbers = to_uint8(batch["x"], 256)
    assert (numbers == numbers[:, :, :1, :1]).all()
    digits = numbers[:, :, 0, 0].long() % 10
    assert batch["label"].equal(digits @ torch.tensor([100, 10, 1]))
    assert data.spec["label"].classes == len(data.classes) == 1000
    assert data.classes[int(batch["label"][0])] == "".join(str(int(d)) for d in digits[0])


def test_each_split_has_digits_of_its_own():
    data = StackedMNIST(size=300)
    for name, first, count in (("train", 0, 300), ("validation", 100, 10_000), ("test", 200, 10_000)):
        split = data.split(name)
        assert len(split) == count
        found = to_uint8(split.batch(torch.arange(300))["x"], 256)
        assert (found >= first).all()
        assert (found < first + 50).all()


def test_digits_are_put_together_alike_and_independently():
    split = StackedMNIST(size=20_000).split("train")
    counts = torch.stack([column.bincount(minlength=50) for column in split.index.T]).double()
    # 400 of each are expected, of deviation 20.
    assert (counts - 400).abs().max() < 100
    pairs = (split.index[:, 0] * 50 + split.index[:, 1]).bincount(minlength=2500).double()
    assert (pairs - 8).square().sum() / 8 == pytest.approx(2499, abs=5 * (2 * 2499) ** 0.5)


def test_stacks_never_change_and_a_larger_set_begins_with_the_smaller():
    small, large = StackedMNIST(size=100), StackedMNIST(size=300)
    assert large.split("train").index[:100].equal(small.split("train").index)
    assert large.split("test").index.equal(small.split("test").index)
    assert small.split("train").index[1].tolist() == SECOND
    assert small.identity == "stacked_mnist-100"
    assert StackedMNIST(pad=32).identity == "stacked_mnist-32-128000"


def test_the_origin_is_one_point():
    data = Dirac(3)
    batch = data.split("train").batch(torch.tensor([0, 999]))
    assert batch["x"].tolist() == [[0.0] * 3] * 2
    assert data.spec["x"].shape == (3,)


@pytest.mark.parametrize(("make", "message"), [(StackedMNIST, "size must be at least 1"), (Dirac, "dimensions must")])
def test_wrong_options_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make(**{"size" if make is StackedMNIST else "dimensions": 0})
