"""What evaluation asks of a metric: of one that compares samples with data, of one that looks at samples alone, and of
one that judges codes of data.

A metric is an object built from its options; `needs` says what must be computed before it can be asked.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.spec import Batch, Spec
from genlab.metrics.features import Extractor, FeatureSet
from genlab.metrics.record import How, Number, Ranking

OF_CODES = frozenset({"codes", "inner", "classify"})
"""What metrics of codes need, one of them at least."""


class SampleMetric(Protocol):
    """A number, or a few, about samples.

    Attributes:
        needs: of "statistics" (of features), "features", "logits" and "nll", what it is computed from.
        ranks: by which of its numbers the best checkpoint of a game is chosen; metrics of codes may have none.
        n: how many samples it judges; None leaves it to evaluation.
    """

    needs: frozenset[str]
    n: int | None
    ranks: Ranking

    def least(self, dimension: int) -> int:
        """The fewest samples that it can be computed from, with features of so many dimensions."""

    def evaluate(self, real: FeatureSet, fake: FeatureSet) -> list[Number]:
        """The numbers; `fake` holds the samples and `real` what they are compared with."""


class Codes(Protocol):
    """The codes that a model has of the data of a split."""

    @property
    def fields(self) -> Spec:
        """What codes are."""

    @property
    def spec(self) -> Spec:
        """What data are."""

    @property
    def factors(self) -> Mapping[str, int] | None:
        """The names and sizes of the factors that data are made from, where they are known."""

    @property
    def name(self) -> str:
        """Of the data and their split, as numbers carry it."""

    def table(self, keys: Sequence[str] = ()) -> Batch:
        """The codes, without noise, and of the data what stands under `keys`: (N, *) each, on the CPU."""

    @property
    def count(self) -> int:
        """How many data there are."""

    @property
    def told(self) -> frozenset[str]:
        """Of the data, what the model hears beside "x" where it encodes."""

    def parts(self, keys: Sequence[str] = ()) -> Iterator[Batch]:
        """This process's rows of `table`, batch by batch, on the model's device."""

    def decoded(self) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's data "x" (B, *), batch by batch, and what the model decodes of their codes."""

    def of(self, split: Literal["train", "validation", "test"], n: int | None) -> "Codes":
        """The same of another split, or of n of its data, evenly spread."""

    def inner(self, t: float, layer: str | None, seed: int) -> "Codes":
        """Codes themselves where the model has them, else "features", what its network computes on its way.

        Arguments:
            t: the noise that the network sees its data with, as a time in (0, 1].
            layer: of the network; None is the one that it names itself.
            seed: of the noise.
        """

    def classified(self, of: str = "x") -> "Codes":
        """In the place of codes "log_p", the log-probability of each class.

        Arguments:
            of: the key of the data that are classified.
        """

    def extractor(self) -> Extractor:
        """The network whose features images are judged by."""


class Drawn(Protocol):
    """Samples that a trained model draws, and the data that it learned."""

    @property
    def spec(self) -> Spec:
        """What data and samples are."""

    @property
    def data(self) -> str:
        """Of the data, the name that numbers carry."""

    @property
    def how(self) -> How:
        """How samples were drawn."""

    @property
    def gaussians(self) -> tuple[Tensor, float] | None:
        """The centres (K, D) and the standard deviation, where data are equally likely Gaussians."""

    def classifier(self) -> Extractor | None:
        """The network that classifies an image, or each channel where data are stacked; None where there is none."""

    @property
    def device(self) -> torch.device:
        """Where samples are."""

    def parts(self, n: int) -> Iterator[Tensor]:
        """This process's part of samples 0 to n - 1, "x" (B, *), batch by batch, on the model's device."""


class DrawnMetric(Protocol):
    """Numbers about samples themselves, and not about features of them.

    Attributes:
        needs: {"drawn"}.
    """

    needs: frozenset[str]

    def check(self, drawn: Drawn) -> None:
        """Raise a UserError where these samples cannot be judged; evaluation asks before anything is drawn."""

    def evaluate(self, drawn: Drawn) -> list[Number]:
        """The numbers, each with how it was computed; every process computes them."""


class CodeMetric(Protocol):
    """Numbers about codes.

    Attributes:
        needs: {"codes"}; {"codes", "decode"} where codes are decoded too; {"inner"} where features serve as
            well; {"classify"} where data are classified.
    """

    needs: frozenset[str]

    def check(self, codes: Codes) -> None:
        """Raise a UserError where these codes cannot be judged; evaluation asks before anything is encoded."""

    def evaluate(self, codes: Codes) -> list[Number]:
        """The numbers, each with how it was computed; every process computes them."""


def check_count(n: int | None) -> int | None:
    """n itself; an error where it is no number of samples."""
    if n is not None and n < 1:
        raise UserError(f"metric.n must be at least 1, not {n}")
    return n


def check_enough(metric: SampleMetric, name: str, n: int, dimension: int) -> None:
    """An error that says how many samples are needed, where n are too few; evaluation asks before it draws any."""
    least = metric.least(dimension)
    if n < least:
        raise UserError(f"{name} needs at least {least} samples, not {n}: set metric.n={least} or more")
