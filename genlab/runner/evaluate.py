"""`genlab eval`: numbers about a trained model, in a table, each with how it was computed, and in evaluations.jsonl."""

import datetime
import inspect
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import Tensor

from genlab import __version__
from genlab.core.collectives import world
from genlab.core.errors import UserError
from genlab.data.contract import DataSet, SplitName
from genlab.metrics.cache import PUBLISHED
from genlab.metrics.contract import OF_CODES, CodeMetric, DrawnMetric, SampleMetric, check_enough
from genlab.metrics.features import Extractor, FeatureSet, extract
from genlab.metrics.likelihood import NegativeLogLikelihood
from genlab.metrics.record import How, Number
from genlab.runner import processes
from genlab.runner.build import build, component
from genlab.runner.checkpoint import load_checkpoint, resolve, run_of
from genlab.runner.checkpointed import Trained, checked_numbers, chosen_device, open_checkpoint, sampler_note
from genlab.runner.coded import Coded
from genlab.runner.compose import plain
from genlab.runner.configs import choices, config_folder, nearest
from genlab.runner.devices import processes_asked
from genlab.runner.estimated import informed
from genlab.runner.judged import pictures_in
from genlab.runner.measure import (
    Drawing,
    extractor_for,
    judge,
    keeps_features,
    likelihood,
    reference,
    sample_features,
    samples_needed,
    share,
)
from genlab.runner.meeting import agreed, in_turn, joined
from genlab.runner.progress import meter
from genlab.runner.sample import read_record
from genlab.runner.sampled import Sampled
from genlab.runner.table import show

SETTINGS = ("n", "features", "split", "data", "against", "reference", "write_reference")
# The data that samples are compared with.
AGAINST: dict[str, tuple[SplitName, ...]] = {"train": PUBLISHED, "test": ("test",)}
# What a metric needs of the model, by what it is computed from, any one of these abilities; else it is samples.
ABILITIES = {
    "nll": ("nll",),
    "codes": ("encode",),
    "decode": ("decode",),
    "inner": ("encode", "features"),
    "classify": ("classify",),
    "drawn": ("sample",),
}
# Of the record of samples, what a number about them does not repeat.
ASIDE = ("checkpoint", "fingerprint", "complete", "n", "format", "genlab")


def evaluate(composed: DictConfig) -> None:
    """Measure a trained model, or any program's pictures."""
    checked_numbers(composed, ("batch_size",))
    question = asked(composed)
    if composed.samples is not None:
        check_pictures(composed, question)
    with joined():
        count = processes_asked(composed.devices, composed.device)
        if composed.samples is None and composed.ckpt is None:
            path = agreed(lambda: resolve(None))
            print(f"evaluating the newest run, {run_of(path)}", file=sys.stderr)
            composed.ckpt = str(path)
        if count > 1 and world()[1] == 1:
            processes.run(answer, (composed,), count)
        else:
            answer(composed)


def answer(composed: DictConfig) -> None:
    """One process's part; the first shows the numbers, and keeps them."""
    question = asked(composed)
    if composed.samples is not None:
        place = Path(composed.samples).expanduser()
        numbers = judged(place, composed, question)
        title, folder, source = str(place), place if place.is_dir() else place.parent, {"samples": str(place)}
    else:
        trained = open_checkpoint(composed)
        check_abilities(trained, question.metrics)
        numbers = measured(trained, question)
        title, folder = f"{trained.run}, step {trained.checkpoint.step}", trained.run
        source = {"checkpoint": str(trained.checkpoint.path)}
    if world()[0] == 0:
        show(numbers, title)
        append(numbers, folder / "evaluations.jsonl", source)


