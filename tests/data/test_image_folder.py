"""Anyone's folder: what is found in it, what is skipped, and what is refused in one line."""

import logging
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.data import image_folder
from genlab.data.image_folder import ImageFolder

NAMES = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("GENLAB_CACHE", str(folder))
    return folder


def picture(path, value=0, size=(20, 17), mode="RGB"):
    """One even grey, so that the value tells which file it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).convert(mode).save(path)


def fill(folder, count, **options):
    for i in range(count):
        picture(folder / f"{i:03d}.png", i, **options)


def values(split):
    """Which files the split holds, by their grey."""
    return split.batch(torch.arange(len(split)))["x"][:, 0, 0, 0].add(1).mul(127.5).round().int().tolist()


lazy = pytest.mark.parametrize("in_memory", [True, False], ids=["in memory", "from files"])


@lazy
def test_a_plain_folder_is_split_by_hash(tmp_path, in_memory):
    fill(tmp_path, 100)
    data = ImageFolder(str(tmp_path), in_memory=in_memory)
    parts = [values(data.split(name)) for name in NAMES]
    assert [len(part) for part in parts] == [90, 5, 5]
    assert sorted(v for part in parts for v in part) == list(range(100))
    assert parts == [values(ImageFolder(str(tmp_path)).split(name)) for name in NAMES]
    assert parts[2] == [61, 33, 15, 0, 56]
    assert data.spec["x"].shape == (3, 16, 16)
    assert data.classes is None
    assert data.split("train").in_memory == in_memory


def test_three_pictures_are_enough_and_two_are_not(tmp_path):
    fill(tmp_path, 3)
    assert [len(ImageFolder(str(tmp_path)).split(name)) for name in NAMES] == [1, 1, 1]
    (tmp_path / "001.png").unlink()
    with pytest.raises(UserError, match="2 pictures: a picture is needed for each of three splits"):
        ImageFolder(str(tmp_path)).split("train")


@lazy
def test_folders_are_classes(tmp_path, in_memory):
    fill(tmp_path / "dog" / "deep" / "deeper", 30)
    for i in range(30):
        picture(tmp_path / "cat" / f"{i}.jpg", 100 + i)
    data = ImageFolder(str(tmp_path), in_memory=in_memory)
    assert data.classes == ("cat", "dog")
    assert data.spec["label"].classes == 2
    for name in NAMES:
        split = data.split(name)
        label = split.batch(torch.arange(len(split)))["label"]
        assert label.tolist() == [0 if value >= 95 else 1 for value in values(split)]


@pytest.mark.parametrize("stray", ["picture.png", None])
def test_pictures_beside_the_folders_or_one_folder_are_no_classes(tmp_path, stray):
    fill(tmp_path / "one", 10)
    if stray:
        fill(tmp_path / "two", 10)
        picture(tmp_path / stray)
    assert ImageFolder(str(tmp_path)).spec.keys() == {"x"}


def test_folders_of_splits_are_the_splits(tmp_path):
    for offset, name in ((0, "train"), (100, "val"), (200, "test")):
        for kind in ("cat", "dog"):
            for i in range(10):
                picture(tmp_path / name / kind / f"{i}.png", offset + i + 20 * (kind == "dog"))
    data = ImageFolder(str(tmp_path))
    assert data.classes == ("cat", "dog")
    for offset, name in ((0, "train"), (100, "validation"), (200, "test")):
        assert sorted(values(data.split(name))) == [offset + i for i in (*range(10), *range(20, 30))]
    shutil.rmtree(tmp_path / "val")
    assert [len(ImageFolder(str(tmp_path)).split(name)) for name in NAMES] == [19, 1, 20]


def test_a_class_may_be_called_train(tmp_path):
    fill(tmp_path / "train", 10)
    fill(tmp_path / "bus", 10)
    data = ImageFolder(str(tmp_path))
    assert data.classes == ("bus", "train")
    assert len(data.split("train")) == 18


@pytest.mark.parametrize(
    ("sizes", "side"), [([(40, 31), (64, 64)], 24), ([(900, 700), (300, 270)], 256), ([(8, 9), (90, 90)], 8)]
)
def test_the_data_decide_the_side(tmp_path, sizes, side):
    for i in range(6):
        picture(tmp_path / f"{i}.png", i, sizes[i % 2])
    data = ImageFolder(str(tmp_path))
    assert data.spec["x"].shape == (3, side, side)
    assert data.split("train").batch(torch.arange(2))["x"].shape == (2, 3, side, side)


@pytest.mark.parametrize(("modes", "channels"), [(["L", "1"], 1), (["L", "RGB"], 3), (["LA"], 1), (["RGBA"], 3)])
def test_the_data_decide_the_channels(tmp_path, modes, channels):
    for i in range(6):
        picture(tmp_path / f"{i}.png", i, mode=modes[i % len(modes)])
    assert ImageFolder(str(tmp_path)).spec["x"].shape[0] == channels
    assert ImageFolder(str(tmp_path), channels=3).split("train").batch(torch.arange(1))["x"].shape[1] == 3


def test_the_spec_decodes_nothing(tmp_path, monkeypatch):
    fill(tmp_path, 10)
    monkeypatch.setattr(image_folder, "read", lambda *_: pytest.fail("a picture was decoded"))
    data = ImageFolder(str(tmp_path))
    assert data.spec
    assert data.identity


def test_identity_follows_the_data(tmp_path):
    fill(tmp_path, 10)

    def identity(**options):
        return ImageFolder(str(tmp_path), **options).identity

    first = identity()
    assert identity(flip=True, in_memory=False) == first
    others = {identity(size=8), identity(channels=1)}
    picture(tmp_path / "more.png")
    others.add(identity())
    os.utime(tmp_path / "more.png", ns=(1, 1))
    others.add(identity())
    assert len(others | {first}) == 5


@lazy
def test_a_damaged_file_is_named_and_skipped(tmp_path, caplog, in_memory):
    fill(tmp_path, 120)
    (tmp_path / "050.png").write_bytes((tmp_path / "050.png").read_bytes()[:60])
    for _ in range(2):
        with caplog.at_level(logging.WARNING):
            data = ImageFolder(str(tmp_path), size=16, in_memory=in_memory)
            seen = sorted(v for name in NAMES for v in values(data.split(name)))
        assert seen == [i for i in range(120) if i != 50]
        assert [r.getMessage().count("050.png") for r in caplog.records] == [1]
        caplog.clear()


@lazy
def test_more_than_a_hundredth_damaged_is_refused(tmp_path, in_memory):
    fill(tmp_path, 120)
    for name in ("050.png", "070.png"):
        (tmp_path / name).write_text("not a picture")
    with pytest.raises(
        UserError, match=r"data\.root=.*: 2 of 120 pictures are damaged, more than 1%; one is .*050\.png"
    ):
        ImageFolder(str(tmp_path), in_memory=in_memory).split("train")


def test_files_are_checked_once_until_one_changes(tmp_path, cache, monkeypatch):
    fill(tmp_path, 10)
    assert len(ImageFolder(str(tmp_path), in_memory=False).split("train")) == 8
    with monkeypatch.context() as patch:
        patch.setattr(image_folder, "read", lambda *_: pytest.fail("a picture was decoded again"))
        assert len(ImageFolder(str(tmp_path), in_memory=False).split("train")) == 8
    (tmp_path / "003.png").write_text("not a picture")
    with pytest.raises(UserError, match=r"003\.png"):
        ImageFolder(str(tmp_path), in_memory=False).split("train")


@lazy
def test_pictures_smaller_than_the_crop_are_named(tmp_path, in_memory):
    fill(tmp_path, 10)
    picture(tmp_path / "small.png", size=(40, 12))
    with pytest.raises(UserError, match=r"data\.size=16: .*small\.png has a side of 12 pixels only: set data\.size=12"):
        ImageFolder(str(tmp_path), size=16, in_memory=in_memory).split("test")
    picture(tmp_path / "small.png", size=(40, 5))
    with pytest.raises(UserError, match=r"small\.png has a side of 5 pixels, below 8"):
        _ = ImageFolder(str(tmp_path)).spec


@pytest.mark.parametrize(
    ("root", "message"),
    [
        (None, r"data\.root must be given"),
        ("absent", r"data\.root=.*absent does not exist"),
        ("file.txt", r"data\.root=.*file\.txt is a file"),
        ("empty", r"data\.root=.*empty is empty: it must hold files \.png"),
        ("words", r"data\.root=.*words has no pictures: it must hold files \.png"),
        ("trash", r"data\.root=.*trash: none of the 4 pictures looked at can be read"),
    ],
)
def test_folders_that_will_not_do_are_one_line(tmp_path, root, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "notes.txt").touch()
    (tmp_path / "words" / ".hidden.png").touch()
    (tmp_path / "file.txt").touch()
    (tmp_path / "trash").mkdir()
    for i in range(4):
        (tmp_path / "trash" / f"{i}.jpg").touch()
    with pytest.raises(UserError, match=message) as error:
        _ = ImageFolder(root and str(tmp_path / root)).spec
    assert "\n" not in str(error.value)


def test_an_unreadable_folder_is_one_line(tmp_path, monkeypatch):
    fill(tmp_path / "locked", 5)

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"data\.root=.* cannot be read: .*Permission denied"):
        _ = ImageFolder(str(tmp_path)).spec


def test_links_that_go_round_end(tmp_path):
    fill(tmp_path / "pictures", 10)
    (tmp_path / "pictures" / "again").symlink_to(tmp_path)
    assert sum(len(ImageFolder(str(tmp_path)).split(name)) for name in NAMES) == 10


def test_random_crops_and_flips_are_for_training(tmp_path):
    ramp = np.broadcast_to(np.arange(0, 250, 2, dtype=np.uint8), (16, 125))
    for i in range(12):
        Image.fromarray(ramp).save(tmp_path / f"{i}.png")
    data = ImageFolder(str(tmp_path), crop="random", flip=True)
    assert [(data.split(name).crop, data.split(name).flip) for name in NAMES] == [
        ("random", True),
        ("centre", False),
        ("centre", False),
    ]
    in_files = ImageFolder(str(tmp_path), crop="random", flip=True, in_memory=False).split("train")
    index = torch.arange(10)
    drawn = data.split("train").batch(index, Rng(0, index))["x"]
    assert len(drawn[:, 0, 0, 0].unique()) > 5
    assert drawn.equal(in_files.batch(index, Rng(0, index))["x"])
