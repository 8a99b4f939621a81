"""Picture files of any kind as square images of 8 bits, resized and cropped in one place.

The shorter side is resized to the side that is wanted, each new pixel an average of all those that it covers (Lanczos,
antialiased), and a square is cut from the longer side. Pictures are turned upright by their EXIF tag, laid on white
where they are transparent, and scaled from 16 bits to 8; CMYK, palettes and the like become RGB.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Literal, TypeVar, overload

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch
from genlab.data.contract import mirrored, real
from genlab.data.root import one_line

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif"),
)
GREY = frozenset(["1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N"])
PIECE = 4096

Crop = Literal["centre", "random"]
T = TypeVar("T")
R = TypeVar("R")


class Damaged(UserError):
    """A picture file that cannot be decoded, and why."""


def header(path: Path) -> tuple[int, bool]:
    """The shorter side of a picture and whether it is grey, without decoding it.

    Raises:
        Damaged: it is no picture, or cannot be read.
    """
    try:
        with Image.open(path) as image:
            palette = image.getpalette() if image.mode == "P" else None
            coloured = palette is None or not palette[0::3] == palette[1::3] == palette[2::3]
            return min(image.size), image.mode in GREY or not coloured
    except Exception as error:
        raise Damaged(one_line(error)) from error


def read(path: Path, channels: int) -> Image.Image:
    """The whole picture, upright and opaque, of mode L for one channel and RGB for three.

    Raises:
        Damaged: any error of decoding, a file that ends too soon among them.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return opaque(ImageOps.exif_transpose(image), "L" if channels == 1 else "RGB")
    except Exception as error:
        raise Damaged(one_line(error)) from error


def opaque(image: Image.Image, mode: str) -> Image.Image:
    """The picture in this mode, what is transparent laid on white."""
    if image.mode == "F" or (image.mode in GREY and image.mode.startswith("I")):
        image = eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode == mode:
        return image
    return (image if image.mode in GREY else image.convert("RGB")).convert(mode)


def eight_bits(image: Image.Image) -> Image.Image:
    """A grey picture of 16 bits with its white, 65,535, as 255."""
    v = np.asarray(image)
    if v.dtype.kind not in "iu" or v.min() < 0 or v.max() > 65535:
        raise ValueError(f"its pixels are not of 8 or 16 bits, but {v.dtype} from {v.min()} to {v.max()}")
    return Image.fromarray(((v.astype(np.int64) * 255 + 32767) // 65535).astype(np.uint8))


def strip(image: Image.Image, side: int, window: int | None = None) -> np.ndarray:
    """(C, H, W) uint8, the picture resized so that its shorter side is `side`; see the head of this file.

    Arguments:
        window: take the middle square of this many pixels first.

    Raises:
        UserError: the picture, or the window, is smaller than that.
    """
    width, height = image.size
    short = window or min(width, height)
    if short < side or short > min(width, height):
        raise UserError(f"a picture of {width}x{height} pixels is smaller than {max(side, short)}")
    if window is not None:
        left, top = (width - window) // 2, (height - window) // 2
        image = image.crop((left, top, left + window, top + window))
    size = (round(image.width * side / short), round(image.height * side / short))
    pixels = np.asarray(image if size == image.size else image.resize(size, Image.Resampling.LANCZOS))
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def cut(pixels: np.ndarray, side: int, at: float = 0.5) -> np.ndarray:
    """(C, side, side) of a strip (C, H, W), at a place along its longer side from 0 to 1, in the middle by default."""
    top, left = (round(at * (n - side)) for n in pixels.shape[1:])
    return pixels[:, top : top + side, left : left + side]


class Files(Sequence[np.ndarray]):
    """The strips of picture files, read when they are asked for.

    Arguments:
        paths: of the files.
        side, window: as `strip` takes them.
        channels: 1 or 3.
    """

    def __init__(self, paths: Sequence[Path], side: int, channels: int, window: int | None = None) -> None:
        self.paths, self.side, self.channels, self.window = paths, side, channels, window

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, i: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, i: slice) -> "Files": ...
    def __getitem__(self, i: int | slice) -> "np.ndarray | Files":
        if isinstance(i, slice):
            return Files(self.paths[i], self.side, self.channels, self.window)
        try:
            return strip(read(self.paths[i], self.channels), self.side, self.window)
        except UserError as error:
            raise UserError(f"data.root: {self.paths[i]}: {error}") from error


class Pictures:
    """A split of square pictures cut from strips, which lie in memory or in files.

    Arguments:
        strips: arrays (C, H, W) uint8 with the shorter side `side`.
        label: (N,) int64, if there are any.
        crop: "centre", or "random": another place along the longer side each time a batch is augmented.
        flip: turn half of the images left to right where a batch is augmented.
    """

    def __init__(
        self,
        strips: Sequence[np.ndarray],
        side: int,
        label: Tensor | None = None,
        crop: Crop = "centre",
        flip: bool = False,
    ) -> None:
        self.strips, self.side, self.label, self.crop, self.flip = strips, side, label, crop, flip

    @property
    def in_memory(self) -> bool:
        return not isinstance(self.strips, Files)

    def __len__(self) -> int:
        return len(self.strips)

    def batch(self, index: Tensor, rng: Rng | None = None) -> Batch:
        at = [0.5] * len(index)
        if self.crop == "random" and rng is not None:
            at = rng.stage("crop").uniform().tolist()
        squares = [cut(self.strips[i], self.side, a) for i, a in zip(index.tolist(), at, strict=True)]
        x = torch.from_numpy(np.stack(squares))
        if self.flip and rng is not None:
            x = mirrored(x, rng)
        batch = {"x": real(x, 256)}
        if self.label is not None:
            batch["label"] = self.label[index]
        return batch


def in_threads(work: Callable[[T], R], items: Sequence[T], title: str) -> Iterator[R]:
    """work(item) for each item, in their order, by several threads; decoding lets others run meanwhile."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        pieces = (pool.map(work, items[first : first + PIECE]) for first in range(0, len(items), PIECE))
        done = chain.from_iterable(pieces)
        yield from track(done, title, len(items), console=console, transient=True, disable=not console.is_terminal)