@dataclass(frozen=True)
class Question:
    """What is to be measured, and how.

    Arguments:
        metrics: by name.
        settings: that all metrics share.
        seed: of samples, and of the noise in a bound.
        batch_size: of everything.
    """

    metrics: dict[str, Any]
    settings: dict[str, Any]
    seed: int
    batch_size: int

    @property
    def distances(self) -> dict[str, SampleMetric]:
        """The metrics of samples."""
        return {name: m for name, m in self.metrics.items() if not m.needs & ABILITIES.keys()}

    @property
    def likelihoods(self) -> list[NegativeLogLikelihood]:
        return [metric for metric in self.metrics.values() if isinstance(metric, NegativeLogLikelihood)]

    @property
    def of_drawn(self) -> dict[str, DrawnMetric]:
        """The metrics of samples themselves."""
        return {name: m for name, m in self.metrics.items() if "drawn" in m.needs}

    @property
    def of_codes(self) -> dict[str, CodeMetric]:
        """The metrics of codes."""
        return {name: m for name, m in self.metrics.items() if m.needs & OF_CODES}

    def check_logits(self, extractor: Extractor) -> None:
        if any("logits" in metric.needs for metric in self.distances.values()) and not extractor.has_logits:
            raise UserError(
                f"metric=is: the {extractor.name} weights have no classifier head; use metric.features=classifier on "
                "labelled data, leave `is` out, or give weights that have the head"
            )

    @property
    def splits(self) -> list[SplitName]:
        """Of the data, those that are looked at."""
        against = AGAINST[self.settings["against"]] if self.distances else ()
        return [*against, *([self.settings["split"]] if self.likelihoods or self.of_codes else [])]

    def reference(self, extractor: Extractor, data: DataSet | None) -> FeatureSet:
        keep = any("features" in metric.needs for metric in self.distances.values())
        splits = AGAINST[self.settings["against"]]
        real = reference(extractor, data, self.settings["reference"], self.batch_size, keep, splits=splits)
        for name, metric in self.distances.items():
            least = metric.least(extractor.dimension)
            if real.n is not None and real.n < least and metric.needs & {"statistics", "features"}:
                raise UserError(
                    f"metric={name}: there are {real.n} data to compare with, and on {extractor.dimension} features it "
                    f"needs {least}; choose metric.features=classifier on labelled data, or other metrics"
                )
        if self.settings["write_reference"] is not None and world()[0] == 0:
            real.statistics.save(Path(self.settings["write_reference"]).expanduser())
        return real


def asked(composed: DictConfig) -> Question:
    """What the command line asks, each metric built from its options."""
    config = plain(composed, ("metric",))["metric"]
    settings = {name: config.pop(name, None) for name in SETTINGS}
    check_settings(settings)
    for name, options in config.items():
        if not isinstance(options, dict) or "_target_" not in options:
            raise UserError(f"metric.{name}: there is no such option{nearest(name, list(SETTINGS))}")
    metrics = {name: build(options, path=f"metric.{name}") for name, options in config.items()}
    if not metrics:
        raise UserError("metric: name at least one, as metric=[fid,nll]")
    return Question(metrics, settings, composed.seed, composed.batch_size)


def check_settings(settings: dict[str, Any]) -> None:
    if settings["split"] not in ("train", "validation", "test"):
        raise UserError(f"metric.split={settings['split']}: choose train, validation or test")
    if settings["against"] not in tuple(AGAINST):
        raise UserError(f"metric.against={settings['against']}: choose {' or '.join(AGAINST)}")
    if settings["against"] != "train" and settings["reference"] is not None:
        raise UserError("metric.against and metric.reference: name one of them, a split of the data or a file")
    for name in ("n", "data"):
        value = settings[name]
        if value is not None and (not isinstance(value, int) or value < 1):
            raise UserError(f"metric.{name}={value}: must be a number of at least 1, or null")
    if settings["features"] not in (None, "classifier", "inception"):
        raise UserError(f"metric.features={settings['features']}: choose classifier, inception or null")


def check_abilities(trained: Trained, metrics: dict[str, Any]) -> None:
    for name, metric in metrics.items():
        needed = [ABILITIES[need] for need in sorted(metric.needs) if need in ABILITIES] or [("sample",)]
        if not all(trained.model.can.intersection(abilities) for abilities in needed):
            model = trained.config.get("choices", {}).get("model", type(trained.model).__name__)
            raise UserError(f"metric={name}: model={model} cannot have it; models that can: {', '.join(able(needed))}")


