"""What `genlab eval` measured, read from its files: a line of JSON a number, the newest last. Nothing else is read.

A number says how it came about (`how`). Of that, some is about the model, some about how its samples were drawn, and
the rest about the metric; only numbers of which the last is equal may be compared.
"""

import difflib
import json
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from genlab.core.errors import UserError
from genlab.metrics.record import How, Number
from genlab.runner.folders import CHECKPOINTS, OUTPUTS

FILE = "evaluations.jsonl"
# Folders below the one that is named: a sweep's run, its samples, and those of one command.
DEPTH = 4
# Folders of a run that hold other things, and many files.
PASSED_BY = (CHECKPOINTS, "tensorboard")

OF_MODEL = ("model", "step", "weights")
# Of numbers about samples. A number without features is about the model alone, and all else is of the metric.
OF_METRIC = (
    *("features", "n", "reference", "reference_n", "splits", "subsets", "subset_size", "k", "error"),
    *("modes", "least", "deviations", "sure", "of_perfect"),
)
OF_FEATURES = ("classifier_", "inception_")
# What came of it, by which no two settings are told apart.
OBSERVED = ("nfe", "images_per_second", "device", "batch_size")
# A data set and a part of it, as numbers name them.
SPLIT = re.compile(r"(.+) (?:train\+validation|train|validation|test)")
# Said by the place.
PLACE = ("samples", "trained_on")


@dataclass(frozen=True)
class Measurement:
    """A number, and where it was found.

    Arguments:
        place: the run's folder; of pictures their folder or file, and of a checkpoint that lies alone its file.
        number: with how it was computed.
        time: when it was measured.
    """

    place: Path
    number: Number
    time: str = ""

    @property
    def how(self) -> How:
        return self.number.how

    @property
    def of_samples(self) -> bool:
        return "features" in self.how or "sampler" in self.how

    @property
    def of_data(self) -> bool:
        """About data alone, as the distance between their halves."""
        return "model" not in self.how and "samples" not in self.how

    @cached_property
    def model(self) -> How:
        """Which weights of the run."""
        return {key: self.how[key] for key in OF_MODEL if key in self.how}

    @cached_property
    def metric(self) -> How:
        """What must be equal where two values are compared."""
        if self.of_samples:
            return {key: value for key, value in self.how.items() if key in OF_METRIC or key.startswith(OF_FEATURES)}
        return {key: value for key, value in self.how.items() if key not in (*OF_MODEL, *PLACE)}

    @cached_property
    def settings(self) -> How:
        """How the samples were drawn."""
        if not self.of_samples:
            return {}
        aside = (*OF_MODEL, *PLACE, *OBSERVED, *self.metric)
        said = {key: value for key, value in self.how.items() if key not in aside}
        # Before the steps were told, as the speed is, there was an evaluation for each.
        told = "steps" in said or "images_per_second" in self.how or "nfe" not in self.how
        return said if told else {**said, "steps": self.how["nfe"]}

    @property
    def observed(self) -> How:
        return {key: self.how[key] for key in OBSERVED if key in self.how}

    @property
    def data(self) -> str:
        """The data that the model learned, else those that it is compared with."""
        if "trained_on" in self.how:
            return str(self.how["trained_on"])
        split = SPLIT.fullmatch(str(self.how.get("data", self.how.get("reference", ""))))
        return split[1] if split else ""


def files(words: list[str]) -> list[Path]:
    """The files of evaluations that are meant, each once.

    Arguments:
        words: runs, files, or folders of several runs; none is all runs under `outputs`.

    Raises:
        UserError: there is no such place, or nothing was measured in it.
    """
    found: dict[Path, Path] = {}
    for word in words or [str(OUTPUTS)]:
        path = Path(word).expanduser()
        try:
            here = [path] if path.is_file() else _below(path)
        except OSError as error:
            raise UserError(f"{word} cannot be read: {error.strerror}") from error
        if path.is_file() and path.suffix != ".jsonl":
            raise UserError(f"{word}: name a run folder, an {FILE}, or a folder of several runs")
        if not words and not here:
            raise UserError(f"there are no evaluations under {OUTPUTS}: measure a run by genlab eval, or name one")
        if not path.exists():
            raise UserError(f"{word}: there is no such run{_near(path)}")
        if not here:
            raise UserError(f"{word}: nothing was measured there; measure a run by genlab eval ckpt=RUN")
        found |= {file.resolve(): file for file in here}
    return list(found.values())


def _below(folder: Path) -> list[Path]:
    found = []
    for place, inner, names in os.walk(folder):
        deep = len(Path(place).relative_to(folder).parts) >= DEPTH
        inner[:] = [] if deep else sorted(n for n in inner if not n.startswith(".") and n not in PASSED_BY)
        if FILE in names:
            found.append(Path(place) / FILE)
    return found


def _near(path: Path) -> str:
    parent = path.parent
    beside = [other.name for other in parent.iterdir() if other.is_dir()] if parent.is_dir() else []
    runs = [str(file.parent) for file in _below(OUTPUTS)]
    for name, names, root in ((path.name, beside, parent), (str(path), runs, Path())):
        close = difflib.get_close_matches(name, names, n=1)
        if close:
            return f"; did you mean {root / close[0]}?"
    return ""


def read(file: Path) -> list[Measurement]:
    """The numbers of one file, in its order.

    Raises:
        UserError: a line is none of `genlab eval`; it is named.
    """
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise UserError(f"{file}: line {number} is broken: it is not JSON; take it out or mend it") from None
        wrong = _wrong(row)
        if wrong:
            raise UserError(f"{file}: line {number} is broken: {wrong}; take it out or mend it")
        found.append(Measurement(_place(file, row), Number.from_json(row), str(row.get("time", ""))))
    return found


def _wrong(row: Any) -> str | None:
    """What a line lacks of being a number of ours."""
    if not isinstance(row, dict):
        return "it is not an object"
    kinds: dict[str, Collection[type]] = {
        "name": (str,),
        "value": (int, float),
        "error": (int, float, type(None)),
        "unit": (str,),
        "how": (dict,),
    }
    for key, allowed in kinds.items():
        if key not in row:
            return f"it has no {key}"
        if type(row[key]) not in allowed:
            return f"its {key} is {type(row[key]).__name__}"
    for key, value in row["how"].items():
        if not isinstance(value, str | int | float):
            return f"its how.{key} is {type(value).__name__}"
    return None


def _place(file: Path, row: dict[str, Any]) -> Path:
    """What the number is about: one folder can hold the numbers of several files that lie in it."""
    samples, checkpoint = Path(str(row.get("samples", ""))), Path(str(row.get("checkpoint", "")))
    if samples.suffix.lower() == ".npz":
        return file.parent / samples.name
    if checkpoint.name and checkpoint.parent.name != CHECKPOINTS:
        return file.parent / checkpoint.name
    return file.parent
