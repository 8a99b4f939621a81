"""`genlab eval`: numbers about a trained model, in a table, each with how it was computed, and in evaluations.jsonl."""

import datetime
import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from genlab.core.errors import UserError
from genlab.metrics.likelihood import NegativeLogLikelihood
from genlab.metrics.record import Number
from genlab.runner.build import build, component
from genlab.runner.checkpointed import Trained, checked_numbers, open_checkpoint, sampler_note
from genlab.runner.compose import plain
from genlab.runner.configs import choices, config_folder, nearest
from genlab.runner.measure import (
    Drawing,
    extractor_for,
    judge,
    likelihood,
    reference,
    sample_features,
    samples_needed,
)
from genlab.runner.table import show

SETTINGS = ("n", "features", "split", "data", "reference", "write_reference")


def evaluate(composed: DictConfig) -> None:
    """Measure a trained model."""
    checked_numbers(composed, ("batch_size",))
    config = plain(composed, ("metric",))["metric"]
    settings = {name: config.pop(name, None) for name in SETTINGS}
    check_settings(settings)
    for name, options in config.items():
        if not isinstance(options, dict) or "_target_" not in options:
            raise UserError(f"metric.{name}: there is no such option{nearest(name, list(SETTINGS))}")
    metrics = {name: build(options, path=f"metric.{name}") for name, options in config.items()}
    if not metrics:
        raise UserError("metric: name at least one, as metric=[fid,nll]")
    trained = open_checkpoint(composed)
    check_abilities(trained, metrics)
    numbers = measured(trained, metrics, settings, composed.seed, composed.batch_size)
    show(numbers, f"{trained.run}, step {trained.checkpoint.step}")
    append(numbers, trained.run / "evaluations.jsonl", trained)


def check_settings(settings: dict[str, Any]) -> None:
    if settings["split"] not in ("train", "validation", "test"):
        raise UserError(f"metric.split={settings['split']}: choose train, validation or test")
    for name in ("n", "data"):
        value = settings[name]
        if value is not None and (not isinstance(value, int) or value < 1):
            raise UserError(f"metric.{name}={value}: must be a number of at least 1, or null")
    if settings["features"] not in (None, "classifier", "inception"):
        raise UserError(f"metric.features={settings['features']}: choose classifier, inception or null")


def check_abilities(trained: Trained, metrics: dict[str, Any]) -> None:
    for name, metric in metrics.items():
        ability = "nll" if "nll" in metric.needs else "sample"
        if ability not in trained.model.can:
            model = trained.config.get("choices", {}).get("model", type(trained.model).__name__)
            raise UserError(f"metric={name}: model={model} cannot have it; models that can: {', '.join(able(ability))}")


def able(ability: str) -> list[str]:
    """The shipped models with an ability, as their classes say."""
    import yaml

    found = []
    for name in choices("model"):
        target = yaml.safe_load((config_folder() / "model" / f"{name}.yaml").read_text(encoding="utf-8"))["_target_"]
        if ability in component(target).can:  # type: ignore[attr-defined]
            found.append(name)
    return found


def measured(
    trained: Trained, metrics: dict[str, Any], settings: dict[str, Any], seed: int, batch_size: int
) -> list[Number]:
    """Every number, the cheap refusals first and no sample drawn twice."""
    model, data = trained.model, trained.data()
    distances = {name: metric for name, metric in metrics.items() if not isinstance(metric, NegativeLogLikelihood)}
    numbers: list[Number] = []
    if distances:
        sampler = trained.part("sampler")
        how = {**trained.how(), **sampler_note(sampler, model), "seed": seed}
        extractor = extractor_for(data, settings["features"], model.device)
        if any("logits" in metric.needs for metric in distances.values()) and not extractor.has_logits:
            raise UserError(
                f"metric=is: the {extractor.name} weights have no classifier head; use metric.features=classifier on "
                "labelled data, leave `is` out, or give weights that have the head"
            )
        real = reference(extractor, data, settings["reference"], batch_size)
        if settings["write_reference"] is not None:
            real.statistics.save(Path(settings["write_reference"]).expanduser())
        n = samples_needed(distances, extractor, real)
        fake = sample_features(extractor, Drawing(model, sampler, seed, batch_size, how=how), n)
        numbers += judge(distances, real, fake)
    for metric in metrics.values():
        if isinstance(metric, NegativeLogLikelihood):
            estimator = trained.part("estimator")
            found = likelihood(model, data, metric, estimator, settings["split"], seed, batch_size)
            numbers += [Number(x.name, x.value, x.error, x.unit, {**x.how, **trained.how()}, x.parts) for x in found]
    return numbers


def append(numbers: list[Number], path: Path, trained: Trained) -> None:
    """A line of JSON a number, after those of earlier evaluations."""
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    rows = [{"time": now, "checkpoint": str(trained.checkpoint.path), **number.to_json()} for number in numbers]
    with open(path, "a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
    print(path)
