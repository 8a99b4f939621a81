"""The five tables on which flows were compared, prepared as they were published.

    POWER      2,049,280 x 6    a household's electric power, with noise below the meter's resolution
    GAS        1,052,065 x 8    sensors in a mixture of gases, of which one of each correlated pair is left
    HEPMASS      525,123 x 21   collisions of particles, those of the signal, without discrete features
    MINIBOONE     36,488 x 43   neutrinos, without outliers and discrete features
    BSDS300    1,300,000 x 63   8x8 patches of grey photographs without their mean and their last pixel

The last tenth of the first four is test data (HEPMASS has a file of its own), the last tenth of the rest validation
data. Each column has mean 0 and variance 1, over the data that the original code took: train and validation of POWER
and MINIBOONE, these alone of HEPMASS's first file, all of GAS; BSDS300 is as stored.

References:
    Masked Autoregressive Flow for Density Estimation (Papamakarios, Pavlakou & Murray, 2017), appendix D, and its code.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from genlab.core.errors import UserError

Table = np.ndarray[Any, np.dtype[np.float64]]
Splits = tuple[Table, Table, Table]
"""Train, validation and test."""

SHARE = 0.1


def tail(table: Table) -> tuple[Table, Table]:
    """All but the last tenth, and the last tenth."""
    count = len(table) - int(SHARE * len(table))
    return table[:count], table[count:]


def standardized(seen: Table, parts: Splits, ddof: int = 0) -> Splits:
    """The parts with the mean and the deviation of `seen` taken out."""
    mean, deviation = seen.mean(0), seen.std(0, ddof=ddof)
    train, validation, test = ((part - mean) / deviation for part in parts)
    return train, validation, test


def repeats(column: Table) -> bool:
    """Its least value stands in it more than five times: the original test of a column of discrete values."""
    return int((column == column.min()).sum()) > 5


def power(folder: Path) -> Splits:
    """Of data.npy (N, 8); columns 1 and 3 are left out, and noise is added, by the original seed."""
    # The original shuffles and adds noise by this generator, whose numbers do not change.
    rng = np.random.RandomState(42)
    table = array(folder / "data.npy", 8)
    rng.shuffle(table)
    table = np.delete(table, (1, 3), axis=1)
    count = len(table)
    voltage, gap, meters = 0.01 * rng.rand(count, 1), 0.001 * rng.rand(count, 1), rng.rand(count, 3)
    table = table + np.hstack((gap, voltage, meters, np.zeros((count, 1))))
    rest, test = tail(table)
    return standardized(rest, (*tail(rest), test))


def gas(folder: Path) -> Splits:
    """Of data.npy (N, 16), the sensors of the published ethylene_CO.pickle, without Time, Meth and Eth."""
    table = array(folder / "data.npy", None)
    correlated = correlates(table)
    while (correlated > 1).any():
        table = np.delete(table, int(np.argmax(correlated > 1)), axis=1)
        correlated = correlates(table)
    table = (table - table.mean(0)) / table.std(0, ddof=1)
    rest, test = tail(table)
    return (*tail(rest), test)


def correlates(table: Table) -> np.ndarray[Any, np.dtype[np.int64]]:
    """With how many columns each column is correlated by more than 0.98, itself among them."""
    return np.atleast_2d(np.corrcoef(table, rowvar=False) > 0.98).sum(1)


def hepmass(folder: Path) -> Splits:
    """Of 1000_train.csv and 1000_test.csv, whose first column is the class and whose next 27 are features."""
    seen, test = (signal(folder / f"1000_{name}.csv") for name in ("train", "test"))
    kept = np.array([not repeats(column) for column in seen.T])
    seen, test = seen[:, kept], test[:, kept]
    return standardized(seen, (*tail(seen), test), ddof=1)


def signal(path: Path) -> Table:
    table = csv(path, columns=28)
    return table[table[:, 0] == 1, 1:]


def miniboone(folder: Path) -> Splits:
    """Of data.npy (N, 43), from which outliers and discrete features are gone."""
    rest, test = tail(array(folder / "data.npy", 43))
    return standardized(rest, (*tail(rest), test))


def bsds300(folder: Path) -> Splits:
    """Of BSDS300.hdf5, with train, validation and test (N, 63)."""
    path = present(folder / "BSDS300.hdf5")
    try:
        import h5py
    except ImportError as error:
        raise UserError(
            f"data.name=bsds300: {path} is read by h5py, which is not installed: pip install h5py"
        ) from error
    with h5py.File(path, "r") as file:
        train, validation, test = (np.asarray(file[name], dtype=np.float64) for name in ("train", "validation", "test"))
    return train, validation, test


def array(path: Path, columns: int | None) -> Table:
    """(N, columns) of a file of numpy's, without running what stands in it."""
    table = np.load(present(path), allow_pickle=False)
    if table.ndim != 2 or columns not in (None, table.shape[1]):
        expected = "(N, columns)" if columns is None else f"(N, {columns})"
        raise UserError(f"data.root: {path} must hold an array {expected}, and it holds {table.shape}")
    return table.astype(np.float64)


def csv(path: Path, columns: int) -> Table:
    """The first columns of a file with one line of names."""
    return np.loadtxt(present(path), delimiter=",", skiprows=1, usecols=range(columns), ndmin=2)


def present(path: Path) -> Path:
    if not path.is_file():
        raise UserError(
            f"data.root={path.parent.parent} has no {path.parent.name}/{path.name}; the published files are in "
            "data.tar.gz of https://zenodo.org/records/1161203 (for GAS save the pickle's sensors as data.npy)"
        )
    return path


PUBLISHED: dict[str, tuple[str, int, Callable[[Path], Splits]]] = {
    "power": ("power", 6, power),
    "gas": ("gas", 8, gas),
    "hepmass": ("hepmass", 21, hepmass),
    "miniboone": ("miniboone", 43, miniboone),
    "bsds300": ("BSDS300", 63, bsds300),
}
"""By name: the folder, the dimensions, and how its files become splits."""
