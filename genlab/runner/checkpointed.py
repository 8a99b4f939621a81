"""What sampling and evaluation take from a checkpoint, with the few things that their command lines may change."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from genlab.core.errors import UserError
from genlab.core.spec import Field
from genlab.data.contract import DataSet
from genlab.metrics.record import How
from genlab.models.contract import Model
from genlab.runner.build import build
from genlab.runner.checkpoint import Checkpoint, load_model, resolve, run_of
from genlab.runner.guided import guidance_of
from genlab.runner.options import check_asked, check_seed
from genlab.runner.place import place


@runtime_checkable
class Particular(Protocol):
    """A sampler that is for some models of its kind only."""

    def check_suits(self, model: nn.Module) -> None:
        """Raise a UserError where the model is none of them."""


@dataclass
class Trained:
    """A model as its run left it.

    Arguments:
        model: on its device, in evaluation mode.
        checkpoint: that it came from.
        config: the run's, with what the command line changed of it.
        weights: "ema" or "raw".
    """

    model: Model
    checkpoint: Checkpoint
    config: dict[str, Any]
    weights: str

    @property
    def run(self) -> Path:
        """The run's folder, or the checkpoint's own where it lies alone."""
        return run_of(self.checkpoint.path)

    def part(self, name: str) -> Any:
        """The sampler, with its guidance, or the estimator; None where the model needs none.

        Raises:
            UserError: the command line chose what this model does not take.
        """
        made: Any = None
        if self.config.get(name):
            check_asked(self.config["model"], name, self.config[name])
            made = build(self.config[name], path=name)
        if name == "sampler":
            guidance = guidance_of(self.config.get("guidance"), self.model, made)
            if guidance is not None:
                made.guidance = guidance
        return made

    def data(self) -> DataSet:
        """The data set that it was trained on, or another of the same kind that the command line names."""
        if not self.config.get("data"):
            raise UserError(f"{self.checkpoint.path} names no data set: name one by data._target_")
        data = build(self.config["data"], path="data")
        own = self.model.spec
        # What training alone reads, as the noise of pairs, real data need not have.
        for key in sorted({"x"} | self.model.conditions | (self.model.reads & data.spec.keys())):
            if data.spec.get(key) != own.get(key):
                here, there = (kind_of(spec[key]) if key in spec else "missing" for spec in (data.spec, own))
                raise UserError(f"data: {key} of {data.identity} is {here}, and the model was trained on {there}")
        return data

    def how(self) -> How:
        """What a number about this model should say of it."""
        choice = self.config.get("choices", {}).get("model", type(self.model).__name__)
        source = {"samples_from": self.model.source} if self.model.source else {}
        return {"model": choice, "step": self.checkpoint.step, "weights": self.weights, **source}


def open_checkpoint(composed: DictConfig, device: str | None = None) -> Trained:
    """The model that a `sample` or `eval` command names, with its choices applied.

    Arguments:
        device: another than the command's.
    """
    on = chosen_device(device or composed.device)
    if composed.weights not in ("ema", "raw"):
        raise UserError(f"weights={composed.weights}: choose ema or raw")
    if not isinstance(composed.ckpt, str | None):
        raise UserError(f"ckpt={composed.ckpt}: name one checkpoint file or run folder")
    try:
        path = resolve(composed.ckpt)
    except UserError as error:
        raise UserError(f"ckpt={error}" if composed.ckpt else str(error)) from error
    if composed.ckpt is None:
        print(f"taking the newest run, {run_of(path)}", file=sys.stderr)
    model, checkpoint = load_model(path, composed.weights, on)
    config = dict(checkpoint.config)
    for name in ("sampler", "guidance", "estimator", "data"):
        changed = OmegaConf.select(composed, name)
        if changed is None:
            continue
        if not isinstance(changed, DictConfig):
            raise UserError(f"{name}={changed}: choose one by name, or set a part of it, as {name}.option=value")
        chosen = "_target_" in changed or not changed or not config.get(name)
        whole = changed if chosen else OmegaConf.merge(config[name], changed)
        config[name] = OmegaConf.to_container(whole, resolve=True)
    return Trained(model, checkpoint, config, composed.weights)


def kind_of(field: Field) -> str:
    """A field in words: 1x28x28 of 256 levels."""
    shape = "x".join(str(side) for side in field.shape) or "a number"
    counts = {"levels": field.levels, "classes": field.classes, "words": field.vocabulary}
    return shape + "".join(f" of {count} {what}" for what, count in counts.items() if count is not None)


def chosen_device(name: str) -> torch.device:
    """The device of this name; "auto" is the GPU where there is one, and of several processes each has its own."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    here = place()
    try:
        device = torch.device(name if name != "cuda" or here is None else f"cuda:{here.local_rank}")
        torch.empty(0, device=device)
        if device.type == "cuda":
            torch.cuda.set_device(device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device={name}: there is no such device here; use auto or cpu") from error
    return device


def checked_numbers(composed: DictConfig, at_least_one: tuple[str, ...]) -> None:
    """Counts of at least one, and a seed that random numbers can be keyed by."""
    for name in at_least_one:
        if composed[name] is not None and composed[name] < 1:
            raise UserError(f"{name}={composed[name]}: must be at least 1")
    check_seed(composed.seed)


def sampler_note(sampler: Any, model: Model) -> How:
    """How samples are drawn: the sampler, its steps, how often it asks the network, and the guidance."""
    if sampler is None:
        return {}
    if isinstance(sampler, Particular):
        sampler.check_suits(model)
    note: How = {"sampler": sampler.name}
    for name in ("eta", "noise", "spacing"):
        value = getattr(sampler, name, None)
        if value is not None:
            note[name] = value
    schedule = getattr(model, "schedule", None)
    if schedule is not None:
        note["nfe"] = sampler.evaluations(schedule)
        if note["nfe"] is None:
            # It chooses its own times.
            note = {"sampler": sampler.name}
    guidance = getattr(sampler, "guidance", None)
    return note if guidance is None else {**note, **guidance.note}
