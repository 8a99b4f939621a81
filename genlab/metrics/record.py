"""One measured number: value +- error [unit], with how it was computed beside it.

A number without its circumstances (features, how many samples, which sampler, which checkpoint) cannot be compared with
another, so they travel together from the metric to the table and to the file.
"""

from dataclasses import dataclass, field
from typing import Any

How = dict[str, str | int | float]
"""How a number came about: names and plain values, as {"n": 10000, "reference": "cifar10 train+validation"}."""


@dataclass(frozen=True)
class Ranking:
    """By which of a metric's numbers models are ranked.

    Arguments:
        name: what its name begins with.
        rises: more is better.
    """

    name: str
    rises: bool


@dataclass(frozen=True)
class Number:
    """A measurement.

    Arguments:
        name: what was measured and on which features, as "fid/inception-2015" or "nll/bits-per-dim".
        value: in `unit`.
        error: one standard error or deviation in `unit`; how["error"] says which.
        unit: "" for a pure number.
        how: the circumstances.
        parts: values that `value` is the sum of, where they are many, as the terms of a bound over time.
    """

    name: str
    value: float
    error: float | None = None
    unit: str = ""
    how: How = field(default_factory=dict)
    parts: tuple[float, ...] = ()

    def as_row(self) -> tuple[str, str, str]:
        """(name, value +- error unit, how) as text for a table."""
        value = f"{self.value:.5g}" if self.error is None else f"{self.value:.5g} ± {self.error:.2g}"
        return self.name, f"{value} {self.unit}".strip(), ", ".join(f"{key} {self.how[key]}" for key in self.how)

    def to_json(self) -> dict[str, Any]:
        """Strings, numbers, dictionaries and lists only."""
        row: dict[str, Any] = {"name": self.name, "value": self.value, "error": self.error, "unit": self.unit}
        row["how"] = dict(self.how)
        if self.parts:
            row["parts"] = list(self.parts)
        return row

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "Number":
        """The inverse of `to_json`."""
        return cls(row["name"], row["value"], row["error"], row["unit"], row["how"], tuple(row.get("parts", ())))
