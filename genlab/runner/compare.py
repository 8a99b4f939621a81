"""`genlab compare`: what was measured of many runs, as one table in text and CSV, and a metric drawn against NFE.

It reads evaluations.jsonl alone, and needs neither torch nor Hydra.
"""

import csv
import datetime
import io
import os
import shutil
import sys
import textwrap
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from genlab.core.errors import UserError
from genlab.core.files import replacing
from genlab.runner.comparison import METRICS, Column, Comparison, Row, digits, value_text
from genlab.runner.configs import config_folder, fail, nearest
from genlab.runner.evaluations import files, read
from genlab.runner.folders import CHECKPOINTS, OUTPUTS
from genlab.runner.nfe_plot import drawn
from genlab.runner.page import TextColumn, page
from genlab.runner.table import WIDTH, said

FILES = ("compare.txt", "compare.csv", "compare.png")
NONE = "-"
# Widths down to which the names of runs, and what is said of a row alone, are folded.
RUN, HOW = 16, 24


@dataclass(frozen=True)
class Asked:
    """The command line.

    Arguments:
        runs: as they were named.
        options: each of those in compare.yaml.
        typed: the names of the options that were given.
    """

    runs: list[str]
    options: dict[str, Any]
    typed: list[str]


def asked(words: list[str]) -> Asked:
    """Runs and options, in any order.

    Raises:
        UserError: for what is neither.
    """
    options = yaml.safe_load((config_folder() / "compare.yaml").read_text(encoding="utf-8"))
    runs, typed = [], []
    for word in words:
        name, equals, value = word.partition("=")
        if word.startswith("-"):
            raise UserError(f"{word}: compare has no flags; write RUN ... or option=value")
        if not equals or (name not in options and Path(word).expanduser().exists()):
            runs.append(word)
        elif name not in options:
            raise UserError(f"{word}: there is no such option{nearest(name, list(options))}")
        else:
            options[name] = None if value in ("", "null") else value.strip("'\"")
            typed.append(name)
    if options["metric"] not in METRICS[:-1]:
        raise UserError(f"metric={options['metric']}: choose {', '.join(METRICS[:-1])}")
    by = (*METRICS, "nfe", "images_per_second")
    if options["sort"] not in (None, *by):
        raise UserError(f"sort={options['sort']}: choose {', '.join(by)}")
    return Asked(runs, options, typed)


def launch(words: list[str]) -> int:
    """Run the command and return its exit status."""
    try:
        compare(words)
    except UserError as error:
        if os.environ.get("GENLAB_DEBUG") == "1":
            traceback.print_exception(error)
        return fail(str(error))
    return 0


def compare(words: list[str]) -> None:
    """Print the table, and write compare.txt, compare.csv and compare.png."""
    question = asked(words)
    folder = None if question.options["out"] is None else Path(question.options["out"]).expanduser()
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UserError(f"out={folder}: there is a file of this name; name a folder")
    found = files(question.runs)
    measurements = [measurement for file in found for measurement in read(file)]
    comparison = Comparison(measurements)
    if not comparison.rows:
        raise UserError(f"{', '.join(map(str, found))}: there is no number of a run in it; measure one by genlab eval")
    metric = question.options["metric"]
    for option in ("metric", "sort"):
        value = question.options[option]
        if option in question.typed and value in METRICS and value not in comparison.metrics:
            there = ", ".join(comparison.metrics) or "none"
            raise UserError(f"{option}={value}: it was not measured of these runs; there are {there}")
    if question.options["sort"] is not None:
        comparison.sort(question.options["sort"])
    paths = write(comparison, folder or default_folder(question.runs, found), metric)
    print(text(comparison, shutil.get_terminal_size((WIDTH, 24)).columns), end="")
    print(*paths, sep="\n")
    if len(paths) < len(FILES):
        print(f"no {metric} of these runs has an NFE, and there is no picture of it", file=sys.stderr)


