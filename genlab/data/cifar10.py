"""CIFAR-10: 60,000 colour images of 32x32 pixels in ten classes, from the published files alone.

A record of the binary version is a label and 3,072 pixels, one byte each; six files hold 10,000 records each, and each
file has its published md5 sum. The Python version has the same records in pickles. They are read by an unpickler that
knows arrays and nothing else, put into the form of the binary version, and held to the same sums.

References:
    Learning Multiple Layers of Features from Tiny Images (Krizhevsky, 2009).
"""

import hashlib
import io
import pickle
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from genlab.core.errors import UserError
from genlab.core.spec import Field, Spec
from genlab.data.contract import InMemory, SplitName
from genlab.data.root import downloading, one_line, where

MD5 = {
    "data_batch_1": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
BINARY, PICKLES = "cifar-10-batches-bin", "cifar-10-batches-py"
ADDRESS, ARCHIVE_MD5 = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"
PIXELS, VALIDATION = 3 * 32 * 32, 5_000

RECONSTRUCT = np.empty(0).__reduce__()[0]
"""numpy's own function by which a pickle makes an empty array; its module has changed its name."""

Reader = Callable[[Path], np.ndarray]
"""From a path without suffix to the bytes of the records, in one dimension."""


class CIFAR10:
    """60,000 photographs of ten kinds of animals and vehicles, 32x32 pixels in colour.

    45,000 train and 5,000 validation data, the last of the published training set, and the published 10,000 test data.

    Arguments:
        root: has cifar-10-batches-bin, or cifar-10-batches-py, or is one of them.
        flip: turn half of the training images left to right.
        download: fetch the binary version where neither is there.
    """

    identity = "cifar10"
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

    def __init__(self, root: str | None = None, flip: bool = True, download: bool = True) -> None:
        self.root, self.flip, self.download = root, flip, download

    @property
    def spec(self) -> Spec:
        return {"x": Field((3, 32, 32), levels=256), "label": Field((), classes=10)}

    def split(self, name: SplitName) -> InMemory:
        return self._test if name == "test" else self._training[name]

    @cached_property
    def _training(self) -> dict[SplitName, InMemory]:
        x, label = self._load([name for name in MD5 if name != "test_batch"])
        last = len(x) - VALIDATION
        return {
            "train": InMemory(x[:last], 256, label[:last], self.flip),
            "validation": InMemory(x[last:], 256, label[last:]),
        }

    @cached_property
    def _test(self) -> InMemory:
        x, label = self._load(["test_batch"])
        return InMemory(x, 256, label)

    def _load(self, names: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (N, 3, 32, 32) uint8 and labels (N,) of these files, in the order of the files."""
        folder, read = self._found()
        records = torch.from_numpy(np.concatenate([checked(folder / name, read) for name in names]))
        return records[:, 1:].reshape(-1, 3, 32, 32).clone(), records[:, 0].long()

    def _found(self) -> tuple[Path, Reader]:
        """The folder with all six files, and how to read them; downloaded where there is none."""
        root = where(self.root)
        for folder in (root / BINARY, root):
            if all((folder / f"{name}.bin").is_file() for name in MD5):
                return folder, binary
        for folder in (root / PICKLES, root):
            if all((folder / name).is_file() for name in MD5):
                return folder, pickled
        expected = f"{BINARY}/{{data_batch_1..5,test_batch}}.bin"
        if not self.download:
            raise UserError(
                f"data.root={root} has neither {expected} nor {PICKLES}: name their folder, or data.download=true"
            )
        with downloading(root, expected):
            from torchvision.datasets.utils import download_and_extract_archive

            download_and_extract_archive(ADDRESS, str(root), md5=ARCHIVE_MD5)
        return root / BINARY, binary


def checked(path: Path, read: Reader) -> np.ndarray:
    """(10000, 3073) uint8, the records of a file, a label before the pixels, if they are the published ones."""
    try:
        records = read(path)
    except OSError as error:
        raise UserError(f"data.root: {path} cannot be read: {one_line(error)}") from error
    if hashlib.md5(records.data, usedforsecurity=False).hexdigest() != MD5[path.name]:
        raise UserError(f"data.root: {path} is not the published file: its records lack the md5 sum {MD5[path.name]}")
    return records.reshape(-1, 1 + PIXELS)


def binary(path: Path) -> np.ndarray:
    return np.fromfile(path.with_suffix(".bin"), np.uint8)


def pickled(path: Path) -> np.ndarray:
    """The records of a file of the Python version, in the form of the binary version."""
    try:
        content = ArraysOnly(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        fields = {key.decode() if isinstance(key, bytes) else key: value for key, value in content.items()}
        pixels, label = np.asarray(fields["data"]), np.asarray(fields["labels"])
        if pixels.dtype != np.uint8 or pixels.ndim != 2 or label.shape != pixels.shape[:1]:
            raise ValueError("it has no uint8 pixels with a label each")
        return np.concatenate([label[:, None].astype(np.uint8), pixels], axis=1).reshape(-1)
    except OSError:
        raise
    except Exception as error:
        raise UserError(f"data.root: {path} is not a batch of CIFAR-10: {one_line(error)}") from error


def encoded(text: str, encoding: str) -> bytes:
    """What pickles of protocol 2 that Python 3 writes hold bytes as."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the encoding {encoding} is refused")
    return text.encode("latin1")


class ArraysOnly(pickle.Unpickler):
    """Reads numbers, strings, containers and numpy arrays; whatever else a pickle names is refused and not imported."""

    KNOWN: ClassVar = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): RECONSTRUCT,
        ("numpy._core.multiarray", "_reconstruct"): RECONSTRUCT,
        ("_codecs", "encode"): encoded,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is refused and was not run")
        return self.KNOWN[module, name]
