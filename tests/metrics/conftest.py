"""Small data sets that metrics are tested on."""

import pytest
import torch
from torch import Tensor

from genlab.core.spec import Field, Spec
from genlab.data.contract import InMemory, Split, SplitName


class Images:
    """A data set of uint8 images, cut into its splits at the two given places."""

    def __init__(self, identity: str, x: Tensor, label: Tensor | None, levels: int, cuts: tuple[int, int]) -> None:
        self.identity = identity
        self.spec: Spec = {"x": Field(tuple(x.shape[1:]), levels=levels)}
        if label is not None:
            self.spec["label"] = Field((), classes=int(label.max()) + 1)
        bounds = zip((0, *cuts), (*cuts, len(x)), strict=True)
        parts = [InMemory(x[a:b], levels, None if label is None else label[a:b]) for a, b in bounds]
        self.parts: dict[str, Split] = dict(zip(("train", "validation", "test"), parts, strict=True))

    def split(self, name: SplitName) -> Split:
        return self.parts[name]


@pytest.fixture(scope="session")
def digits() -> Images:
    """scikit-learn's 1,797 scans of 8x8 with 17 levels."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    x = torch.tensor(scans.images, dtype=torch.uint8)[:, None]
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return Images("digits", x[order], torch.tensor(scans.target, dtype=torch.long)[order], 17, (1257, 1437))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("GENLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
