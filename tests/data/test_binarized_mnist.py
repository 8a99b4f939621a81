import numpy as np
import pytest
import torch

from genlab.core.errors import UserError
from genlab.data import binarized_mnist
from genlab.data.binarized_mnist import BinarizedMNIST

BITS = np.random.default_rng(0).integers(2, size=(3, 784))


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(binarized_mnist, "FILES", {"test": ("binarized_mnist_test.amat", 3)})
    path = tmp_path / "binarized_mnist" / "binarized_mnist_test.amat"
    path.parent.mkdir()
    return path


@pytest.mark.parametrize(("gap", "end"), [(" ", "\n"), (" ", " \n"), (" ", "\r\n"), ("\t", "\n")])
def test_white_space_does_not_matter(file, gap, end):
    file.write_text("".join(gap.join(map(str, row)) + end for row in BITS), newline="")
    x = BinarizedMNIST(str(file.parents[1])).split("test").batch(torch.arange(3))["x"]
    assert x.flatten(1).tolist() == (2.0 * BITS - 1).tolist()


@pytest.mark.parametrize("digits", ["0 1 1", "2 " * 784 * 3, "- " * 784 * 3, "0 " * 784 * 4, ""])
def test_damaged_files_are_named(file, digits):
    file.write_text(digits)
    with pytest.raises(UserError, match=r"data\.root: .*test\.amat is damaged: it must hold 3 lines of 784 digits"):
        BinarizedMNIST(str(file.parents[1])).split("test")


def test_an_absent_file_is_named_with_its_address(file):
    with pytest.raises(UserError, match=r"data\.root=.* has no binarized_mnist/binarized_mnist_test\.amat, .*http"):
        BinarizedMNIST(str(file.parents[1])).split("test")
