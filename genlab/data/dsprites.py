"""dSprites: all 737,280 pictures of a white shape that five factors make, on which disentanglement is measured.

    shape 3 (square, ellipse, heart), scale 6, orientation 40, x 32, y 32;    picture n is row n of that grid, y fastest

References:
    dSprites: Disentanglement testing Sprites dataset (Matthey, Higgins, Hassabis & Lerchner, 2017).
"""

import math
import zipfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Field, Spec
from genlab.data.contract import SplitName, real
from genlab.data.root import below, one_line
from genlab.data.stream import permutation

FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
ADDRESS = "https://github.com/google-deepmind/dsprites-dataset"
FACTORS = {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32}
SIDE = 64
# Pictures that are unpacked at once, 16 MB.
CHUNK = 4096


class DSprites:
    """737,280 black and white pictures of 64x64 pixels, of a square, an ellipse or a heart.

    Each combination of shape, scale, orientation, x and y is there once. The label is the shape. In a fixed random
    order 589,824 are for training, 73,728 for validation and 73,728 for test. A pixel takes a bit of memory: 377 MB.

    Arguments:
        root: has dsprites/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz.
    """

    identity = "dsprites"
    classes = ("square", "ellipse", "heart")

    def __init__(self, root: str | None = None) -> None:
        self.root = root

    @property
    def factors(self) -> Mapping[str, int]:
        return FACTORS

    @property
    def spec(self) -> Spec:
        factors = Field((len(FACTORS),), support="integer")
        return {"x": Field((1, SIDE, SIDE), levels=2), "label": Field((), classes=FACTORS["shape"]), "factors": factors}

    def split(self, name: SplitName) -> "Packed":
        return self._splits[name]

    @cached_property
    def _splits(self) -> dict[SplitName, "Packed"]:
        bits = torch.from_numpy(self._load())
        held_out = len(bits) // 10
        parts = permutation(len(bits), seed=0).split([len(bits) - 2 * held_out, held_out, held_out])
        names: tuple[SplitName, ...] = ("train", "validation", "test")
        return {name: Packed(bits, number) for name, number in zip(names, parts, strict=True)}

    def _load(self) -> np.ndarray:
        """(N, SIDE^2 / 8) uint8 of eight pixels each, in the order of the file."""
        path = below(self.root, "dsprites") / FILE
        try:
            with zipfile.ZipFile(path) as archive:
                check_grid(archive, path)
                with archive.open("imgs.npy") as file:
                    return packed(file, path)
        except FileNotFoundError as error:
            raise UserError(
                f"data.root={path.parent.parent} has no dsprites/{FILE}, which is published at {ADDRESS}: "
                "put it there, or name the folder that has it by data.root or GENLAB_DATA"
            ) from error
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"data.root: {path} cannot be read: {one_line(error)}") from error


def wrong(path: Path, what: str) -> UserError:
    return UserError(f"data.root: {path} is not the published file: {what}")


def header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """(shape, type) of an array in C order; the file is then at its first number. What is pickled is not opened."""
    reader = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(file)]
    shape, fortran, dtype = reader(file)
    if fortran and len(shape) > 1:
        raise ValueError("the first index runs fastest")
    return shape, dtype


def check_grid(archive: zipfile.ZipFile, path: Path) -> None:
    """The factors that the file tells of its pictures are all combinations in their order."""
    for name in ("imgs.npy", "latents_classes.npy"):
        if name not in archive.namelist():
            raise wrong(path, f"it has no {name.removesuffix('.npy')}")
    sizes = tuple(FACTORS.values())
    with archive.open("latents_classes.npy") as file:
        shape, dtype = header(file)
        if shape != (math.prod(sizes), len(sizes) + 1) or dtype.kind not in "iu":
            raise wrong(path, f"latents_classes is {dtype} {shape}")
        found = np.frombuffer(file.read(), dtype).reshape(shape)
    # Before the five factors stands the colour, of which there is one.
    expected = np.stack(np.unravel_index(np.arange(len(found)), (1, *sizes)), axis=1)
    if not np.array_equal(found, expected):
        raise wrong(path, f"latents_classes are not all combinations of {', '.join(FACTORS)} in order")


def packed(file: IO[bytes], path: Path) -> np.ndarray:
    """Eight pixels a byte, read as a stream, since the whole would take 3 GB."""
    shape, dtype = header(file)
    count = math.prod(FACTORS.values())
    if shape != (count, SIDE, SIDE) or dtype != np.uint8:
        raise wrong(path, f"imgs is {dtype} {shape}")
    bits = np.empty((count, SIDE * SIDE // 8), np.uint8)
    for first in range(0, count, CHUNK):
        rows = min(CHUNK, count - first)
        pixels = np.frombuffer(file.read(rows * SIDE * SIDE), np.uint8).reshape(rows, -1)
        if pixels.max() > 1:
            raise wrong(path, "imgs has values above 1")
        bits[first : first + rows] = np.packbits(pixels, axis=1)
    return bits


class Packed:
    """A split of pictures of bits.

    Arguments:
        bits: (M, SIDE^2 / 8) uint8, of all pictures.
        number: (N,) of each datum, among all pictures.
    """

    in_memory = True

    def __init__(self, bits: Tensor, number: Tensor) -> None:
        self.bits, self.number = bits, number

    def __len__(self) -> int:
        return len(self.number)

    def batch(self, index: Tensor, rng: Rng | None = None) -> Batch:
        number = self.number[index]
        pixels = torch.from_numpy(np.unpackbits(self.bits[number].numpy(), axis=1))
        factors = torch.stack(torch.unravel_index(number, tuple(FACTORS.values())), dim=1)
        return {"x": real(pixels.view(-1, 1, SIDE, SIDE), 2), "label": factors[:, 0], "factors": factors}
