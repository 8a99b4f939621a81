"""SVHN: house numbers photographed in streets, cut to one digit each, through torchvision.

References:
    Reading Digits in Natural Images with Unsupervised Feature Learning (Netzer et al., 2011).
"""

from functools import cached_property

import torch

from genlab.core.spec import Field, Spec
from genlab.data.contract import InMemory, SplitName
from genlab.data.root import below, obtain

VALIDATION = 5_000


class SVHN:
    """99,289 house numbers cut to a digit each, 32x32 pixels in colour.

    68,257 train and 5,000 validation data, the last of the published training set, and the published 26,032 test data.

    Arguments:
        root: has svhn/train_32x32.mat and svhn/test_32x32.mat.
        download: fetch what is absent.
    """

    identity = "svhn"
    classes = tuple("0123456789")

    def __init__(self, root: str | None = None, download: bool = True) -> None:
        self.root, self.download = root, download

    @property
    def spec(self) -> Spec:
        return {"x": Field((3, 32, 32), levels=256), "label": Field((), classes=10)}

    def split(self, name: SplitName) -> InMemory:
        return self._test if name == "test" else self._training[name]

    @cached_property
    def _training(self) -> dict[SplitName, InMemory]:
        x, label = self._load("train")
        last = len(x) - VALIDATION
        return {"train": InMemory(x[:last], 256, label[:last]), "validation": InMemory(x[last:], 256, label[last:])}

    @cached_property
    def _test(self) -> InMemory:
        x, label = self._load("test")
        return InMemory(x, 256, label)

    def _load(self, part: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (N, 3, 32, 32) uint8 and labels (N,) of a published file."""
        from torchvision import datasets

        folder = below(self.root, "svhn")

        def load(download: bool) -> datasets.SVHN:
            return datasets.SVHN(str(folder), part, download=download)

        data = obtain(load, folder, f"{part}_32x32.mat", self.download)
        return torch.from_numpy(data.data.copy()), torch.from_numpy(data.labels)
