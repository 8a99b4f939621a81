"""MNIST made black and white once and for all, on which likelihoods are compared: the files of Larochelle.

A line of a file is an image, 784 digits 0 or 1 with spaces between.

References:
    On the Quantitative Analysis of Deep Belief Networks (Salakhutdinov & Murray, 2008).
    The Neural Autoregressive Distribution Estimator (Larochelle & Murray, 2011).
"""

import numpy as np
import torch

from genlab.core.errors import UserError
from genlab.core.spec import Field, Spec
from genlab.data.contract import InMemory, SplitName
from genlab.data.root import below, one_line

FILES: dict[SplitName, tuple[str, int]] = {
    "train": ("binarized_mnist_train.amat", 50_000),
    "validation": ("binarized_mnist_valid.amat", 10_000),
    "test": ("binarized_mnist_test.amat", 10_000),
}
ADDRESS = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist"


class BinarizedMNIST:
    """The static binarized MNIST: 70,000 digits of 28x28 pixels, each 0 or 1, without labels.

    The published 50,000 train, 10,000 validation and 10,000 test data.

    Arguments:
        root: has binarized_mnist/binarized_mnist_{train,valid,test}.amat.
    """

    identity = "binarized_mnist"
    classes = None

    def __init__(self, root: str | None = None) -> None:
        self.root = root
        self._loaded: dict[SplitName, InMemory] = {}

    @property
    def spec(self) -> Spec:
        return {"x": Field((1, 28, 28), levels=2)}

    def split(self, name: SplitName) -> InMemory:
        if name not in self._loaded:
            self._loaded[name] = InMemory(self._read(*FILES[name]), 2)
        return self._loaded[name]

    def _read(self, name: str, count: int) -> torch.Tensor:
        """(count, 1, 28, 28) uint8 of the digits of a file, whatever white space is between them."""
        path = below(self.root, "binarized_mnist") / name
        try:
            text = np.fromfile(path, np.uint8)
        except FileNotFoundError as error:
            raise UserError(
                f"data.root={path.parent.parent} has no binarized_mnist/{name}, which is published at {ADDRESS}: "
                "put it there, or name the folder that has it by data.root or GENLAB_DATA"
            ) from error
        except OSError as error:
            raise UserError(f"data.root: {path} cannot be read: {one_line(error)}") from error
        bits = text[text > ord(" ")] - ord("0")
        if bits.size != count * 784 or bits.max() > 1:
            raise UserError(f"data.root: {path} is damaged: it must hold {count} lines of 784 digits 0 or 1")
        return torch.from_numpy(bits.reshape(count, 1, 28, 28))
