"""The handwritten digits that scikit-learn carries: 1,797 scans of 8x8 pixels, each 0 to 16. Nothing is downloaded.

References:
    Optical Recognition of Handwritten Digits, UCI repository (Alpaydin & Kaynak, 1998), its test set.
"""

from functools import cached_property

import torch
from torch import Tensor

from genlab.core.spec import Field, Spec
from genlab.data.contract import InMemory, SplitName
from genlab.data.stream import permutation

TRAIN, VALIDATION, TEST = 1257, 180, 360


class Digits:
    """1,797 real scans of handwritten digits, 8x8 pixels of 17 levels, embedded in scikit-learn.

    1,257 train, 180 validation and 360 test data, the digits in equal shares in each.
    """

    identity = "digits"
    classes = tuple("0123456789")

    @property
    def spec(self) -> Spec:
        return {"x": Field((1, 8, 8), levels=17), "label": Field((), classes=10)}

    def split(self, name: SplitName) -> InMemory:
        return self._splits[name]

    @cached_property
    def _splits(self) -> dict[SplitName, InMemory]:
        from sklearn.datasets import load_digits

        scans = load_digits()
        x = torch.from_numpy(scans.images).to(torch.uint8).unsqueeze(1)
        label = torch.from_numpy(scans.target).long()
        parts = stratified(label).split([TRAIN, VALIDATION, TEST])
        names: tuple[SplitName, ...] = ("train", "validation", "test")
        return {name: InMemory(x[i], 17, label[i]) for name, i in zip(names, parts, strict=True)}


def stratified(label: Tensor) -> Tensor:
    """(N,) a fixed order of the data in which every stretch has the classes in their shares.

    Datum k of the n of its class, in a random order, comes at the place (k + 1/2) / n of the whole.
    """
    order = permutation(len(label), seed=0)
    place = torch.empty(len(label), dtype=torch.float64)
    for c in label.unique():
        members = order[label[order] == c]
        place[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return order[place[order].argsort(stable=True)]
