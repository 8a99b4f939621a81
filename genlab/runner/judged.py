"""Any program's pictures, to be judged: a folder of picture files, or of .npz files, or one such file.

An .npz file holds uint8 (N, H, W, C), or (N, H, W), under the key "x", as genlab writes it, or "arr_0". It is read
as a stream, so that no more than a batch of it is in memory.
"""

import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from genlab.core.errors import UserError
from genlab.data.images import SUFFIXES, Damaged, read

KEYS = ("x", "arr_0")
# What `genlab sample` lays beside the samples.
BESIDE = ("grid.png", "path.gif")
READERS = 4


class Pictures(Protocol):
    """Pictures of one size, in a fixed order."""

    def __len__(self) -> int: ...

    def batches(self, numbers: range, size: int) -> Iterator[Tensor]:
        """uint8 (B, C, H, W): the pictures with these consecutive numbers, at most `size` at once."""


def pictures_in(place: Path, channels: int) -> Pictures:
    """The pictures in a folder and the folders below it, or in an .npz file.

    Arguments:
        channels: 1 or 3, as which all are read.

    Raises:
        UserError: there are none, or there are both kinds of files, or a file is not what it should be.
    """
    if not place.exists():
        raise UserError(f"samples={place}: there is no such file or folder")
    if place.is_file():
        if place.suffix.lower() != ".npz":
            raise UserError(f"samples={place}: name a folder of pictures, or an .npz file")
        return Arrays([place], channels)
    try:
        below = sorted(path for path in place.rglob("*") if not _hidden(path.relative_to(place)))
    except OSError as error:
        raise UserError(f"samples={place} cannot be read: {error.strerror}") from error
    ours = (place / "samples.json").is_file()
    files = [p for p in below if p.suffix.lower() in SUFFIXES and not (ours and p.name in BESIDE and p.parent == place)]
    arrays = [p for p in below if p.suffix.lower() == ".npz"]
    if files and arrays:
        raise UserError(f"samples={place}: it holds both pictures ({files[0].name}) and arrays ({arrays[0].name})")
    if not files and not arrays:
        state = "holds no pictures and no .npz files" if below else "is empty"
        raise UserError(f"samples={place}: the folder {state}")
    return Files(files, channels) if files else Arrays(arrays, channels)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


class Files:
    """Picture files, in the order of their paths."""

    def __init__(self, paths: list[Path], channels: int) -> None:
        self.paths, self.channels = paths, channels
        self.shape = self.picture(paths[0]).shape

    def __len__(self) -> int:
        return len(self.paths)

    def picture(self, path: Path) -> np.ndarray:
        """(H, W, C)."""
        try:
            pixels = np.asarray(read(path, self.channels))
        except Damaged as error:
            raise UserError(f"samples: {path} cannot be read: {error}") from error
        return pixels.reshape(*pixels.shape[:2], self.channels)

    def batches(self, numbers: range, size: int) -> Iterator[Tensor]:
        with ThreadPoolExecutor(READERS) as pool:
            for start in range(numbers.start, numbers.stop, size):
                paths = self.paths[start : min(start + size, numbers.stop)]
                pictures = list(pool.map(self.picture, paths))
                for path, picture in zip(paths, pictures, strict=True):
                    if picture.shape != self.shape:
                        raise UserError(
                            f"samples: pictures of different sizes, {_size(self.shape)} ({self.paths[0].name}) and "
                            f"{_size(picture.shape)} ({path.name}); they must be of one size"
                        )
                yield torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True)
class Header:
    """What an .npz file holds under the key that pictures have."""

    path: Path
    key: str
    count: int
    shape: tuple[int, int, int]


class Arrays:
    """Files of many pictures each, in the order of their paths."""

    def __init__(self, paths: list[Path], channels: int) -> None:
        self.headers, self.channels = [_header(path) for path in paths], channels
        first = self.headers[0]
        for header in self.headers:
            if header.shape[:2] != first.shape[:2]:
                raise UserError(
                    f"samples: pictures of different sizes, {_size(first.shape)} ({first.path.name}) and "
                    f"{_size(header.shape)} ({header.path.name}); they must be of one size"
                )

    def __len__(self) -> int:
        return sum(header.count for header in self.headers)

    def batches(self, numbers: range, size: int) -> Iterator[Tensor]:
        first = 0
        for header in self.headers:
            start, stop = max(numbers.start - first, 0), min(numbers.stop - first, header.count)
            if start < stop:
                for rows in _rows(header, start, stop, size):
                    yield self._as_wanted(rows, header)
            first += header.count

    def _as_wanted(self, rows: np.ndarray, header: Header) -> Tensor:
        pictures = torch.from_numpy(rows).permute(0, 3, 1, 2)
        if self.channels == 3:
            return pictures.expand(-1, 3, -1, -1).contiguous()
        if not (pictures == pictures[:, :1]).all():
            raise UserError(f"samples: {header.path} holds pictures in colour, and the data are grey")
        return pictures[:, :1].contiguous()


def _header(path: Path) -> Header:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            key = next((key for key in KEYS if f"{key}.npy" in names), None)
            if key is None:
                held = ", ".join(name.removesuffix(".npy") for name in names[:4]) or "nothing"
                raise UserError(f"samples: {path} holds {held}; pictures must stand under x or arr_0")
            with archive.open(f"{key}.npy") as file:
                shape, dtype = _npy_header(file)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"samples: {path} is damaged or not an .npz file") from error
    shape = (*shape, 1) if len(shape) == 3 else shape
    if dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3):
        raise UserError(f"samples: {path} holds {dtype} {shape} under {key}; pictures are uint8 (N, H, W, 1 or 3)")
    return Header(path, key, shape[0], shape[1:])


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """(shape, type) of an array whose last index runs fastest; the file is then at its first byte."""
    reader = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(file)]
    shape, fortran, dtype = reader(file)
    if fortran:
        raise ValueError("the first index runs fastest")
    return shape, dtype


def _rows(header: Header, start: int, stop: int, size: int) -> Iterator[np.ndarray]:
    """(B, H, W, C) of rows start to stop - 1, at most `size` at once."""
    each = int(np.prod(header.shape))
    try:
        with zipfile.ZipFile(header.path) as archive, archive.open(f"{header.key}.npy") as file:
            _npy_header(file)
            file.seek(start * each, 1)
            for low in range(start, stop, size):
                count = min(size, stop - low)
                data = bytearray(file.read(count * each))
                yield np.frombuffer(data, np.uint8).reshape(count, *header.shape)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
        raise UserError(f"samples: {header.path} is damaged") from error


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
