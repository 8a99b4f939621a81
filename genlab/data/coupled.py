"""Pairs of noise and what a model made of it, on which reflow trains: files of `genlab sample task=pairs`.

The folder holds .npz files, each with "x" (N, *) and "noise" (N, *) of the same shape in floating point; x may be
images in uint8 (N, H, W, C). "label" (N,) may stand beside them. `samples.json`, which sampling leaves, says what the
numbers are: their levels and how many classes there are. The last tenth of the pairs is held out, for validation and
for test.

References:
    Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow (Liu et al., 2023), section 2.2.
"""

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Field, Spec, spec_from_config
from genlab.data.contract import InMemory, SplitName, real
from genlab.data.root import one_line

RECORD = "samples.json"
ADVICE = "it must be a folder that genlab sample task=pairs wrote"


class Coupled:
    """Pairs of noise and samples, as `genlab sample task=pairs` writes them: data.root=DIR

    Arguments:
        root: the folder.
    """

    classes = None

    def __init__(self, root: str | None = None) -> None:
        self.root = root

    @cached_property
    def files(self) -> list[Path]:
        if self.root is None:
            raise UserError(
                "data.root must be given: the folder of pairs, which genlab sample task=pairs out=DIR writes"
            )
        folder = Path(self.root).expanduser()
        if not folder.is_dir():
            raise UserError(f"data.root={folder}: there is no such folder; {ADVICE}")
        found = sorted(path for path in folder.glob("*.npz") if not path.name.startswith("."))
        if not found:
            raise UserError(f"data.root={folder}: there are no .npz files; {ADVICE}")
        return found

    @cached_property
    def record(self) -> dict[str, Any]:
        """What sampling says of the files; empty where they are another program's."""
        path = self.files[0].with_name(RECORD)
        if not path.exists():
            return {}
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"data.root: {path} cannot be read: {one_line(error)}") from error
        if not isinstance(record, dict) or not record.get("complete", True):
            raise UserError(
                f"data.root={path.parent}: the pairs are not complete; give the same genlab sample command again"
            )
        return record

    @cached_property
    def spec(self) -> Spec:
        first = self._read(self.files[0])
        shape = tuple(first["noise"].shape[1:])
        said = spec_from_config(self.record.get("spec", {}))
        found: Spec = {"x": Field(shape, levels=256 if self._in_bytes(first) else None), "noise": Field(shape)}
        if "x" in said and said["x"].shape == shape:
            found["x"] = said["x"]
        if "label" in first:
            named = said["label"].classes if "label" in said else None
            classes = named or 1 + max(int(self._read(path)["label"].max()) for path in self.files)
            found["label"] = Field((), classes=classes)
        return found

    @cached_property
    def identity(self) -> str:
        stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in self.files]
        return f"coupled-{hashlib.sha256(repr(stats).encode()).hexdigest()[:16]}"

    def split(self, name: SplitName) -> "Pairs":
        return self._splits[name]

    @cached_property
    def _splits(self) -> dict[SplitName, "Pairs"]:
        parts = [self._read(path) for path in self.files]
        for path, part in zip(self.files, parts, strict=True):
            if kind_of(part) != kind_of(parts[0]):
                raise UserError(
                    f"data.root: {path} holds {kind_of(part)}, and {self.files[0].name} {kind_of(parts[0])}"
                )
        whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        x = torch.from_numpy(whole["x"])
        x = real(x.movedim(-1, 1), 256) if self._in_bytes(whole) else x.float()
        label = torch.from_numpy(whole["label"]).long() if "label" in whole else None
        share = max(1, len(x) // 20)
        if len(x) < 3:
            raise UserError(f"data.root={self.root}: {len(x)} pairs are too few for three splits; draw at least 3")
        names: tuple[SplitName, ...] = ("train", "validation", "test")
        rows = torch.arange(len(x)).split([len(x) - 2 * share, share, share])
        noise = torch.from_numpy(whole["noise"]).float()
        return {
            name: Pairs(x[i], noise[i], None if label is None else label[i])
            for name, i in zip(names, rows, strict=True)
        }

    @staticmethod
    def _in_bytes(arrays: dict[str, np.ndarray]) -> bool:
        return arrays["x"].dtype == np.uint8

    def _read(self, path: Path) -> dict[str, np.ndarray]:
        """The arrays of a file, found to be pairs."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {key: file[key] for key in ("x", "noise", "label") if key in file}
        except Exception as error:
            raise UserError(f"data.root: {path} cannot be read: {one_line(error)}") from error
        for key in ("x", "noise"):
            if key not in arrays:
                raise UserError(f"data.root: {path} has no {key}; {ADVICE}")
        x, noise = arrays["x"], arrays["noise"]
        shape = (*x.shape[:1], *x.shape[-1:], *x.shape[1:-1]) if self._in_bytes(arrays) else x.shape
        if shape != noise.shape:
            raise UserError(
                f"data.root: {path} has x of {x.shape} and noise of {noise.shape}, which do not belong together"
            )
        return arrays


def kind_of(arrays: dict[str, np.ndarray]) -> str:
    """The arrays in words, less how many data there are."""
    return ", ".join(f"{key} {'x'.join(map(str, a.shape[1:])) or 'numbers'} of {a.dtype}" for key, a in arrays.items())


class Pairs:
    """A split of pairs.

    Arguments:
        x, noise: (N, *).
        label: (N,) int64, if there are any.
    """

    in_memory = True

    def __init__(self, x: Tensor, noise: Tensor, label: Tensor | None = None) -> None:
        self.data, self.noise = InMemory(x, label=label), noise

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, index: Tensor, rng: Rng | None = None) -> Batch:
        return {**self.data.batch(index, rng), "noise": self.noise[index]}
