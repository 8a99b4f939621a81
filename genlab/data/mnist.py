"""MNIST and its kin, through torchvision: 70,000 grey images of 28x28 pixels in ten classes."""

from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad as surround

from genlab.core.errors import UserError
from genlab.core.spec import Field, Spec
from genlab.data.contract import InMemory, SplitName
from genlab.data.root import below, obtain

if TYPE_CHECKING:
    import torchvision

SIDE, TRAIN, VALIDATION, TEST = 28, 55_000, 5_000, 10_000


class MNIST:
    """70,000 handwritten digits, 28x28 pixels of 256 levels.

    55,000 train and 5,000 validation data, the last of the published training set, and the published 10,000 test data.

    References:
        Gradient-Based Learning Applied to Document Recognition (LeCun, Bottou, Bengio & Haffner, 1998).

    Arguments:
        root: has MNIST/raw/train-images-idx3-ubyte and its three siblings.
        pad: surround the images with zeros to this side, as 32; bits/dim goes on counting 784 dimensions.
        download: fetch what is absent.
    """

    name = "MNIST"
    title = "mnist"
    classes: tuple[str, ...] = tuple("0123456789")

    def __init__(self, root: str | None = None, pad: int | None = None, download: bool = True) -> None:
        if pad is not None and pad < SIDE:
            raise ValueError(f"pad must be null or a side of at least {SIDE}, not {pad}")
        self.root, self.side, self.download = root, pad or SIDE, download

    @property
    def spec(self) -> Spec:
        image = Field((1, self.side, self.side), levels=256, dims=SIDE * SIDE)
        return {"x": image, "label": Field((), classes=10)}

    @property
    def identity(self) -> str:
        return self.title if self.side == SIDE else f"{self.title}-{self.side}"

    def split(self, name: SplitName) -> InMemory:
        return self._test if name == "test" else self._training[name]

    @cached_property
    def _training(self) -> dict[SplitName, InMemory]:
        x, label = self._load(train=True)
        parts = zip(x.split([TRAIN, VALIDATION]), label.split([TRAIN, VALIDATION]), strict=True)
        train, validation = (InMemory(x, 256, label) for x, label in parts)
        return {"train": train, "validation": validation}

    @cached_property
    def _test(self) -> InMemory:
        x, label = self._load(train=False)
        return InMemory(x, 256, label)

    def _load(self, train: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """All images (N, 1, side, side) uint8 and labels of one of the two published sets."""
        root = below(self.root, self.name).parent
        expected = f"{self.name}/raw/*-ubyte"

        def load(download: bool) -> "torchvision.datasets.MNIST":
            return self._published(str(root), train, download)

        data = obtain(load, root, expected, self.download)
        x, count = data.data, TRAIN + VALIDATION if train else TEST
        if x.shape != (count, SIDE, SIDE) or data.targets.shape != (count,):
            raise UserError(f"data.root={root}: {expected} do not hold {count} images of {SIDE}x{SIDE} pixels")
        before = (self.side - SIDE) // 2
        after = self.side - SIDE - before
        return surround(x, (before, after, before, after)).unsqueeze(1), data.targets.long()

    def _published(self, root: str, train: bool, download: bool) -> "torchvision.datasets.MNIST":
        from torchvision import datasets

        return datasets.MNIST(root, train, download=download)


class FashionMNIST(MNIST):
    """70,000 pictures of clothes, 28x28 pixels of 256 levels, in the form of MNIST.

    References:
        Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms (Xiao et al., 2017).
    """

    name = "FashionMNIST"
    title = "fashion_mnist"
    classes = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")

    def _published(self, root: str, train: bool, download: bool) -> "torchvision.datasets.MNIST":
        from torchvision import datasets

        return datasets.FashionMNIST(root, train, download=download)
