"""MNIST made black and white anew each time that a digit is seen: another task than the static binarized MNIST.

    x_i ~ Bernoulli(v_i / 255),    v in {0, ..., 255}^784 the grey pixels

In training the draw belongs to the place in the global batch and the number of the batch, so a run that goes on draws
what the uninterrupted one would have. Validation and test are drawn once, by a seed and the number of the digit.

References:
    On the Quantitative Analysis of Deep Belief Networks (Salakhutdinov & Murray, 2008).
    Importance Weighted Autoencoders (Burda, Grosse & Salakhutdinov, 2016), section 5.
"""

import torch
from torch import Tensor

from genlab.core.rng import MASK, Rng
from genlab.core.spec import Batch, Field, Spec
from genlab.data.contract import InMemory, SplitName, real
from genlab.data.mnist import MNIST, SIDE

# So that no two digits of different splits share a draw.
FIRST: dict[SplitName, int] = {"train": 0, "validation": 100_000, "test": 200_000}


class DynamicBinarizedMNIST:
    """The dynamic binarized MNIST: 70,000 digits of 28x28 pixels, black or white by chance, with their labels.

    55,000 train and 5,000 validation data, the last of the published training set, and the published 10,000 test data.

    Arguments:
        root: has MNIST/raw/train-images-idx3-ubyte and its three siblings.
        seed: of the one draw of validation and test data, which is part of the data set's name.
        download: fetch what is absent.
    """

    classes = MNIST.classes

    def __init__(self, root: str | None = None, seed: int = 0, download: bool = True) -> None:
        if not 0 <= seed <= MASK:
            raise ValueError(f"seed must be at least 0 and below 2^32, not {seed}")
        self.grey, self.seed = MNIST(root, download=download), seed

    @property
    def spec(self) -> Spec:
        return {"x": Field((1, SIDE, SIDE), levels=2), "label": Field((), classes=10)}

    @property
    def identity(self) -> str:
        return f"dynamic_binarized_mnist-drawn_by_{self.seed}"

    def split(self, name: SplitName) -> "Binarized":
        return Binarized(self.grey.split(name), self.seed, FIRST[name])


class Binarized:
    """A split of grey pictures that are seen in black and white.

    Arguments:
        grey: whose x are uint8.
        seed, first: of the draw that stands, in which datum i has the number first + i.
    """

    in_memory = True

    def __init__(self, grey: InMemory, seed: int, first: int) -> None:
        self.grey, self.seed, self.first = grey, seed, first

    def __len__(self) -> int:
        return len(self.grey)

    def batch(self, index: Tensor, rng: Rng | None = None) -> Batch:
        """A new draw where `rng` is given, else the one that stands."""
        number = torch.arange(len(self))[index] + self.first
        chance = Rng(self.seed, number).stage("dynamic_binarized_mnist") if rng is None else rng.stage("binarize")
        bits = binarized(self.grey.x[index], chance)
        batch = {"x": real(bits, 2)}
        if self.grey.label is not None:
            batch["label"] = self.grey.label[index]
        return batch


def binarized(v: Tensor, rng: Rng) -> Tensor:
    """Bits (B, *) that are 1 with probability v / 255, of v (B, *) uint8: 0 stays black and 255 white."""
    # The middle of one of 2^32 equal parts of (0, 255).
    u = rng.bits(*v.shape[1:])
    return (255 * (2 * u + 1) < v.long() << 33).to(torch.uint8)
