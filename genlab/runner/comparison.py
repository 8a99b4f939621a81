"""Measurements of many runs as rows and columns: a row a way of drawing, a column a metric on its features.

A number about a model alone, as its likelihood, stands in each row of that model. Where a column holds values that were
computed in several ways, each value is marked, and a note says what the mark means.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from genlab.metrics.record import How, Number
from genlab.runner.evaluations import Measurement
from genlab.runner.table import common, said

# What has a column of its own, from the left; others follow.
METRICS = ("fid", "kid", "is", "precision", "recall", "nll")
ACRONYMS = ("fid", "kid", "is", "nll")
UNITS = {"nats": "nats", "bits-per-dim": "bits/dim"}
# More of it is better.
RISING = ("is", "precision", "recall", "images_per_second")

Key = tuple[Any, ...]


def key_of(how: How) -> Key:
    """The same for equal circumstances, in whatever order."""
    return tuple(sorted((name, str(value)) for name, value in how.items()))


@dataclass
class Row:
    """What is known of one model, drawn from in one way.

    Arguments:
        place: the run.
        label: what it is called.
        model: which weights of it.
        data: that it learned.
        settings: how samples were drawn; empty where none were.
        observed: what came of it beside the numbers.
        values: the newest, by the column and by how they were computed.
    """

    place: Path
    label: str
    model: How
    data: str
    settings: How
    observed: How = field(default_factory=dict)
    values: dict[str, dict[Key, Measurement]] = field(default_factory=dict)

    def add(self, measurement: Measurement) -> None:
        self.values.setdefault(measurement.number.name, {})[key_of(measurement.metric)] = measurement
        self.observed |= measurement.observed
        self.data = measurement.data or self.data

    @property
    def sampler(self) -> str:
        return str(self.settings.get("sampler", ""))

    @property
    def nfe(self) -> float | None:
        return _number(self.observed.get("nfe"))

    @property
    def speed(self) -> float | None:
        return _number(self.observed.get("images_per_second"))

    @property
    def circumstances(self) -> How:
        """What no column says."""
        how = {key: value for key, value in {**self.model, **self.settings}.items() if key not in ("model", "sampler")}
        if self.speed is not None:
            how |= {key: self.observed[key] for key in ("device", "batch_size") if key in self.observed}
        if how.get("steps") == self.observed.get("nfe"):
            how.pop("steps", None)
        return how


def _number(value: Any) -> float | None:
    return None if not isinstance(value, int | float) else value


@dataclass
class Column:
    """A metric on its features.

    Arguments:
        name: of its numbers, as "fid/classifier-digits".
        ways: of computing it, each by its mark, which is empty where there is one alone.
        of_samples: or of the model alone.
    """

    name: str
    ways: dict[Key, tuple[str, How]]
    of_samples: bool

    @property
    def metric(self) -> str:
        return self.name.partition("/")[0]

    @property
    def features(self) -> str:
        """On what it is computed, or in what unit."""
        rest = self.name.partition("/")[2]
        return UNITS.get(rest, rest)

    @property
    def called(self) -> str:
        return self.metric.upper() if self.metric in ACRONYMS else self.metric

    @property
    def title(self) -> str:
        return f"{self.called} {self.features}".strip()

    @property
    def common(self) -> How:
        """What all of its numbers have in common."""
        return common(how for _, how in self.ways.values())

    @property
    def note(self) -> str:
        """How its numbers were computed, and what the marks mean."""
        shared = said({key: value for key, value in self.common.items() if key != "features"})
        apart = [f"[{mark}] {self.apart(how) or 'no more is said'}" for mark, how in self.ways.values() if mark]
        return "; ".join(filter(None, [shared, *apart]))

    def apart(self, how: How) -> str:
        """What tells one way from the others."""
        return said({key: value for key, value in how.items() if key not in self.common})


class Comparison:
    """Rows and columns.

    Arguments:
        measurements: older ones first; of two of the same the later counts.
    """

    def __init__(self, measurements: list[Measurement]) -> None:
        told = [m for m in measurements if m.number.name.count("/") < 2]
        labels = labelled([m.place for m in told])
        self.of_data = list({(m.number.name, key_of(m.how)): m for m in told if m.of_data}.values())
        told = [m for m in told if not m.of_data]
        rows: dict[Key, Row] = {}
        for m in told:
            if m.of_samples:
                key = (m.place, key_of(m.model), key_of(m.settings))
                rows.setdefault(key, Row(m.place, labels[m.place], m.model, m.data, m.settings)).add(m)
        for m in told:
            if not m.of_samples:
                base = (m.place, key_of(m.model))
                drawn = [row for key, row in rows.items() if key[:2] == base]
                if not drawn:
                    drawn = [rows.setdefault((*base, ()), Row(m.place, labels[m.place], m.model, m.data, {}))]
                for row in drawn:
                    row.add(m)
        places = list(labels)
        self.rows = sorted(rows.values(), key=lambda row: _order(row, places))
        self.columns = [self._column(name) for name in self._names()]

    def _names(self) -> list[str]:
        names = dict.fromkeys(name for row in self.rows for name in row.values)
        ranks = {metric: rank for rank, metric in enumerate(METRICS)}
        return sorted(names, key=lambda name: (ranks.get(name.partition("/")[0], len(ranks)), name.partition("/")[0]))

    def _column(self, name: str) -> Column:
        found = {key: m for row in self.rows for key, m in row.values.get(name, {}).items()}
        marks = [chr(ord("a") + i) if i < 26 else str(i) for i in range(len(found))] if len(found) > 1 else [""]
        ways = {key: (mark, m.metric) for (key, m), mark in zip(found.items(), marks, strict=True)}
        return Column(name, ways, any(m.of_samples for m in found.values()))

    @property
    def metrics(self) -> list[str]:
        return list(dict.fromkeys(column.metric for column in self.columns))

    def sort(self, by: str) -> None:
        """The best first, by a metric or by "nfe" or "images_per_second"; rows that have none come last."""

        def rank(row: Row) -> tuple[bool, float]:
            found: float | None
            if by in ("nfe", "images_per_second"):
                found = row.nfe if by == "nfe" else row.speed
            else:
                named = [c.name for c in self.columns if c.metric == by and c.name in row.values]
                found = next(iter(row.values[named[0]].values())).number.value if named else None
            missing = found is None or found != found
            return missing, 0 if missing or found is None else -found if by in RISING else found

        self.rows.sort(key=rank)

    def notes(self) -> list[str]:
        """What the columns leave out: what rows have in common, and how each metric was computed."""
        lines = [f"{', '.join(names) or 'all'}: {said(how)}" for names, how in self._common.items() if how]
        metrics: dict[str, list[str]] = {}
        for column in self.columns:
            metrics.setdefault(column.note, []).append(column.title)
        lines += [f"{', '.join(titles)}: {note}" for note, titles in metrics.items() if note]
        if any(row.speed is not None for row in self.rows):
            lines.append("images/s: of the drawing alone, by the clock")
        return lines + [f"{m.number.name} {value_text(m.number)}: {said(m.how)}" for m in self.of_data]

    def how(self, row: Row) -> str:
        """What is said of this row and of none of the notes."""
        known = [how for names, how in self._common.items() if not names or {row.sampler, row.label} & set(names)]
        return said({k: v for k, v in row.circumstances.items() if all(how.get(k) != v for how in known)})

    @cached_property
    def _common(self) -> dict[tuple[str, ...], How]:
        """What all rows say, then what all rows of some samplers do, then of some runs, by the names of these."""
        hows = [row.circumstances for row in self.rows]
        # Where no samples were drawn, nothing is said of drawing.
        drawn = [row.circumstances for row in self.rows if row.settings] or hows
        of_all = {k: v for k, v in common(drawn).items() if all(how.get(k, v) == v for how in hows)}
        found: dict[tuple[str, ...], How] = {(): of_all}
        known = [of_all] * len(self.rows)
        for names in ([row.sampler for row in self.rows], [row.label for row in self.rows]):
            groups: dict[str, How] = {}
            for name in filter(None, dict.fromkeys(names)):
                inside = [i for i, other in enumerate(names) if other == name]
                left = [{k: v for k, v in hows[i].items() if known[i].get(k) != v} for i in inside]
                groups[name] = common(left)
            for item in dict.fromkeys(item for how in groups.values() for item in how.items()):
                together = tuple(name for name, how in groups.items() if item in how.items())
                found.setdefault(together, {})[item[0]] = item[1]
            known = [{**how, **groups.get(name, {})} for how, name in zip(known, names, strict=True)]
        return found


def _order(row: Row, places: list[Path]) -> tuple[Any, ...]:
    settings = {key: value for key, value in row.settings.items() if key not in ("sampler", "steps")}
    step = row.model.get("step")
    return (
        places.index(row.place),
        step if isinstance(step, int) else 0,
        str(row.model.get("weights")),
        row.sampler,
        key_of(settings),
        row.nfe or 0,
    )


def labelled(places: list[Path]) -> dict[Path, str]:
    """The end of each path, as long as it takes to tell it from the others; a number alone is no name."""
    found = {place: place.resolve().parts for place in dict.fromkeys(places)}
    labels = {}
    for place, parts in found.items():
        length = 2 if parts[-1].isdigit() else 1
        while length < len(parts) and sum(other[-length:] == parts[-length:] for other in found.values()) > 1:
            length += 1
        labels[place] = "/".join(parts[-length:])
    return labels


def digits(value: float) -> str:
    """Four digits, and no power of ten where it takes no more room."""
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:#.4g}".rstrip(".")


def value_text(number: Number) -> str:
    return digits(number.value) if number.error is None else f"{digits(number.value)} ± {number.error:.2g}"