def default_folder(runs: list[str], found: list[Path]) -> Path:
    """That of the run, where there is one with what was measured of its samples; else a new one."""
    if len(runs) == 1 and (Path(runs[0]).expanduser() / CHECKPOINTS).is_dir():
        return Path(runs[0]).expanduser()
    first = min((file.parent for file in found), key=lambda folder: len(folder.resolve().parts))
    if all(file.resolve().is_relative_to(first.resolve()) for file in found):
        return first
    now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder, number = OUTPUTS / f"{now}_compare", 1
    while folder.exists():
        number += 1
        folder = OUTPUTS / f"{now}_compare_{number}"
    return folder


def write(comparison: Comparison, folder: Path, metric: str) -> list[Path]:
    """The files that are written, of which the picture is not one where there is nothing to draw."""
    contents = text(comparison, None).encode(), sheet(comparison).encode(), drawn(comparison, metric)
    paths = []
    for name, content in zip(FILES, contents, strict=True):
        if content is not None:
            with replacing(folder / name) as file:
                file.write(content)
            paths.append(folder / name)
    return paths


def text(comparison: Comparison, width: int | None) -> str:
    """The table with its notes.

    Arguments:
        width: of the page in characters; None is as wide as the table.
    """
    rows = comparison.rows

    def once(cell: Callable[[Row], str]) -> list[str]:
        """What is said of a model, once for all of its rows that follow one another."""
        models = [(row.place, row.model) for row in rows]
        return [cell(row) if i == 0 or models[i] != models[i - 1] else "" for i, row in enumerate(rows)]

    columns = [
        TextColumn("run", once(lambda row: row.label), least=RUN, leads=True),
        TextColumn("model", once(lambda row: str(row.model.get("model", NONE)))),
        TextColumn("data", once(lambda row: row.data or NONE)),
        TextColumn("sampler", [row.sampler or NONE for row in rows], leads=True),
        TextColumn("NFE", [NONE if row.nfe is None else f"{row.nfe:g}" for row in rows], right=True, leads=True),
    ]
    for column in comparison.columns:
        cell = partial(_cell, column)
        cells = list(map(cell, rows)) if column.of_samples else once(cell)
        columns.append(TextColumn(_head(column), cells, right=True))
    speeds = [NONE if row.speed is None else digits(row.speed) for row in rows]
    columns.append(TextColumn("images/s", speeds, right=True))
    hows = [comparison.how(row) for row in rows]
    if any(hows):
        columns.append(TextColumn("how computed", hows, least=HOW))
    lines = page(columns, width)
    # Where the page has no end, the notes end with the table.
    most = width or max(WIDTH, *map(len, lines))
    lines.append("")
    for note in comparison.notes():
        lines += textwrap.wrap(note, most, subsequent_indent="  ", break_on_hyphens=False)
    return "".join(f"{line}\n" for line in lines)


def _head(column: Column) -> str:
    """The title in short lines."""
    return f"{column.called}\n{column.features.replace('-', '-' + chr(10))}".strip()


def _cell(column: Column, row: Row) -> str:
    found = row.values.get(column.name, {})
    marked = [(column.ways[key][0], measurement) for key, measurement in found.items()]
    return "\n".join(value_text(m.number) + (f" [{mark}]" if mark else "") for mark, m in marked) or NONE


def sheet(comparison: Comparison) -> str:
    """A line a row, each number in full and by itself, with all that is known of it."""
    hows = [{**row.model, **row.settings, **row.observed} for row in comparison.rows]
    first = ("model", "step", "weights", "sampler", "steps", "nfe")
    keys = [*first, *(key for key in dict.fromkeys(key for how in hows for key in how) if key not in first)]
    ways = [(column, key, mark) for column in comparison.columns for key, (mark, _) in column.ways.items()]
    head = ["run", "folder", "data", *keys]
    for column, _, mark in ways:
        name = f"{column.name} [{mark}]" if mark else column.name
        head += [name, f"{name} error", f"{name} how", f"{name} time"]
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(head)
    for row, how in zip(comparison.rows, hows, strict=True):
        cells: list[Any] = [row.label, str(row.place), row.data, *(how.get(key, "") for key in keys)]
        for column, key, _ in ways:
            m = row.values.get(column.name, {}).get(key)
            cells += ["", "", "", ""] if m is None else [m.number.value, m.number.error, said(m.metric), m.time]
        lines.writerow(cells)
    return file.getvalue()
