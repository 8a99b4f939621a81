"""What every data set promises, asked of each one that is at hand."""

import hashlib
import os
from pathlib import Path

import pytest
import torch

from genlab.core.units import from_levels, to_levels
from genlab.data.binarized_mnist import BinarizedMNIST
from genlab.data.cifar10 import CIFAR10
from genlab.data.digits import Digits
from genlab.data.heartbeat import Heartbeat
from genlab.data.mnist import MNIST
from genlab.data.toy2d import HELD_OUT, SHAPES, Toy2D

NAMES = ("train", "validation", "test")
SETS = {
    "digits": (Digits, None, (1257, 180, 360), "b0d818b5b670"),
    "heartbeat": (Heartbeat, None, (5000, 1000, 1000), "6b17c2844b0a"),
    "mnist": (lambda: MNIST(download=False), "MNIST/raw", (55_000, 5_000, 10_000), "5a6ae039d56a"),
    "mnist-32": (lambda: MNIST(pad=32, download=False), "MNIST/raw", (55_000, 5_000, 10_000), "e85410ba5062"),
    "cifar10": (lambda: CIFAR10(download=False), "cifar-10-batches-bin", (45_000, 5_000, 10_000), "8b11c41ddcbc"),
    "binarized_mnist": (BinarizedMNIST, "binarized_mnist", (50_000, 10_000, 10_000), "07ad6da6ba68"),
    **{
        f"toy2d-{name}-1000": (lambda name=name: Toy2D(name, 1000), None, (1000, HELD_OUT, HELD_OUT), None)
        for name in SHAPES
    },
}


@pytest.fixture(scope="module", params=SETS)
def case(request):
    """A data set with its name, the sizes of its splits and, where it is of integers, the check sum of its content."""
    make, needs, sizes, digest = SETS[request.param]
    if needs is not None and not Path(os.environ.get("GENLAB_DATA", "/nowhere"), needs).is_dir():
        pytest.skip(f"the folder GENLAB_DATA has no {needs}")
    return make(), request.param, sizes, digest


def test_splits_have_their_sizes(case):
    data, _, sizes, _ = case
    assert tuple(len(data.split(name)) for name in NAMES) == sizes


def test_identity(case):
    data, identity, _, _ = case
    assert data.identity == identity


def test_a_batch_is_what_the_spec_says(case):
    data, _, _, _ = case
    for name in NAMES:
        batch = data.split(name).batch(torch.tensor([0, 3, 3, -1]))
        assert batch.keys() == data.spec.keys()
        for key, field in data.spec.items():
            assert batch[key].shape == (4, *field.shape)
            if field.classes:
                labels = data.split(name).label
                assert labels.dtype == torch.int64
                assert labels.unique().tolist() == list(range(field.classes))
                assert data.classes is None or len(data.classes) == field.classes
            else:
                assert batch[key].dtype == torch.float32
        assert batch["x"][1].equal(batch["x"][2])


def test_levels_come_back_exactly(case):
    """x lies in [-1, 1], and units.to_levels gives the very integers that are stored."""
    data, _, _, _ = case
    levels = data.spec["x"].levels
    if levels is None:
        return
    stored = data.split("test").x[:200]
    x = data.split("test").batch(torch.arange(200))["x"]
    assert x.min() >= -1
    assert x.max() <= 1
    assert to_levels(x, levels).equal(stored.long())
    torch.testing.assert_close(x, from_levels(stored, levels), rtol=0, atol=2e-7)


def test_splits_are_disjoint_and_loaded_once(case):
    data, _, sizes, _ = case
    seen = [data.split(name).x.flatten(1) for name in NAMES]
    assert all(data.split(name).x is data.split(name).x for name in NAMES)
    storage = [x.data_ptr() for x in seen]
    assert len(set(storage)) == 3
    if data.spec["x"].levels is None:
        assert len(torch.cat(seen).unique(dim=0)) == sum(sizes)


def test_content_never_changes(case):
    """Pixels, labels, their order and the splits, by a check sum."""
    data, _, _, digest = case
    if digest is None:
        return
    sums = hashlib.sha256()
    for name in NAMES:
        for tensor in (data.split(name).x, data.split(name).label):
            if tensor is not None:
                sums.update(tensor.contiguous().numpy())
    assert sums.hexdigest()[:12] == digest


def test_digits_are_all_there_and_in_equal_shares():
    from sklearn.datasets import load_digits

    data = Digits()
    all_of_them = torch.cat([data.split(name).x for name in NAMES]).flatten(1)
    assert sorted(all_of_them.tolist()) == sorted(load_digits().data.astype(int).tolist())
    whole = torch.from_numpy(load_digits().target).bincount() / 1797
    for name in NAMES:
        label = data.split(name).label
        assert (label.bincount() - whole * len(label)).abs().max() <= 1


@pytest.mark.parametrize("pad", [29, 32])
def test_padding_surrounds_with_black(pad):
    if not Path(os.environ.get("GENLAB_DATA", "/nowhere"), "MNIST/raw").is_dir():
        pytest.skip("the folder GENLAB_DATA has no MNIST/raw")
    plain, padded = MNIST(), MNIST(pad=pad)
    assert padded.spec["x"].dimensions == 784
    x, wide = (data.split("test").x for data in (plain, padded))
    first = (pad - 28) // 2
    assert wide[..., first : first + 28, first : first + 28].equal(x)
    assert wide.long().sum() == x.long().sum()
