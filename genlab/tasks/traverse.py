"""What each number of a code stands for: data of codes in which one number goes from low to high.

    x(d, v) = decode(z with v in the place of z_d)

The prior of a variational autoencoder has mean 0 and deviation 1 in each number, and v counts in these. Of other codes
v counts in the deviations of the number over data, from its mean over them.

References:
    beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework (Higgins et al., 2017), figure 1.
    Understanding disentangling in beta-VAE (Burgess et al., 2018), whose rows stand by falling divergence.
"""

from collections.abc import Iterable
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch
from genlab.models.autoencoder.model import Autoencoder
from genlab.models.contract import Model, Watch
from genlab.tasks.codes import OwnCodes, said
from genlab.tasks.contract import Curve, SplitName, Task, check_index, sampling

# Decimals of divergences and variances by which rows are put in order, so that it is the same on every machine.
DECIMALS = 3
# Lines of the printed table of weights.
SHOWN = 40


@runtime_checkable
class Uncertain(Protocol):
    """A model that has a distribution of codes q(z | x) for a datum."""

    def posterior(self, x: Tensor) -> Any: ...


@runtime_checkable
class Divergent(Protocol):
    """A q(z | x) whose divergence from a standard normal prior is known number by number."""

    def kl_of_each(self) -> Tensor:
        """(B, *) in nats."""


class Traverse(Task):
    """A grid for each datum: a row a number of the code, a column a value of it; above it the datum and its own code's.

    Rows stand by falling weight, which is the mean divergence of the number in nats where it is known, else the
    number's variance, over 1,000 data of the split. Weights are kept beside the grid.

    Arguments:
        range: values go from -range to range.
        points: values in a row, evenly spaced.
        dimensions: which numbers of the code, in this order; None is all by falling weight, `most` at most.
        most: rows, where `dimensions` is None.
        origin: of the code's other numbers: "datum", the datum's own, or "prior", zeros, or without a prior the means.
        split: of the data set.
        index: which data, a grid each; None is 0, 1, 2 and on. Of no meaning from the prior.
        label: see `Task`.
    """

    needs = frozenset({"encode", "decode"})
    sampled = False
    shades = True
    looks = 1000

    def __init__(
        self,
        range: float = 3.0,
        points: int = 11,
        dimensions: int | list[int] | None = None,
        most: int = 16,
        origin: Literal["datum", "prior"] = "datum",
        split: SplitName = "test",
        index: int | list[int] | None = 0,
        label: int | list[int] | None = None,
    ) -> None:
        if range <= 0:
            raise ValueError(f"range must be above 0, not {range}")
        if points < 2:
            raise ValueError(f"points must be at least 2, not {points}: the two ends")
        if most < 1:
            raise ValueError(f"most must be at least 1, not {most}")
        self.range, self.points, self.most, self.origin = range, points, most, origin
        self.dimensions = [dimensions] if isinstance(dimensions, int) else dimensions
        self.split, self.index, self.label = split, check_index(index), label
        self.rows: list[int] = []
        self.weights: list[float] = []
        self.kind, self.seen = "", 0
        self.center = self.scale = torch.zeros(0)

    def count(self, n: int) -> int:
        if self.origin == "prior":
            return 1
        return n if self.index is None else min(n, len(self.index) if isinstance(self.index, list) else 1)

    def data(self, index: Tensor) -> Tensor | None:
        return None if self.origin == "prior" else super().data(index)

    def check(self, model: Model, sampler: Any) -> None:
        super().check(model, sampler)
        fields = model.latent_spec
        if fields.keys() != {"z"} or len(fields["z"].shape) != 1:
            raise UserError(
                f"task=traverse: it is for codes that are vectors, and {type(model).__name__} has {said(fields)}; "
                "choose task=interpolate or task=reconstruct"
            )
        size = fields["z"].shape[0]
        if self.dimensions is not None and not (self.dimensions and all(0 <= d < size for d in self.dimensions)):
            raise UserError(f"task.dimensions={self.dimensions}: codes have {size} numbers, 0 to {size - 1}")
        self.width = self.points * (len(self.dimensions) if self.dimensions else min(size, self.most))

    def prepare(self, model: Model, batches: Iterable[Batch]) -> None:
        divergences, z = [], []
        for batch in batches:
            posterior = model.posterior(batch["x"]) if isinstance(model, Uncertain) else None
            if isinstance(posterior, Divergent):
                divergences.append(posterior.kl_of_each().cpu().double())
            z.append(model.encode(batch)["z"].cpu().double())
        self.seen = sum(map(len, z))
        deviation, mean = torch.std_mean(torch.cat(z), dim=0, correction=0)
        self.kind, weight = "variance", deviation.square()
        if divergences:
            self.kind, weight = "mean KL (nats)", torch.cat(divergences).mean(0)
        has_prior = bool(divergences) or (isinstance(model, Autoencoder) and model.bottleneck.variational)
        if has_prior:
            mean, deviation = torch.zeros_like(mean), torch.ones_like(deviation)
        self.center, self.scale = mean, deviation
        order = weight.round(decimals=DECIMALS).argsort(descending=True, stable=True).tolist()
        self.rows = order[: self.most] if self.dimensions is None else self.dimensions
        self.weights = weight.tolist()
        above = ("x",) if self.origin == "prior" else ("data", "x")
        self.layout = (above, *((f"z_{d}",) for d in self.rows))

    def __call__(
        self,
        model: Model,
        index: Tensor,
        seed: int,
        sampler: Any,
        watch: Watch | None = None,
        batch: Batch | None = None,
    ) -> Batch:
        coder, rng = OwnCodes(model), sampling(seed, index)
        conditions = self.conditions(model, sampler, index, batch)
        shown: Batch = {}
        if batch is None:
            z = self.center.float().to(index.device).expand(len(index), -1)
        else:
            z, shown = coder.encode(batch, conditions, rng)["z"], {"data": batch["x"]}
        shown["x"] = coder.decode({"z": z}, conditions, rng)
        values = torch.linspace(-self.range, self.range, self.points, dtype=torch.float64)
        repeated = {key: value.repeat_interleave(self.points, 0) for key, value in conditions.items()}
        again = Rng(seed, index.repeat_interleave(self.points)).stage("sample")
        for d in self.rows:
            row = z.repeat_interleave(self.points, 0)
            row[:, d] = (self.center[d] + values * self.scale[d]).to(row).repeat(len(z))
            shown[f"z_{d}"] = coder.decode({"z": row}, repeated, again).unflatten(0, (-1, self.points))
        return {**shown, **conditions}

    def curves(self, values: Batch) -> list[Curve]:
        order = sorted(range(len(self.weights)), key=lambda d: (-round(self.weights[d], DECIMALS), d))
        columns = {
            "place": [float(i) for i in range(len(order))],
            "number": [float(d) for d in order],
            self.kind: [self.weights[d] for d in order],
        }
        how = f"over {self.seen} data of the split; rows of the grid: {', '.join(map(str, self.rows))}"
        return [Curve("latent_numbers", columns, (("place", self.kind),), how, shown=SHOWN)]
