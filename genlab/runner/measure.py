"""Numbers about a model, by the same code while it trains and when it is evaluated.

Work is divided over processes by index, without padding: what each computes is its own, and results are put together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from genlab.core.collectives import all_cat, of_first, world
from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch
from genlab.core.units import to_uint8
from genlab.data.contract import DataSet, Split, SplitName
from genlab.metrics.cache import PUBLISHED, reference_features, reference_file
from genlab.metrics.classifier import classifier_features, suits_classifier
from genlab.metrics.contract import SampleMetric, check_enough
from genlab.metrics.features import Extractor, FeatureSet, extract
from genlab.metrics.likelihood import NegativeLogLikelihood
from genlab.metrics.record import How, Number
from genlab.models.contract import Model, Nll, Watch
from genlab.runner.effort import Effort
from genlab.runner.progress import Meter, meter
from genlab.tasks.contract import Task
from genlab.tasks.generate import Generate

# Samples for a distance, where nobody asks for another number: enough for Inception's 2,048 features.
MOST_SAMPLES = 10_000


def share(count: int) -> range:
    """The part of 0 .. count - 1 that is this process's, all parts together being the whole."""
    rank, processes = world()
    return range(rank * count // processes, (rank + 1) * count // processes)


def cover(indices: list[int] | range, size: int) -> Iterator[Tensor]:
    """The indices in batches of at most `size`."""
    for start in range(0, len(indices), size):
        yield torch.tensor(list(indices[start : start + size]))


def spread(n: int, count: int) -> Tensor:
    """n of the numbers 0 .. count - 1, evenly spread, or all of them where there are no more."""
    n = min(n, count)
    return torch.arange(n) * count // n


@dataclass
class Drawing:
    """How samples are drawn.

    Arguments:
        model, sampler: what draws.
        seed, batch_size: sample i depends on the seed, not on the size of the batch.
        task: what is asked for.
        shown: whether progress is.
        how: what a number about the samples should say of them.
        data: what the task is given of, where it needs any.
        effort: what drawing took so far.
    """

    model: Model
    sampler: Any
    seed: int
    batch_size: int
    task: Task = field(default_factory=Generate)
    shown: bool = True
    how: How = field(default_factory=dict)
    data: Split | None = None
    effort: Effort = field(default_factory=Effort)

    @torch.no_grad()
    def ask(self, index: Tensor, watch: Watch | None = None) -> Batch:
        """The samples numbered `index` (B,)."""
        device = self.model.device
        numbers = None if self.data is None else self.task.data(index)
        batch = None
        if self.data is not None and numbers is not None:
            batch = {key: value.to(device) for key, value in self.data.batch(numbers.flatten()).items()}
        return self.task(self.model, index.to(device), self.seed, self.sampler, watch, batch)

    def __call__(self, indices: list[int] | range) -> Iterator[tuple[Tensor, Batch]]:
        """(index (B,), samples) for the numbers given, in order.

        Progress is that of all processes, of which this one is as quick as any.
        """
        everyone = world()[1]
        with meter("sampling", everyone * len(indices), shown=self.shown) as counted:
            for index in cover(indices, self.batch_size):
                with self.effort.of(self.model, len(index)):
                    samples = self.ask(index)
                yield index, samples
                counted.advance(everyone * len(index), everyone * len(index))

    def observed(self) -> How:
        """How fast samples were drawn, and how often the network was asked where the sampler decides on its way."""
        note = self.effort.note(self.model.device)
        if self.how.get("nfe") is not None or not any(self.effort.calls):
            del note["nfe"]
        return {**note, "batch_size": self.batch_size}


def drawn(drawing: Drawing, n: int) -> Tensor:
    """ "x" of samples 0 to n - 1, each drawn by one process and given to all."""
    model = drawing.model
    parts = [samples["x"] for _, samples in drawing(share(n))]
    return all_cat(torch.cat([torch.empty(0, *model.spec["x"].shape, device=model.device), *parts]))


def likelihood(
    model: Model,
    dataset: DataSet,
    metric: NegativeLogLikelihood,
    estimator: Any,
    split: SplitName,
    seed: int,
    batch_size: int,
    shown: bool = True,
) -> list[Number]:
    """NLL over a split, or over its first `metric.n` data."""
    data = dataset.split(split)
    count = len(data) if metric.n is None else min(metric.n, len(data))

    def values() -> Iterator[Nll]:
        mine, everyone = share(count), world()[1]
        with meter("likelihood", everyone * len(mine), shown=shown) as counted:
            for index in cover(mine, batch_size):
                batch = {key: value.to(model.device) for key, value in data.batch(index).items()}
                yield model.nll(batch, Rng(seed, index.to(model.device)).stage("nll"), estimator)
                counted.advance(everyone * len(index), everyone * len(index))

    return metric.evaluate(values(), dataset.spec["x"], {"data": f"{dataset.identity} {split}", "seed": seed})


def extractor_for(dataset: DataSet | None, features: str | None, device: torch.device, shown: bool = True) -> Extractor:
    """The network whose features the samples of this data set are judged by; Inception where there is none.

    Arguments:
        features: "classifier", "inception", or None for the one that suits the data.
    """
    suits = dataset is not None and suits_classifier(dataset.spec)
    chosen = features or ("classifier" if suits else "inception")
    if chosen == "classifier" and dataset is not None:
        with Bars(shown) as report:
            return classifier_features(dataset, report).to(device)
    if chosen == "inception":
        from genlab.metrics.weights import inception_features

        return inception_features().to(device)
    raise UserError(f"metric.features={features}: choose classifier or inception")


class Bars:
    """A progress callback of metrics, drawn as one bar a piece of work."""

    def __init__(self, shown: bool) -> None:
        self.shown = shown
        self.what = ""
        self.meter: Meter | None = None

    def __enter__(self) -> "Bars":
        return self

    def __call__(self, what: str, done: int, total: int) -> None:
        if what != self.what:
            self.__exit__()
            self.what, self.meter = what, Meter(what, total, shown=self.shown)
        if self.meter is not None:
            new = done - self.meter.done
            self.meter.advance(new, new)

    def __exit__(self, *_: object) -> None:
        if self.meter is not None:
            self.meter.close()


def reference(
    extractor: Extractor,
    dataset: DataSet | None,
    path: str | None,
    batch_size: int,
    keep: bool = True,
    shown: bool = True,
    splits: Sequence[SplitName] = PUBLISHED,
) -> FeatureSet:
    """What samples are compared with: splits of the data, or a file of statistics.

    Arguments:
        keep: whether features are needed, or their statistics only.
        splits: the published training set (train and validation together), unless others are asked for.
    """
    if path is not None:
        return reference_file(path, extractor)
    if dataset is None:
        raise ValueError("neither data nor a file of statistics")
    with Bars(shown) as report:
        return reference_features(extractor, dataset, splits, batch_size, report, keep)


def sample_features(extractor: Extractor, drawing: Drawing, n: int, keep: bool = True) -> FeatureSet:
    """The features of samples 0 to n - 1, drawn straight into the network, no image being kept."""
    levels = drawing.model.spec["x"].levels
    images = (to_uint8(samples["x"], levels) for _, samples in drawing(share(n)))
    found = extract(extractor, images, drawing.how, keep)
    return replace(found, how={**found.how, **drawing.observed()})


def keeps_features(metrics: dict[str, SampleMetric]) -> bool:
    """Whether a metric wants the features of samples one by one, and not their mean and covariance only."""
    apart = any(metric.needs & {"features", "logits"} for metric in metrics.values())
    return apart or len({metric.n for metric in metrics.values()}) > 1


def judge(metrics: dict[str, SampleMetric], real: FeatureSet, fake: FeatureSet) -> list[Number]:
    """Every metric's numbers, computed by the first process and given to all."""
    return of_first(lambda: [number for metric in metrics.values() for number in metric.evaluate(real, fake)])


def samples_needed(metrics: dict[str, SampleMetric], extractor: Extractor, real: FeatureSet) -> int:
    """How many samples to draw; an error, before any is drawn, where a metric needs more.

    Where a metric leaves it open: as many as the reference has, at most `MOST_SAMPLES`.
    """
    open_n = min(MOST_SAMPLES, real.n or MOST_SAMPLES)
    for name, metric in metrics.items():
        check_enough(metric, name.upper(), metric.n or open_n, extractor.dimension)
    return max(metric.n or open_n for metric in metrics.values())
