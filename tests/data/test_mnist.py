"""MNIST's files, made up and small: read where they are, downloaded where not, refused where they are damaged."""

import struct
from urllib.error import URLError

import pytest
import torch
from torchvision.datasets import mnist as published

from genlab.core.errors import UserError
from genlab.data import mnist
from genlab.data.mnist import MNIST, FashionMNIST
from genlab.data.root import where


def write(raw, train=12, test=5):
    raw.mkdir(parents=True)
    for part, count in (("train", train), ("t10k", test)):
        pixels = torch.arange(count * 28 * 28).remainder(251).to(torch.uint8).numpy().tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">iiii", 2051, count, 28, 28) + pixels)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">ii", 2049, count) + bytes(range(count)))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(mnist, "TRAIN", 9)
    monkeypatch.setattr(mnist, "VALIDATION", 3)
    monkeypatch.setattr(mnist, "TEST", 5)


@pytest.fixture
def offline(monkeypatch):
    asked = []

    def refuse(url, **_):
        asked.append(url)
        raise URLError("no network")

    monkeypatch.setattr(published, "download_and_extract_archive", refuse)
    return asked


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
@pytest.mark.parametrize("at", ["parent", "itself"])
def test_validation_is_the_last_of_the_training_set(tmp_path, kind, at, offline):
    write(tmp_path / kind.name / "raw")
    data = kind(str(tmp_path if at == "parent" else tmp_path / kind.name))
    assert data.split("train").label.tolist() == list(range(9))
    assert data.split("validation").label.tolist() == [9, 10, 11]
    assert data.split("test").label.tolist() == [0, 1, 2, 3, 4]
    assert not offline


def test_root_is_the_option_then_the_variable_then_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GENLAB_DATA", raising=False)
    assert where(None) == tmp_path / ".cache/genlab/data"
    monkeypatch.setenv("GENLAB_DATA", "~/elsewhere")
    assert where(None) == tmp_path / "elsewhere"
    assert where("~/here") == tmp_path / "here"


def test_nothing_is_read_for_the_spec(offline):
    data = MNIST("/nowhere", pad=32)
    assert (data.spec["x"].shape, data.spec["x"].dimensions, data.identity) == ((1, 32, 32), 784, "mnist-32")
    assert FashionMNIST("/nowhere").identity == "fashion_mnist"
    assert not offline


def test_absent_files_that_cannot_be_downloaded_are_one_line(tmp_path, offline):
    with pytest.raises(UserError, match=r"data\.root=.* has no MNIST/raw.* downloading failed \(.*no network") as error:
        MNIST(str(tmp_path)).split("train")
    assert "\n" not in str(error.value)
    assert offline


def test_absent_files_are_not_asked_for_where_that_is_switched_off(tmp_path, offline):
    with pytest.raises(UserError, match=r"data\.download=true"):
        MNIST(str(tmp_path), download=False).split("test")
    assert not offline
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["short", "foreign", "fewer"])
def test_damaged_files_are_one_line(tmp_path, damage, offline):
    raw = tmp_path / "MNIST/raw"
    write(raw, train=11 if damage == "fewer" else 12)
    images = raw / "train-images-idx3-ubyte"
    if damage == "short":
        images.write_bytes(images.read_bytes()[:-1])
    if damage == "foreign":
        images.write_bytes(b"PK\x03\x04 not digits")
    with pytest.raises(UserError, match=r"data\.root=.*MNIST/raw") as error:
        MNIST(str(tmp_path)).split("train")
    assert "\n" not in str(error.value)


def test_a_pad_that_is_too_small_is_named():
    with pytest.raises(ValueError, match="pad must be null or a side of at least 28, not 20"):
        MNIST(pad=20)
