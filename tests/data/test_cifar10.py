"""CIFAR-10's files, made up and small, with sums of their own; pickles that are more than data are not run."""

import hashlib
import io
import os
import pickle
import struct
import tarfile
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision.datasets.utils

from genlab.core.errors import UserError
from genlab.data import cifar10
from genlab.data.cifar10 import BINARY, CIFAR10, PICKLES

COUNT = 6


@pytest.fixture(autouse=True)
def records(monkeypatch):
    """Six records a file, under the names of the published files, whose sums they take the place of."""
    generator = np.random.default_rng(0)
    made = {}
    for name in cifar10.MD5:
        made[name] = generator.integers(256, size=(COUNT, 3073), dtype=np.uint8)
        made[name][:, 0] = generator.integers(10, size=COUNT)
    monkeypatch.setattr(cifar10, "MD5", {name: hashlib.md5(r.tobytes()).hexdigest() for name, r in made.items()})
    monkeypatch.setattr(cifar10, "VALIDATION", 4)
    return made


@pytest.fixture(autouse=True)
def archive(monkeypatch):
    """What the publisher's address answers: by default nothing."""

    def refuse(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(torchvision.datasets.utils, "download_url", refuse)


def write_binary(folder, records):
    folder.mkdir(parents=True)
    for name, rows in records.items():
        (folder / f"{name}.bin").write_bytes(rows.tobytes())


def python_3(rows, protocol=2):
    content = {"data": rows[:, 1:], "labels": rows[:, 0].tolist(), "filenames": [b"cat.png"] * COUNT}
    return pickle.dumps(content, protocol)


def python_2(rows):
    """As Python 2 wrote the published files: strings are bytes, and so are those within the array."""
    pixels = np.ascontiguousarray(rows[:, 1:]).tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
        + b"(K\x01K\x06M\x00\x0c\x86cnumpy\ndtype\n(U\x02u1K\x00K\x01tR"
        + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + b"\x89T"
        + struct.pack("<i", len(pixels))
        + pixels
        + b"tb"
    )
    labels = b"](" + b"".join(b"K" + bytes([v]) for v in rows[:, 0]) + b"e"
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels" + labels + b"u."


def write_pickles(folder, records, dump):
    folder.mkdir(parents=True)
    for name, rows in records.items():
        (folder / name).write_bytes(dump(rows))


def assert_is(data, records):
    train = np.concatenate([records[f"data_batch_{i}"] for i in range(1, 6)])
    for name, rows in {"train": train[:-4], "validation": train[-4:], "test": records["test_batch"]}.items():
        split = data.split(name)
        assert split.label.tolist() == rows[:, 0].tolist()
        assert split.x.flatten(1).equal(torch.from_numpy(rows[:, 1:].copy()))


@pytest.mark.parametrize("at", ["parent", "itself"])
def test_the_binary_version(tmp_path, records, at):
    write_binary(tmp_path / BINARY, records)
    assert_is(CIFAR10(str(tmp_path if at == "parent" else tmp_path / BINARY), download=False), records)


@pytest.mark.parametrize("dump", [python_2, python_3, lambda rows: python_3(rows, 5)], ids=["2", "3", "3-protocol-5"])
@pytest.mark.parametrize("at", ["parent", "itself"])
def test_the_pickles_are_the_same_data(tmp_path, records, dump, at):
    write_pickles(tmp_path / PICKLES, records, dump)
    assert_is(CIFAR10(str(tmp_path if at == "parent" else tmp_path / PICKLES), download=False), records)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("call", [os.system, eval, getattr, np.load, np.frombuffer])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path, records, nested, call):
    trace = tmp_path / "trace"

    class Trap:
        def __reduce__(self):
            return call, (f"touch {trace}" if call is os.system else f"open({str(trace)!r}, 'w')",)

    content = {"data": [Trap()], "labels": []} if nested else Trap()
    write_pickles(tmp_path / PICKLES, records, lambda rows: pickle.dumps(content))
    with pytest.raises(UserError, match=r"is refused and was not run") as error:
        CIFAR10(str(tmp_path), download=False).split("train")
    assert "\n" not in str(error.value)
    assert not trace.exists()


@pytest.mark.parametrize("content", [[], {}, {"data": 1, "labels": 2}, {"data": np.zeros((2, 3)), "labels": [0, 1]}])
def test_a_foreign_pickle_is_one_line(tmp_path, records, content):
    write_pickles(tmp_path / PICKLES, records, lambda rows: pickle.dumps(content))
    with pytest.raises(UserError, match=r"data\.root: .*data_batch_1 is not a batch of CIFAR-10"):
        CIFAR10(str(tmp_path), download=False).split("train")


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: bytes([b[0] ^ 1]) + b[1:], lambda b: b""])
def test_a_wrong_md5_sum_is_named(tmp_path, records, damage):
    write_binary(tmp_path / BINARY, records)
    file = tmp_path / BINARY / "data_batch_3.bin"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=r"data\.root: .*data_batch_3 is not the published file.* md5 sum"):
        CIFAR10(str(tmp_path)).split("validation")


def test_absent_and_offline_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"data\.root=.* has no cifar-10-batches-bin/.* \(.*no network.*\)") as error:
        CIFAR10(str(tmp_path / "new")).split("train")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"neither cifar-10-batches-bin/.* nor cifar-10-batches-py"):
        CIFAR10(str(tmp_path / "other"), download=False).split("train")
    assert not (tmp_path / "other").exists()


def test_what_is_absent_is_downloaded(tmp_path, records, monkeypatch):
    def answer(url, root, filename, md5):
        assert (url, md5) == (cifar10.ADDRESS, cifar10.ARCHIVE_MD5)
        with tarfile.open(os.path.join(root, filename), "w:gz") as archive:
            for name, rows in records.items():
                member = tarfile.TarInfo(f"{BINARY}/{name}.bin")
                member.size = rows.nbytes
                archive.addfile(member, io.BytesIO(rows.tobytes()))

    monkeypatch.setattr(torchvision.datasets.utils, "download_url", answer)
    assert_is(CIFAR10(str(tmp_path / "new")), records)
    assert_is(CIFAR10(str(tmp_path / "new"), download=False), records)


def test_only_training_images_are_flipped(tmp_path, records):
    write_binary(tmp_path / BINARY, records)
    data = CIFAR10(str(tmp_path))
    assert [data.split(name).flip for name in ("train", "validation", "test")] == [True, False, False]
    assert not CIFAR10(str(tmp_path), flip=False).split("train").flip