def able(needed: list[tuple[str, ...]]) -> list[str]:
    """The shipped models that have one of each of these abilities, as their classes say."""
    import yaml

    found = []
    for name in choices("model"):
        target = yaml.safe_load((config_folder() / "model" / f"{name}.yaml").read_text(encoding="utf-8"))["_target_"]
        can: frozenset[str] = component(target).can  # type: ignore[attr-defined]
        if all(can.intersection(abilities) for abilities in needed):
            found.append(name)
    return found


def measured(trained: Trained, question: Question) -> list[Number]:
    """Every number of a model, the cheap refusals first and no sample drawn twice."""
    model, data, settings = trained.model, trained.data(), question.settings
    seed, batch_size = question.seed, question.batch_size
    in_turn(lambda: [data.split(name) for name in question.splits])
    taught = trained_on(trained, data)
    codes = Coded(model, data, settings["split"], settings["data"], batch_size, judge=settings["features"])
    for of_codes in question.of_codes.values():
        of_codes.check(codes)
    numbers: list[Number] = []
    sampler: Any = None
    how: How = {}
    if question.distances or question.of_drawn:
        sampler = informed(trained, trained.part("sampler"))
        how = {**trained.how(), "trained_on": taught, **drawn_by(trained, sampler), "seed": seed}
    for of_drawn in question.of_drawn.values():
        sampled = Sampled(Drawing(model, sampler, seed, batch_size, how=how), data)
        of_drawn.check(sampled)
        numbers += of_drawn.evaluate(sampled)
    if question.distances:
        extractor = extractor_for(data, settings["features"], model.device)
        question.check_logits(extractor)
        real = question.reference(extractor, data)
        n = samples_needed(question.distances, extractor, real)
        drawing = Drawing(model, sampler, seed, batch_size, how=how)
        fake = sample_features(extractor, drawing, n, keeps_features(question.distances))
        numbers += judge(question.distances, real, fake)
    for metric in question.likelihoods:
        estimator = trained.part("estimator")
        found = likelihood(model, data, metric, estimator, settings["split"], seed, batch_size)
        numbers += [replace(x, how={**x.how, **trained.how(), "trained_on": taught}) for x in found]
    for of_codes in question.of_codes.values():
        found = of_codes.evaluate(codes)
        numbers += [replace(x, how={**x.how, **trained.how(), "trained_on": taught}) for x in found]
    return numbers


def trained_on(trained: Trained, data: DataSet) -> str:
    """The data that the model learned, by their identity, or as they were chosen where they are not here."""
    config = trained.checkpoint.config
    if trained.config["data"] == config.get("data"):
        return data.identity
    try:
        return build(config["data"], path="data").identity
    except (UserError, OSError, KeyError):
        return str(config.get("choices", {}).get("data", "unknown"))


def drawn_by(trained: Trained, sampler: Any) -> How:
    """How samples are drawn, so that no two samplers are said alike."""
    if sampler is None:
        return {}
    note: How = {key: value for key, value in sampler_note(sampler, trained.model).items() if value is not None}
    schedule, steps = getattr(trained.model, "schedule", None), getattr(sampler, "steps", None)
    if steps is None and "nfe" in note and hasattr(sampler, "times"):
        steps = len(sampler.times(schedule)) - 1
    taken: How = {} if steps is None else {"steps": steps}
    return {"sampler": note.pop("sampler"), **told(trained.config["sampler"]), **taken, **note}


def told(options: Any, prefix: str = "") -> How:
    """A sampler's options, and its parts', less those that are as its class has them where nothing is said."""
    if not isinstance(options, dict):
        return {}
    try:
        parameters = inspect.signature(component(options.get("_target_"))).parameters
    except (UserError, TypeError, ValueError):
        return {}
    said: How = {}
    for name, value in options.items():
        if isinstance(value, dict):
            said[f"{prefix}{name}"] = str(value.get("_target_")).rpartition(".")[2]
            said |= told(value, f"{prefix}{name}.")
        elif name in parameters and value != parameters[name].default:
            said[f"{prefix}{name}"] = value if isinstance(value, str | int | float) else json.dumps(value)
    return said


