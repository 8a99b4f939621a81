"""Three digits of MNIST in one image, as its red, its green and its blue: data of 1,000 modes that can be counted.

    x = [x_a, x_b, x_c],    label = 100 a + 10 b + c

Which digits are put together is drawn from Philox numbers of a fixed key, so the data never change, and those of a
split are of MNIST's own split of that name.

References:
    Unrolled Generative Adversarial Networks (Metz et al., 2017), section 3.3.1.
    VEEGAN: Reducing Mode Collapse in GANs using Implicit Variational Learning (Srivastava et al., 2017), section 5.
    PacGAN: The power of two samples in generative adversarial networks (Lin et al., 2018), section 4.2.
"""

from dataclasses import replace

import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.core.spec import Batch, Field, Spec
from genlab.data.contract import InMemory, SplitName
from genlab.data.mnist import MNIST

STACK = 3
FIRST: dict[SplitName, int] = {"train": 0, "validation": 2**30, "test": 2**31}
HELD_OUT = 10_000


class Stacks:
    """A split of stacks.

    Arguments:
        layers: the data that are stacked, with labels.
        index: (N, 3), which of them.
        classes: of a layer.
    """

    in_memory = True

    def __init__(self, layers: InMemory, index: Tensor, classes: int) -> None:
        self.layers, self.index, self.classes = layers, index, classes

    def __len__(self) -> int:
        return len(self.index)

    def batch(self, index: Tensor, rng: Rng | None = None) -> Batch:
        found = self.layers.batch(self.index[index].flatten())
        digits = found["label"].view(len(index), STACK)
        places = self.classes ** torch.arange(STACK - 1, -1, -1)
        return {
            "x": found["x"].view(len(index), STACK, *found["x"].shape[2:]),
            "label": (digits * places).sum(1),
        }


class StackedMNIST:
    """Stacks of three digits, 28x28 pixels of 256 levels in three channels, labelled from 0 to 999.

    10,000 validation and 10,000 test data, the same for every `size`. `layer` is the set that each channel is a datum
    of.

    Arguments:
        root: as MNIST has it.
        pad: surround the images with zeros to this side, as 32; bits/dim goes on counting 3 x 784 dimensions.
        download: fetch what is absent.
        size: train data.
    """

    def __init__(
        self, root: str | None = None, pad: int | None = None, download: bool = True, size: int = 128_000
    ) -> None:
        if not 1 <= size <= FIRST["validation"]:
            raise ValueError(f"size must be at least 1 and at most {FIRST['validation']}, not {size}")
        self.layer, self.size = MNIST(root, pad, download), size
        self._drawn: dict[SplitName, Stacks] = {}

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(f"{number:03d}" for number in range(len(self.layer.classes) ** STACK))

    @property
    def spec(self) -> Spec:
        field = self.layer.spec["x"]
        image = replace(field, shape=(STACK, *field.shape[1:]), dims=STACK * field.dimensions)
        return {"x": image, "label": Field((), classes=len(self.layer.classes) ** STACK)}

    @property
    def identity(self) -> str:
        return f"stacked_{self.layer.identity}-{self.size}"

    def split(self, name: SplitName) -> Stacks:
        if name not in self._drawn:
            layers, count = self.layer.split(name), self.size if name == "train" else HELD_OUT
            rng = Rng(0, torch.arange(FIRST[name], FIRST[name] + count)).stage("stacked_mnist")
            self._drawn[name] = Stacks(layers, rng.integers(len(layers), STACK), len(self.layer.classes))
        return self._drawn[name]
