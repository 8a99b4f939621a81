"""A metric against the number of function evaluations: a line a sampler, and a panel for each kind of features."""

import io
import math
from dataclasses import dataclass

from genlab.metrics.record import How
from genlab.runner.comparison import Column, Comparison, Key, Row, key_of
from genlab.runner.table import common, said

# From here on the values have a logarithmic axis too.
WIDE = 10
# A colour and a marker a sampler, a kind of line a run.
MARKERS = "os^Dvp<>hX"
STYLES = ("-", "--", ":", "-.")
# The least distance of two NFE that are written at the axis, as a part of it.
APART = 0.05
# So many lines leave room for their names among them.
FEW = 5


@dataclass
class Line:
    """Points of one sampler.

    Arguments:
        run: where there are several.
        name: what tells it from the others of the run.
        points: (NFE, value, error) with rising NFE.
    """

    run: str
    name: str
    points: list[tuple[float, float, float]]


def lines(comparison: Comparison, column: Column) -> list[Line]:
    """The lines of a panel: one for each run, sampler, its settings but for steps, and way of computing the metric."""
    found: dict[Key, list[tuple[Row, Key]]] = {}
    for row in comparison.rows:
        for way in row.values.get(column.name, {}):
            if row.nfe is not None and row.nfe > 0:
                key = (row.place, key_of(row.model), row.sampler, key_of(_constant(row)), way)
                found.setdefault(key, []).append((row, way))
    groups = list(found.values())
    named = len({group[0][0].label for group in groups}) > 1
    lines = []
    for group in groups:
        row, way = group[0]
        near = [g[0][0] for g in groups if (g[0][0].place, g[0][0].sampler) == (row.place, row.sampler)]
        shared = common(_constant(other) for other in near)
        own = said({key: value for key, value in _constant(row).items() if shared.get(key) != value})
        apart = column.apart(column.ways[way][1])
        name = " ".join(filter(None, [row.sampler or "samples", own, f"({apart})" if apart else ""]))
        lines.append(Line(row.label if named else "", name, _points(group, column)))
    return lines


def _constant(row: Row) -> How:
    """What is the same along a line."""
    return {key: value for key, value in {**row.model, **row.settings}.items() if key not in ("sampler", "steps")}


def _points(group: list[tuple[Row, Key]], column: Column) -> list[tuple[float, float, float]]:
    points = []
    for row, way in group:
        number = row.values[column.name][way].number
        if math.isfinite(number.value):
            points.append((row.nfe or 0.0, number.value, number.error or 0.0))
    return sorted(points)


def drawn(comparison: Comparison, metric: str) -> bytes | None:
    """A PNG; None where no value of the metric has an NFE."""
    panels = [(c, lines(comparison, c)) for c in comparison.columns if c.metric == metric]
    panels = [(column, [line for line in found if line.points]) for column, found in panels]
    panels = [(column, found) for column, found in panels if found]
    if not panels:
        return None
    # The figure's own class draws without a screen, and quicker than by way of pyplot.
    from matplotlib.figure import Figure

    wide = 9.5 if any(len(found) > FEW for _, found in panels) else 7.0
    figure = Figure(figsize=(wide * len(panels), 4.8), dpi=120, layout="constrained")
    for axes, (column, found) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _panel(axes, column, found)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _panel(axes, column: Column, found: list[Line]) -> None:  # type: ignore[no-untyped-def]
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

    names, runs = ([*dict.fromkeys(what)] for what in ([line.name for line in found], [line.run for line in found]))
    for line in found:
        x, y, error = zip(*line.points, strict=True)
        number, run = names.index(line.name), runs.index(line.run)
        style = f"C{number % 10}", MARKERS[number % len(MARKERS)], STYLES[run % len(STYLES)]
        label = f"{line.run}: {line.name}" if line.run else line.name
        axes.errorbar(
            x, y, yerr=error if any(error) else None, fmt="".join(style), capsize=2, markersize=5, label=label
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(_ticks({point[0] for line in found for point in line.points})))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    values = [point[1] for line in found for point in line.points]
    if min(values) > 0 and max(values) > WIDE * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("function evaluations (NFE)")
    axes.set_ylabel(column.title)
    axes.set_title(said({key: column.common[key] for key in ("n", "reference") if key in column.common}), fontsize=9)
    axes.grid(which="major", alpha=0.3)
    few = len(found) <= FEW
    axes.legend(fontsize=8, handlelength=3, **({} if few else {"loc": "upper left", "bbox_to_anchor": (1.01, 1)}))


def _ticks(evaluations: set[float]) -> list[float]:
    """Those that have room at a logarithmic axis, from the left."""
    room = APART * math.log(max(evaluations) / min(evaluations))
    kept: list[float] = []
    for nfe in sorted(evaluations):
        if not kept or math.log(nfe / kept[-1]) >= room:
            kept.append(nfe)
    return kept
