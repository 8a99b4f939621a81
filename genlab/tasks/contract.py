"""What a trained model can be asked for, and what the program must know to ask it and to show the answer.

A task makes samples numbered 0, 1, 2 and on, of which each depends on its own number alone, so that they may be made in
batches of any size, by many processes, and in several goes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch
from genlab.models.contract import Model, Watch

SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Quantity:
    """A number that a task computes of each sample, of which the mean over samples is reported.

    Arguments:
        how: what it is, for the one who reads it.
        unit: "" for a pure number.
    """

    how: str
    unit: str = ""


@dataclass(frozen=True)
class Curve:
    """Numbers in columns, to be kept as a CSV file, printed in part, and drawn.

    Arguments:
        name: of its files.
        columns: by what they are called, all of one length; the first is that of the rows' names.
        plots: pairs of columns, the horizontal and the vertical axis of a plot.
        how: how they were computed.
        shown: so many rows are printed, evenly spaced.
    """

    name: str
    columns: Mapping[str, list[float]]
    plots: tuple[tuple[str, str], ...]
    how: str = ""
    shown: int = 10


@dataclass(frozen=True)
class Scatter:
    """Vectors of data and their places in the plane, to be drawn in the colours of their labels, and looked at by hand.

    Arguments:
        vectors: (N, D), in the order of the samples that they are of.
        places: (N, 2).
        axes: what the places are, across and up.
        how: how they came about.
    """

    vectors: Tensor
    places: Tensor
    axes: tuple[str, str]
    how: str


class Task(ABC):
    """A request to a trained model.

    Attributes:
        needs: the abilities that the model must have; `check` may ask for more.
        split: of the data set, whose data the task is given; None where it is given none.
        index: which data of the split samples 0, 1, 2 and on are about, gone through in turn; None is 0, 1, 2 and on.
        label: the class, or the classes gone through in turn, that samples are asked to be; None is that of the datum,
            and where there is no datum goes through all classes.
        layout: rows of keys, as a picture of one sample shows them. Under each stand data (B, *), or several of each
            sample, (B, K, *), side by side.
        numbers: what is reported, by the keys that hold it, (B,) each.
        traces: keys of values (B, K) that `curves` is made from.
        exact: images are kept as floating-point numbers, and not rounded to 8 bits.
        shades: "x" is the mean of data and may lie between their levels, as grey between black and white; else it is
            rounded to them in pictures.
        table: the name of the one .npz file that holds what is made of all data, with no pictures; "" where samples are
            kept one by one. Where nobody says how many there are, they are all of the split.
        looks: how many data of the split the task is shown before it begins; see `prepare`.
        sampled: whether the sampler is asked, so that there is a way from noise for an animation to show.
        width: how many data the network sees at once for one sample.
    """

    needs: frozenset[str] = frozenset({"sample"})
    split: SplitName | None = None
    index: int | list[int] | None = None
    label: int | list[int] | None = None
    layout: tuple[tuple[str, ...], ...] = (("x",),)
    numbers: Mapping[str, Quantity] = {}
    traces: tuple[str, ...] = ()
    exact: bool = False
    shades: bool = False
    table: str = ""
    looks: int = 0
    sampled: bool = True
    width: int = 1

    @property
    def name(self) -> str:
        """What records of samples call it."""
        return type(self).__name__.lower()

    @property
    def facts(self) -> dict[str, str | int | float]:
        """What decides the samples beside the options, as the content of a file that they name."""
        return {}

    def count(self, n: int) -> int:
        """How many samples there are where n are asked for."""
        return n

    def data(self, index: Tensor) -> Tensor | None:
        """The numbers of the data that the samples numbered `index` (B,) need: (B,), or (B, K) for K each, or none."""
        return None if self.split is None else in_turn(self.index, index)

    def conditions(self, model: Model, sampler: Any, index: Tensor, batch: Batch | None = None) -> Batch:
        """What the samples numbered `index` (B,) are asked to be: as `label` says, else what their data are."""
        heard = steers(model, sampler)
        if self.label is None and batch is not None:
            return {key: batch[key] for key in sorted(heard & batch.keys())}
        if "label" not in heard:
            if self.label is not None:
                raise UserError(f"label={self.label}: the model has no labels; train one by conditioner=label")
            return {}
        classes = model.spec["label"].classes or 0
        asked = list(range(classes)) if self.label is None else self.label
        asked = [asked] if isinstance(asked, int) else asked
        if not asked or not all(0 <= label < classes for label in asked):
            raise UserError(f"label={self.label}: labels are 0 to {classes - 1}")
        return {"label": torch.tensor(asked, device=index.device)[index % len(asked)]}

    def check(self, model: Model, sampler: Any) -> None:
        """Raise a UserError where the model or the sampler cannot do it; called before anything is written."""
        lacking = sorted(self.needs - model.can)
        if lacking:
            raise UserError(f"task={self.name}: {type(model).__name__} cannot {' and '.join(lacking)}, which it needs")
        self.conditions(model, sampler, torch.arange(1))

    def prepare(self, model: Model, batches: Iterable[Batch]) -> None:
        """Learn what decides all samples from `looks` data, evenly spread over the split."""
        return

    @abstractmethod
    def __call__(
        self,
        model: Model,
        index: Tensor,
        seed: int,
        sampler: Any,
        watch: Watch | None = None,
        batch: Batch | None = None,
    ) -> Batch:
        """The samples numbered `index` (B,), with every key of `layout`, `numbers` and `traces`.

        Arguments:
            sampler: the object that draws, where the model has a choice.
            watch: sees the states on the way.
            batch: the data that `data` named, row by row, where it named any.
        """

    def curves(self, values: Batch) -> list[Curve]:
        """What the values of all samples come to, (N,) or (N, K) under the keys of `numbers` and `traces`."""
        return []

    def scatter(self, samples: Callable[[int], Batch]) -> Scatter | None:
        """What a table comes to in the plane.

        Arguments:
            samples: gives n of all that was made, evenly spread, with every key; fewer where there are no more.
        """
        return None


def steers(model: Model, sampler: Any) -> frozenset[str]:
    """The batch keys that samples are steered by: what the model is told, and what the sampler's guidance is."""
    guidance = getattr(sampler, "guidance", None)
    return model.conditions if guidance is None else model.conditions | guidance.conditions


def sampling(seed: int, index: Tensor) -> Rng:
    """What the samples numbered `index` (B,) are drawn from: equal for equal numbers, whatever the task."""
    return Rng(seed, index).stage("sample")


def in_turn(numbers: int | list[int] | None, index: Tensor) -> Tensor:
    """The numbers gone through in turn by the samples numbered `index` (B,); None is the index itself."""
    if numbers is None:
        return index
    numbers = [numbers] if isinstance(numbers, int) else numbers
    return torch.tensor(numbers, device=index.device)[index % len(numbers)]


def check_index(index: int | list[int] | None) -> int | list[int] | None:
    """The index itself; an error where it names no data."""
    numbers = index if isinstance(index, list) else [index or 0]
    if not numbers or min(numbers) < 0:
        raise ValueError(f"index={index}: data are numbered from 0")
    return index


def given(task: Task, batch: Batch | None) -> Batch:
    """The data that a task was promised."""
    if batch is None:
        raise ValueError(f"{task.name} is given data, by their split")
    return batch
