"""Minus the log-likelihood of a split, from the values of single data.

    NLL = 1/n sum_i -log p(x_i),    standard error = s / sqrt(n),    bits/dim = nats / (D ln 2)

s is the standard deviation over the data; where a value is an unbiased estimate, s holds the estimate's noise as well.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from genlab.core.collectives import all_sum, world
from genlab.core.errors import UserError
from genlab.core.spec import Field
from genlab.core.units import bits_per_dim
from genlab.metrics.record import How, Number

BOUNDS = {"exact": "exact", "upper": "upper bound", "estimate": "estimate"}


class Likelihoods(Protocol):
    """What a model says of one batch, as `genlab.models.contract.Nll` does."""

    @property
    def nats(self) -> Tensor: ...

    @property
    def bound(self) -> str: ...

    @property
    def terms(self) -> Mapping[str, Tensor]: ...

    @property
    def how(self) -> str: ...


class Sums:
    """Sums of values (B,) or of values in K parts (B, K), and of their squares."""

    def __init__(self) -> None:
        self.parts: Tensor | None = None
        self.total: Tensor | None = None

    def add(self, values: Tensor) -> None:
        values = values.detach().to("cpu" if values.device.type == "mps" else values.device, torch.float64)
        parts = values if values.ndim == 2 else values[:, None]
        datum = parts.sum(1)
        total = torch.stack([torch.ones_like(datum).sum(), datum.sum(), datum.square().sum()])
        self.parts = parts.sum(0) if self.parts is None else self.parts + parts.sum(0)
        self.total = total if self.total is None else self.total + total

    def mean(self) -> tuple[Tensor, Tensor, Tensor, int]:
        """Over all processes: mean (), its standard error (), the mean of each part (K,), and the count."""
        if self.parts is None or self.total is None:
            raise ValueError("nothing was added")
        count, first, second = all_sum(self.total).cpu().unbind()
        mean = first / count
        variance = (second / count - mean**2).clamp(min=0) / (count - 1).clamp(min=1)
        return mean, variance.sqrt(), all_sum(self.parts).cpu() / count, int(count)


class NegativeLogLikelihood:
    """NLL in nats per datum and, for discrete data, in bits per dimension, with its terms.

    Arguments:
        n: how many data of the split are used; None for all.
    """

    needs = frozenset({"nll"})

    def __init__(self, n: int | None = None) -> None:
        if n is not None and n < 2:
            raise UserError(
                f"metric.data must be at least 2, not {n}: an error is estimated from the spread of the data"
            )
        self.n = n

    def evaluate(self, values: Iterable[Likelihoods], field: Field, how: How | None = None) -> list[Number]:
        """The numbers, over the batches of all processes.

        Arguments:
            values: what the model says of this process's batches.
            field: of the datum.
            how: what the data are and which model was asked.
        """
        sums: dict[str, Sums] = {}
        said: How = {}
        for value in values:
            said = {"bound": BOUNDS[value.bound], "estimator": value.how}
            for name, nats in {"": value.nats, **value.terms}.items():
                sums.setdefault(name, Sums()).add(nats)
        if int(all_sum(torch.tensor(int(not sums)))):
            raise UserError(f"NLL needs at least one batch of data in every process, of which there are {world()[1]}")

        numbers = []
        for name, total in sums.items():
            mean, error, parts, count = total.mean()
            circumstances: How = {**said, "n": count, **(how or {}), "error": "standard error over data"}
            units = [("nats", "nats", lambda nats: nats)]
            if field.levels is not None:
                units.append(("bits-per-dim", "bits/dim", lambda nats: bits_per_dim(nats, field)))
            for short, unit, scale in units:
                label = f"nll/{name}/{short}" if name else f"nll/{short}"
                listed = tuple(scale(parts).tolist()) if len(parts) > 1 else ()
                numbers.append(Number(label, float(scale(mean)), float(scale(error)), unit, circumstances, listed))
        return numbers
