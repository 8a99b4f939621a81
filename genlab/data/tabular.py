"""Tables of real numbers: a CSV or npz file of anyone's, or one of the five that flows are compared on.

    x = (v - mean) / deviation,    of each column over the training split

A density of x is not one of v: log p(v) = log p(x) - sum log deviation.

References:
    Masked Autoregressive Flow for Density Estimation (Papamakarios, Pavlakou & Murray, 2017), section 4.1.
"""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from genlab.core.errors import UserError
from genlab.core.spec import Field, Spec
from genlab.data.contract import InMemory, SplitName
from genlab.data.published_tables import PUBLISHED, Table
from genlab.data.root import below, one_line
from genlab.data.stream import permutation

NAMES: tuple[SplitName, ...] = ("train", "validation", "test")
Published = Literal["power", "gas", "hepmass", "miniboone", "bsds300"]


class Tabular:
    """Rows of real numbers: a CSV or npz file of your own, data.file=table.csv, or a published table, data.name=power.

    A CSV file has a row a line, after a line of names or without one. An npz file has an array x (N, D), which is
    split, or three arrays train, validation and test. Rows are split in a fixed random order.

    Arguments:
        file: CSV or npz.
        name: power, gas, hepmass, miniboone or bsds300, prepared as published.
        root: has the published files in folders of their names; null is the folder GENLAB_DATA.
        validation, test: shares of the rows of a file of your own.
        standardize: to mean 0 and variance 1 over the training split; published tables always are as published.
    """

    classes = None

    def __init__(
        self,
        file: str | None = None,
        name: Published | None = None,
        root: str | None = None,
        validation: float = 0.1,
        test: float = 0.1,
        standardize: bool = True,
    ) -> None:
        if file is not None and name is not None:
            raise UserError(f"data.file={file} and data.name={name} are two tables; leave one of them null")
        if name is not None and name not in PUBLISHED:
            raise ValueError(f"name must be one of {', '.join(PUBLISHED)}, not {name}")
        if min(validation, test) <= 0 or validation + test >= 1:
            raise ValueError(
                f"validation={validation} and test={test} must be above 0 and leave something to train on: 0.1 each"
            )
        self.file, self.name, self.root = None if file is None else Path(file).expanduser(), name, root
        self.validation, self.test, self.standardize = validation, test, standardize

    @property
    def spec(self) -> Spec:
        if self.name is not None:
            return {"x": Field((PUBLISHED[self.name][1],))}
        return {"x": Field((self._splits["train"].x.shape[1],))}

    @property
    def identity(self) -> str:
        if self.name is not None:
            return f"tabular-{self.name}"
        content = hashlib.sha256(self._own_file().read_bytes()).hexdigest()[:16]
        return f"tabular-{content}-{self.validation}-{self.test}-{self.standardize}"

    def split(self, name: SplitName) -> InMemory:
        return self._splits[name]

    @cached_property
    def _splits(self) -> dict[SplitName, InMemory]:
        parts = self._own(self._own_file()) if self.name is None else self._published(self.name)
        found = {name: torch.from_numpy(part.astype(np.float32)) for name, part in zip(NAMES, parts, strict=True)}
        for name, x in found.items():
            if not x.isfinite().all():
                raise UserError(f"data: {self.file or self.name} has numbers in its {name} split that are not finite")
        return {name: InMemory(x) for name, x in found.items()}

    def _published(self, name: Published) -> list[Table]:
        folder, columns, load = PUBLISHED[name]
        parts = list(load(below(self.root, folder)))
        if any(part.shape[1] != columns for part in parts):
            raise UserError(f"data.name={name}: it has {columns} columns as published, not {parts[0].shape[1]}")
        return parts

    def _own_file(self) -> Path:
        if self.file is None:
            raise UserError(
                "data.file=null: name a table, data.file=table.csv or npz, or a published one, data.name=power, gas, "
                "hepmass, miniboone or bsds300"
            )
        if not self.file.is_file():
            raise UserError(f"data.file={self.file}: there is no such file")
        return self.file

    def _own(self, path: Path) -> list[Table]:
        if path.suffix not in (".csv", ".npz"):
            raise UserError(f"data.file={path}: must end in .csv or .npz")
        try:
            parts = [from_csv(path)] if path.suffix == ".csv" else from_npz(path)
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"data.file={path} cannot be read as a table of numbers: {one_line(error)}") from error
        if any(part.ndim != 2 or part.shape[1] != parts[0].shape[1] or not part.size for part in parts):
            shapes = ", ".join(str(part.shape) for part in parts)
            raise UserError(f"data.file={path}: must hold rows of equally many numbers, and it holds {shapes}")
        if len(parts) == 1:
            parts = self._shares(parts[0], path)
        return standardized(parts, path) if self.standardize else parts

    def _shares(self, table: Table, path: Path) -> list[Table]:
        """Train, validation and test in a fixed random order."""
        validation, test = (round(share * len(table)) for share in (self.validation, self.test))
        sizes = [len(table) - validation - test, validation, test]
        if min(sizes) < 1:
            raise UserError(f"data.file={path}: {len(table)} rows are too few for three splits")
        return [table[index.numpy()] for index in permutation(len(table), seed=0).split(sizes)]


def from_csv(path: Path) -> Table:
    """All rows; a first line that is not of numbers is one of names."""
    with path.open(encoding="utf-8") as file:
        first = file.readline()
    return np.loadtxt(path, delimiter=",", skiprows=0 if is_of_numbers(first) else 1, ndmin=2)


def is_of_numbers(line: str) -> bool:
    try:
        return bool([float(word) for word in line.split(",")])
    except ValueError:
        return False


def from_npz(path: Path) -> list[Table]:
    """x alone, or train, validation and test; nothing that stands in the file is run."""
    with np.load(path, allow_pickle=False) as arrays:
        names = ["x"] if "x" in arrays else list(NAMES)
        missing = [name for name in names if name not in arrays]
        if missing:
            raise UserError(
                f"data.file={path}: must hold x, or train, validation and test, and it holds {', '.join(arrays.files)}"
            )
        return [np.asarray(arrays[name], dtype=np.float64) for name in names]


def standardized(parts: list[Table], path: Path) -> list[Table]:
    """The mean and the deviation of the first part taken out of all."""
    mean, deviation = parts[0].mean(0), parts[0].std(0)
    constant = np.flatnonzero(deviation == 0)
    if len(constant):
        raise UserError(
            f"data.file={path}: column {constant[0] + 1} never changes in the training split and has no density; leave "
            "it out, or set data.standardize=false"
        )
    return [(part - mean) / deviation for part in parts]
