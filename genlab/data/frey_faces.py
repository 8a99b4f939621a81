"""Frey faces: 1,965 frames of a video of one face, 28x20 grey pixels, on which the first VAEs were shown.

References:
    Nonlinear Dimensionality Reduction by Locally Linear Embedding (Roweis & Saul, 2000), whose authors' data they are.
    Auto-Encoding Variational Bayes (Kingma & Welling, 2014), section 5.
"""

from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from genlab.core.errors import UserError
from genlab.core.spec import Field, Spec
from genlab.data.contract import InMemory, SplitName
from genlab.data.root import below, one_line
from genlab.data.stream import permutation

HEIGHT, WIDTH, COUNT = 28, 20, 1965
VALIDATION = TEST = 200
FILES = ("frey_rawface.mat", "frey_faces.npz")
ADDRESS = "https://cs.nyu.edu/~roweis/data/frey_rawface.mat"


class FreyFaces:
    """1,965 pictures of a man's face, 28x20 pixels of 256 levels.

    1,565 train, 200 validation and 200 test data in a fixed random order; since they are frames of one video, those of
    test have near neighbours among those of training.

    Arguments:
        root: has frey_faces/frey_rawface.mat, as published, or frey_faces/frey_faces.npz with x (1965, 28, 20) uint8.
    """

    identity = "frey_faces"
    classes = None

    def __init__(self, root: str | None = None) -> None:
        self.root = root

    @property
    def spec(self) -> Spec:
        return {"x": Field((1, HEIGHT, WIDTH), levels=256)}

    def split(self, name: SplitName) -> InMemory:
        return self._splits[name]

    @cached_property
    def _splits(self) -> dict[SplitName, InMemory]:
        x = torch.from_numpy(self._load())[:, None]
        parts = permutation(COUNT, seed=0).split([COUNT - VALIDATION - TEST, VALIDATION, TEST])
        names: tuple[SplitName, ...] = ("train", "validation", "test")
        return {name: InMemory(x[i], 256) for name, i in zip(names, parts, strict=True)}

    def _load(self) -> np.ndarray:
        """(COUNT, HEIGHT, WIDTH) uint8 in the order of the video."""
        folder = below(self.root, "frey_faces")
        path = next((folder / name for name in FILES if (folder / name).is_file()), None)
        if path is None:
            raise UserError(
                f"data.root={folder.parent} has no frey_faces/{FILES[0]}, which was published at {ADDRESS}: put it "
                "there, or name the folder that has it by data.root or GENLAB_DATA"
            )
        try:
            x = from_matlab(path) if path.suffix == ".mat" else from_numpy(path)
        except Exception as error:
            raise UserError(f"data.root: {path} cannot be read: {one_line(error)}") from error
        if x is None or x.shape != (COUNT, HEIGHT, WIDTH) or x.dtype != np.uint8:
            found = "nothing of that name" if x is None else f"{x.dtype} {x.shape}"
            expected = (
                f"ff, uint8 ({HEIGHT * WIDTH}, {COUNT})"
                if path.suffix == ".mat"
                else f"x, uint8 {COUNT, HEIGHT, WIDTH}"
            )
            raise UserError(f"data.root: {path} must hold {expected}, and it holds {found}")
        return x


def from_matlab(path: Path) -> np.ndarray | None:
    """The pictures of the published file, in which each is a column."""
    from scipy.io import loadmat

    found = loadmat(path, variable_names=["ff"]).get("ff")
    if found is None or found.shape != (HEIGHT * WIDTH, COUNT):
        return found
    return np.ascontiguousarray(found.T).reshape(COUNT, HEIGHT, WIDTH)


def from_numpy(path: Path) -> np.ndarray | None:
    with np.load(path, allow_pickle=False) as arrays:
        return arrays.get("x")
