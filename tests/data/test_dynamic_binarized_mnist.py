import os
from pathlib import Path

import pytest
import torch

from genlab.core.rng import Rng
from genlab.data.binarized_mnist import BinarizedMNIST
from genlab.data.contract import InMemory
from genlab.data.dynamic_binarized_mnist import Binarized, DynamicBinarizedMNIST, binarized
from genlab.data.stream import Request, Requested

GREY = InMemory(torch.arange(256, dtype=torch.uint8).expand(50, 1, 256).clone(), 256, torch.arange(50) % 10)


def seen(split, step: int, place: torch.Tensor) -> torch.Tensor:
    """What training sees of data 0, 1, ... at these places of a global batch."""
    return Requested(split, seed=3)[Request(step, place, place)]["x"]


def test_a_bit_is_one_as_often_as_its_grey_value_says():
    bits = binarized(GREY.x.expand(-1, 40, -1), Rng(0, torch.arange(50))).double()
    assert set(bits.unique().tolist()) == {0.0, 1.0}
    p = torch.arange(256) / 255
    spread = (p * (1 - p) / 2000).sqrt()
    assert ((bits.mean((0, 1)) - p).abs() <= 5 * spread).all()


def test_black_stays_black_and_white_white():
    split = Binarized(GREY, 0, 0)
    x = split.batch(torch.arange(50))["x"]
    assert (x[..., 0] == -1).all()
    assert (x[..., 255] == 1).all()


def test_training_draws_anew_each_time_and_the_same_when_it_goes_on():
    split, place = Binarized(GREY, 0, 0), torch.arange(8)
    first = seen(split, 10, place)
    assert first.equal(seen(Binarized(GREY, 0, 0), 10, place))
    assert not first.equal(seen(split, 11, place))
    assert not first.equal(split.batch(place)["x"])


def test_what_a_datum_becomes_does_not_depend_on_how_the_batch_is_divided():
    split, place = Binarized(GREY, 0, 0), torch.arange(8)
    assert seen(split, 10, place).equal(torch.cat([seen(split, 10, half) for half in place.split(4)]))
    assert split.batch(torch.arange(50))["x"][-3:].equal(split.batch(torch.tensor([47, 48, -1]))["x"])


def test_the_draw_that_stands_is_one_a_seed_and_differs_between_splits():
    index = torch.arange(50)
    drawn = [Binarized(GREY, seed, first).batch(index)["x"] for seed, first in ((0, 0), (0, 0), (1, 0), (0, 100_000))]
    assert drawn[0].equal(drawn[1])
    assert not drawn[0].equal(drawn[2])
    assert not drawn[0].equal(drawn[3])


def test_it_is_not_confused_with_the_static_set():
    names = {DynamicBinarizedMNIST().identity, DynamicBinarizedMNIST(seed=1).identity, BinarizedMNIST().identity}
    assert len(names) == 3
    assert DynamicBinarizedMNIST().identity.startswith("dynamic_")


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range(seed):
    with pytest.raises(ValueError, match="seed must be at least 0 and below"):
        DynamicBinarizedMNIST(seed=seed)


def test_the_published_digits():
    if not Path(os.environ.get("GENLAB_DATA", "/nowhere"), "MNIST/raw").is_dir():
        pytest.skip("the folder GENLAB_DATA has no MNIST/raw")
    data = DynamicBinarizedMNIST(download=False)
    assert [len(data.split(name)) for name in ("train", "validation", "test")] == [55_000, 5_000, 10_000]
    batch = data.split("test").batch(torch.arange(1000))
    for key, field in data.spec.items():
        assert batch[key].shape == (1000, *field.shape)
    grey = data.grey.split("test").x[:1000].double() / 255
    bits = (batch["x"].double() + 1) / 2
    assert set(bits.unique().tolist()) == {0.0, 1.0}
    assert (bits - grey).mean().abs() < 5 * ((grey * (1 - grey)).sum().sqrt() / grey.numel())
