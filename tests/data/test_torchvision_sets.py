"""SVHN and CelebA as torchvision reads them, from tiny files made up in the published forms."""

import hashlib

import numpy as np
import pytest
import scipy.io
import torch
import torchvision.datasets as published
from PIL import Image

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.data import svhn
from genlab.data.celeba import CelebA
from genlab.data.svhn import SVHN

PARTITION = [0, 0, 0, 0, 1, 1, 2, 2]


def test_svhn(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    folder = tmp_path / "svhn"
    folder.mkdir()
    images, sums = {}, {}
    for part, count in (("train", 12), ("test", 4)):
        images[part] = generator.integers(256, size=(count, 3, 32, 32), dtype=np.uint8)
        label = np.arange(1, count + 1).reshape(-1, 1).clip(max=10).astype(np.uint8)
        path = folder / f"{part}_32x32.mat"
        scipy.io.savemat(path, {"X": images[part].transpose(2, 3, 1, 0), "y": label})
        sums[part] = ["", path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(published.SVHN, "split_list", sums)
    monkeypatch.setattr(svhn, "VALIDATION", 5)
    data = SVHN(str(tmp_path), download=False)
    assert data.split("train").label.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert data.split("validation").label.tolist() == [8, 9, 0, 0, 0]
    assert data.split("test").x.numpy().tolist() == images["test"].tolist()
    assert data.split("test").batch(torch.arange(2))["x"].shape == (2, *data.spec["x"].shape)


@pytest.fixture
def faces(tmp_path, monkeypatch):
    folder = tmp_path / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    names = [f"{i:06d}.jpg" for i in range(1, len(PARTITION) + 1)]
    for i, name in enumerate(names):
        face = Image.new("RGB", (178, 218), "red")
        face.paste(Image.new("RGB", (148, 148), (0, 30 * i, 0)), (15, 35))
        face.save(folder / name, quality=95, subsampling=0)

    def table(name, head, row):
        (folder.parent / name).write_text("".join(head + [f"{n} {row(i)}\n" for i, n in enumerate(names)]))

    table("list_eval_partition.txt", [], lambda i: PARTITION[i])
    table("identity_CelebA.txt", [], lambda i: i)
    for name in ("list_bbox_celeba.txt", "list_landmarks_align_celeba.txt", "list_attr_celeba.txt"):
        table(name, ["8\n", "one two\n"], lambda i: "1 -1")
    monkeypatch.setattr(published.CelebA, "_check_integrity", lambda self: True)
    return tmp_path


@pytest.mark.parametrize("in_memory", [False, True])
def test_celeba_is_the_middle_of_the_published_splits(faces, in_memory):
    data = CelebA(str(faces), size=32, in_memory=in_memory, download=False)
    assert [len(data.split(name)) for name in ("train", "validation", "test")] == [4, 2, 2]
    assert data.split("train").in_memory == in_memory
    x = data.split("train").batch(torch.arange(4), Rng(0, torch.arange(4)))["x"]
    assert x.shape == (4, *data.spec["x"].shape)
    green = torch.arange(4).view(4, 1, 1) * 30 * 2 / 255 - 1
    assert (x[:, 0] < -0.9).all()
    torch.testing.assert_close(x[:, 1], green.expand(4, 32, 32), rtol=0, atol=0.05)
    assert data.split("train") is data.split("train")


@pytest.mark.parametrize(
    ("data", "expected"),
    [(CelebA, "celeba/img_align_celeba"), (SVHN, "train_32x32.mat")],
)
def test_absent_files_are_one_line(tmp_path, data, expected):
    with pytest.raises(UserError, match=rf"data\.root=.* has no {expected}.*data\.download=true"):
        data(str(tmp_path), download=False).split("train")


def test_a_window_of_celeba_is_not_enlarged():
    with pytest.raises(ValueError, match="size must be at least 1 and at most 148, not 256"):
        CelebA(size=256)
