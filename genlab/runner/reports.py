"""What a task reports beside samples: numbers of each and their means, and curves, as tables, CSV files and plots."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from genlab.core.files import replacing
from genlab.core.spec import Batch
from genlab.metrics.record import How, Number
from genlab.runner.table import WIDTH, show
from genlab.tasks.contract import Curve, Task

NUMBERS = "numbers.json"


def report(task: Task, values: Batch, data: list[int] | None, folder: Path, how: How) -> None:
    """Print what the values of all samples come to, and write it into the folder.

    Arguments:
        values: (N,) or (N, K) under each key of the task's `numbers` and `traces`.
        data: the number of the datum that each sample is about, where it is about one.
        how: what drew them.
    """
    if task.numbers:
        numbers = means(task, values, how)
        _save(folder / NUMBERS, json.dumps([number.to_json() for number in numbers], indent=1) + "\n")
        listed: dict[str, Sequence[float]] = {"sample": range(len(next(iter(values.values()))))}
        if data is not None:
            listed["datum"] = data
        listed |= {key: values[key].tolist() for key in task.numbers}
        _save(folder / "numbers.csv", as_csv(listed))
        show(numbers, f"task={task.name}")
    for curve in task.curves(values):
        _save(folder / f"{curve.name}.csv", as_csv(curve.columns))
        with replacing(folder / f"{curve.name}.png") as file:
            file.write(plotted(curve))
        show_curve(curve)


def means(task: Task, values: Batch, how: How) -> list[Number]:
    """The mean of each of the task's numbers over the samples."""
    found = []
    for key, quantity in task.numbers.items():
        x = values[key].double()
        error = float(x.std() / len(x) ** 0.5) if len(x) > 1 else None
        circumstances: How = {"is": quantity.how, "n": len(x), **how}
        if error is not None:
            circumstances["error"] = "standard error over samples"
        found.append(Number(f"{task.name}/{key}", float(x.mean()), error, quantity.unit, circumstances))
    return found


def as_csv(columns: Mapping[str, Sequence[float]]) -> str:
    """A line of names, and a line a row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def show_curve(curve: Curve) -> None:
    """Some of the rows, as a table on stdout."""
    table = Table(title=curve.name.replace("_", " "), caption=curve.how)
    for name in curve.columns:
        table.add_column(name, justify="right")
    rows = list(zip(*curve.columns.values(), strict=True))
    for i in evenly(len(rows), curve.shown):
        table.add_row(*(f"{value:.5g}" for value in rows[i]))
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH)).print(table)


def evenly(count: int, some: int) -> list[int]:
    """At most so many of 0 .. count - 1, evenly spaced, first and last among them."""
    some = min(count, some)
    return sorted({round(i * (count - 1) / max(1, some - 1)) for i in range(some)})


def plotted(curve: Curve) -> bytes:
    """The curve's plots side by side, as a PNG file's bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(curve.plots), 3.6), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for axes, (across, up) in zip(figure.subplots(1, len(curve.plots), squeeze=False)[0], curve.plots, strict=True):
        axes.plot(curve.columns[across], curve.columns[up], linewidth=1.5)
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()


def _save(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())
