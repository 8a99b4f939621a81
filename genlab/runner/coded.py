"""The codes of a split's data, as a trained model has them, for the metrics that judge codes.

Work is divided over processes by index: each makes its own part, and what is gathered is the same on all of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from genlab.core.collectives import all_cat, world
from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Field, Spec
from genlab.data.contract import DataSet, Factored, Split, SplitName
from genlab.metrics.features import Extractor
from genlab.models.contract import Model
from genlab.runner.measure import extractor_for, share, spread
from genlab.runner.progress import meter

Encode = Callable[[Batch, Tensor], Batch]
"""From data on the model's device and their numbers (B,) to codes."""


@torch.no_grad()
def parts(
    model: Model,
    data: Split,
    count: int,
    batch_size: int,
    keys: Sequence[str] = (),
    encode: Encode | None = None,
    shown: bool = True,
    among: int | None = None,
) -> Iterator[Batch]:
    """This process's codes, batch by batch, and of their data what stands under `keys`, on the model's device.

    Arguments:
        count: of data.
        encode: None is the model's own way, without noise.
        among: the data are evenly spread over the first so many; None is the first `count`.

    Raises:
        UserError: there are fewer data than processes.
    """
    mine, everyone = share(count), world()[1]
    if count < everyone:
        raise UserError(f"metric.data: {count} data are too few for {everyone} processes")
    numbers = spread(count, among or count)[mine.start : mine.stop]
    with meter("encoding", everyone * len(mine), shown=shown) as counted:
        for index in numbers.split(batch_size):
            batch = {key: value.to(model.device) for key, value in data.batch(index).items()}
            codes = model.encode(batch) if encode is None else encode(batch, index.to(model.device))
            yield {**codes, **{key: batch[key] for key in keys}}
            counted.advance(everyone * len(index), everyone * len(index))


def coded(
    model: Model,
    data: Split,
    count: int,
    batch_size: int,
    keys: Sequence[str] = (),
    encode: Encode | None = None,
    shown: bool = True,
    among: int | None = None,
) -> Batch:
    """What `parts` gives on all processes, (count, *) under each key, on the CPU."""
    rows = list(parts(model, data, count, batch_size, keys, encode, shown, among))

    def gather(key: str) -> Tensor:
        return all_cat(torch.cat([row[key] for row in rows])).cpu()

    return {key: gather(key) for key in rows[0]}


@dataclass
class Coded:
    """The codes that a trained model has of a data set, made when they are asked for; `genlab.metrics.contract.Codes`.

    Arguments:
        model, dataset: what encodes, and what is encoded.
        split: that the numbers are about.
        n: how many of its data; None for all.
        batch_size: changes speed alone.
        shown: whether progress is.
        judge: the features that images are judged by, as `metric.features` names them.
        evenly: the n data are spread over the split; else they are the first.
        way: another than the model's own from data to codes, and what it leads to.
    """

    model: Model
    dataset: DataSet
    split: SplitName
    n: int | None
    batch_size: int
    shown: bool = True
    judge: str | None = None
    evenly: bool = False
    way: tuple[Encode, Spec] | None = None

    @property
    def fields(self) -> Spec:
        return self.model.latent_spec if self.way is None else self.way[1]

    @property
    def spec(self) -> Spec:
        return self.dataset.spec

    @property
    def factors(self) -> Mapping[str, int] | None:
        return self.dataset.factors if isinstance(self.dataset, Factored) else None

    @property
    def name(self) -> str:
        return f"{self.dataset.identity} {self.split}"

    @property
    def told(self) -> frozenset[str]:
        return self.model.conditions if self.way is None else frozenset()

    def table(self, keys: Sequence[str] = ()) -> Batch:
        encode, among = self.way and self.way[0], self.among
        return coded(self.model, self.data, self.count, self.batch_size, keys, encode, self.shown, among)

    def parts(self, keys: Sequence[str] = ()) -> Iterator[Batch]:
        encode, among = self.way and self.way[0], self.among
        return parts(self.model, self.data, self.count, self.batch_size, keys, encode, self.shown, among)

    @torch.no_grad()
    def decoded(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.parts(("x", *sorted(self.model.conditions))):
            x = batch.pop("x")
            yield x, self.model.decode(batch)["x"]

    def of(self, split: SplitName, n: int | None) -> "Coded":
        return replace(self, split=split, n=n, evenly=True)

    def inner(self, t: float, layer: str | None, seed: int) -> "Coded":
        if "encode" in self.model.can:
            return self

        def features(batch: Batch, index: Tensor) -> Batch:
            return {"features": self.model.features(batch, Rng(seed, index).stage("features"), t, layer)}

        with torch.no_grad():
            index = torch.tensor([0])
            first = {key: value.to(self.model.device) for key, value in self.data.batch(index).items()}
            found = features(first, index.to(self.model.device))
        return replace(self, way=(features, {key: Field(tuple(x.shape[1:])) for key, x in found.items()}))

    def classified(self, of: str = "x") -> "Coded":
        def log_p(batch: Batch, index: Tensor) -> Batch:
            return {"log_p": self.model.classify({"x": batch[of]})}

        with torch.no_grad():
            index = torch.tensor([0])
            first = {key: value.to(self.model.device) for key, value in self.data.batch(index).items()}
            found = log_p(first, index)
        return replace(self, way=(log_p, {key: Field(tuple(x.shape[1:])) for key, x in found.items()}))

    def extractor(self) -> Extractor:
        return extractor_for(self.dataset, self.judge, self.model.device, self.shown)

    @property
    def data(self) -> Split:
        return self.dataset.split(self.split)

    @property
    def count(self) -> int:
        return len(self.data) if self.n is None else min(self.n, len(self.data))

    @property
    def among(self) -> int | None:
        return len(self.data) if self.evenly else None
