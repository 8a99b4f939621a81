"""What evaluation asks of a metric that compares samples with data.

A metric is an object built from its options; `needs` says what must be computed before it can be asked.
"""

from typing import Protocol

from genlab.core.errors import UserError
from genlab.metrics.features import FeatureSet
from genlab.metrics.record import Number


class SampleMetric(Protocol):
    """A number, or a few, about samples.

    Attributes:
        needs: of "statistics" (of features), "features", "logits" and "nll", what it is computed from.
        n: how many samples it judges; None leaves it to evaluation.
    """

    needs: frozenset[str]
    n: int | None

    def least(self, dimension: int) -> int:
        """The fewest samples that it can be computed from, with features of so many dimensions."""

    def evaluate(self, real: FeatureSet, fake: FeatureSet) -> list[Number]:
        """The numbers; `fake` holds the samples and `real` what they are compared with."""


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