def check_pictures(composed: DictConfig, question: Question) -> None:
    """Refuse what pictures without a model cannot be asked."""
    if composed.ckpt is not None:
        raise UserError("samples and ckpt: name one of them, pictures or a model")
    for name, metric in question.metrics.items():
        if metric.needs & ABILITIES.keys():
            raise UserError(f"metric={name}: it is a number of a model, and samples= names pictures; leave it out")
    for name in ("sampler", "guidance", "estimator"):
        if composed[name] is not None:
            raise UserError(f"{name}: samples= names pictures that are drawn already; leave it out")


def judged(place: Path, composed: DictConfig, question: Question) -> list[Number]:
    """Every number of the pictures in a folder, or in an .npz file."""
    record = read_record(place) if place.is_dir() else None
    if record is not None and record.get("complete") is False:
        raise UserError(f"samples={place}: not all samples are there; give the same `genlab sample` command again")
    if record is not None and record.get("format") == "png" and record.get("layout", [["x"]]) != [["x"]]:
        raise UserError(
            f"samples={place}: they are strips of all that a task shows; draw them with format=npz to judge x"
        )
    settings, metrics = question.settings, question.distances
    data = compared_with(composed, record)
    compares = any(metric.needs & {"statistics", "features"} for metric in metrics.values())
    if compares and data is None and settings["reference"] is None:
        raise UserError(f"samples={place}: say what they are compared with: data=NAME or metric.reference=FILE")
    if data is None and settings["features"] == "classifier":
        raise UserError("metric.features=classifier is that of a data set: name it, as data=digits")
    pictures = pictures_in(place, 3 if data is None else data.spec["x"].shape[0])
    n = max(metric.n or len(pictures) for metric in metrics.values())
    if n > len(pictures):
        raise UserError(f"metric.n={n}: there are {len(pictures)} pictures in {place}")
    if data is not None:
        in_turn(lambda: [data.split(name) for name in question.splits])
    extractor = extractor_for(data, settings["features"], chosen_device(composed.device))
    question.check_logits(extractor)
    for name, metric in metrics.items():
        check_enough(metric, name.upper(), metric.n or n, extractor.dimension)
    how: How = {"samples": str(place), **heard(record or {})}
    real = question.reference(extractor, data) if compares else None

    def images() -> Iterator[Tensor]:
        mine, everyone = share(n), world()[1]
        with meter("looking at pictures", everyone * len(mine)) as counted:
            for batch in pictures.batches(mine, question.batch_size):
                yield batch
                counted.advance(everyone * len(batch), everyone * len(batch))

    fake = extract(extractor, images(), how, keeps_features(metrics))
    return judge(metrics, real or fake, fake)


def heard(record: dict[str, Any]) -> How:
    """What the record of samples says of how they were drawn."""
    said: How = {key: value for key, value in record.items() if isinstance(value, str | int | float)}
    return {**told(record.get("sampler_options")), **{key: said[key] for key in said if key not in ASIDE}}


def compared_with(composed: DictConfig, record: dict[str, Any] | None) -> DataSet | None:
    """The data set that the command line names, else that of the model which drew the samples, if one is known."""
    if composed.data is not None:
        return build(plain(composed, ("data",))["data"], path="data")
    if record is None or "checkpoint" not in record:
        return None
    try:
        config = load_checkpoint(str(record["checkpoint"])).config
    except UserError:
        return None
    return build(config["data"], path="data") if config.get("data") else None


def append(numbers: list[Number], path: Path, source: dict[str, str]) -> None:
    """A line of JSON a number, after those of earlier evaluations."""
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    rows = [{"time": now, "genlab": __version__, **source, **number.to_json()} for number in numbers]
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
    except OSError as error:
        print(f"genlab: the numbers are not kept: {path}: {error.strerror}", file=sys.stderr)
    else:
        print(path)
