"""Mean and covariance of features that pass by in batches, on one process or many.

    merged: n = n_a + n_b,  m = (n_a m_a + n_b m_b) / n,  S = S_a + S_b + n_a n_b / n (m_a - m_b)(m_a - m_b)^T

S is the sum of outer products about the mean and covariance = S / (n - 1). Since nothing is ever summed about the
origin, no digits are lost to a large mean. All of it is double precision.

References:
    Updating Formulae and a Pairwise Algorithm for Computing Sample Variances (Chan, Golub & LeVeque, 1979).
"""

import zipfile
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genlab.core.collectives import all_sum
from genlab.core.errors import UserError
from genlab.core.files import replacing


@dataclass(frozen=True)
class Statistics:
    """What a Frechet distance knows of a set of features.

    Arguments:
        mean: (d,) float64.
        covariance: (d, d) float64, divided by count - 1.
        count: how many features there were; None where a file does not tell.
    """

    mean: Tensor
    covariance: Tensor
    count: int | None = None

    @property
    def dimension(self) -> int:
        return len(self.mean)

    def save(self, path: str | PathLike[str]) -> None:
        """An .npz file with `mu`, `sigma` and, where it is known, `n`, whole or not at all."""
        mean, covariance = self.mean.numpy(), self.covariance.numpy()
        with replacing(Path(fspath(path)), contested=True) as file:
            if self.count is None:
                np.savez(file, mu=mean, sigma=covariance)
            else:
                np.savez(file, mu=mean, sigma=covariance, n=self.count)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Statistics":
        """From an .npz file with `mu` and `sigma`, as many tools write it."""
        name = fspath(path)
        try:
            with np.load(name, allow_pickle=False) as arrays:
                mean = torch.from_numpy(arrays["mu"].astype(np.float64))
                covariance = torch.from_numpy(arrays["sigma"].astype(np.float64))
                count = int(arrays["n"]) if "n" in arrays else None
        except OSError as error:
            raise UserError(f"cannot read the statistics {name}: {error.strerror or 'not an .npz file'}") from error
        except KeyError as error:
            raise UserError(f"{name} is not a file of statistics: it must hold mu and sigma") from error
        except (ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{name} is damaged or not an .npz file of mu and sigma") from error
        if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
            shapes = f"{tuple(mean.shape)} and {tuple(covariance.shape)}"
            raise UserError(f"{name}: mu must be of shape (d,) and sigma of (d, d), not {shapes}")
        if not (mean.isfinite().all() and covariance.isfinite().all()):
            raise UserError(f"{name}: mu and sigma must be finite")
        return cls(mean, covariance, count)


class Moments:
    """An accumulator of mean and covariance.

    Arguments:
        dimension: d.
        device: where sums are kept; it must know double precision.
    """

    def __init__(self, dimension: int, device: torch.device | str = "cpu") -> None:
        self.count = 0
        self.mean = torch.zeros(dimension, dtype=torch.float64, device=device)
        self.scatter = torch.zeros(dimension, dimension, dtype=torch.float64, device=device)

    def add(self, features: Tensor) -> None:
        """Take in features (B, d)."""
        if not len(features):
            return
        features = features.to(self.mean)
        mean = features.mean(0)
        centred = features - mean
        self._join(len(features), mean, centred.T @ centred)

    def merge(self, other: "Moments") -> None:
        """Take in all that the other has seen."""
        if other.count:
            self._join(other.count, other.mean.to(self.mean), other.scatter.to(self.mean))

    def _join(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        total = self.count + count
        apart = mean - self.mean
        self.mean = self.mean + apart * (count / total)
        self.scatter += scatter.addr_(apart, apart, alpha=self.count * count / total)
        self.count = total

    def all_merge(self) -> "Moments":
        """The moments over all processes, the same on each."""
        total = int(all_sum(torch.tensor([self.count], device=self.mean.device)))
        merged = Moments(len(self.mean), self.mean.device)
        merged.count = total
        merged.mean = all_sum(self.mean * (self.count / max(total, 1)))
        apart = self.mean - merged.mean
        merged.scatter = all_sum(torch.addr(self.scatter, apart, apart, alpha=self.count))
        return merged

    def statistics(self) -> Statistics:
        """On the CPU; the covariance of fewer than two features is zero."""
        return Statistics(self.mean.cpu(), (self.scatter / max(self.count - 1, 1)).cpu(), self.count)
