"""What sampling and evaluation take from a checkpoint, with the few things that their command lines may change."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from genlab.core.errors import UserError
from genlab.core.rng import MASK
from genlab.metrics.record import How
from genlab.models.contract import Model
from genlab.runner.build import build
from genlab.runner.checkpoint import Checkpoint, load_model, resolve, run_of


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
        """The sampler or the estimator, None where the model needs none."""
        return build(self.config[name], path=name) if self.config.get(name) else None

    def how(self) -> How:
        """What a number about this model should say of it."""
        choice = self.config.get("choices", {}).get("model", type(self.model).__name__)
        return {"model": choice, "step": self.checkpoint.step, "weights": self.weights}


def open_checkpoint(composed: DictConfig) -> Trained:
    """The model that a `sample` or `eval` command names, with its choices applied."""
    device = chosen_device(composed.device)
    if composed.weights not in ("ema", "raw"):
        raise UserError(f"weights={composed.weights}: choose ema or raw")
    path = resolve(composed.ckpt)
    model, checkpoint = load_model(path, composed.weights, device)
    config = dict(checkpoint.config)
    for name in ("sampler", "estimator", "data"):
        changed = OmegaConf.select(composed, name)
        if changed is None:
            continue
        changed = OmegaConf.to_container(changed, resolve=True)
        config[name] = changed if "_target_" in changed else {**(config.get(name) or {}), **changed}
    return Trained(model, checkpoint, config, composed.weights)


def chosen_device(name: str) -> torch.device:
    """The device of this name; "auto" is the GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device={name}: there is no such device here; use auto or cpu") from error
    return device


def checked_numbers(composed: DictConfig, at_least_one: tuple[str, ...]) -> None:
    """Counts of at least one, and a seed that random numbers can be keyed by."""
    for name in at_least_one:
        if composed[name] < 1:
            raise UserError(f"{name}={composed[name]}: must be at least 1")
    if not 0 <= composed.seed <= MASK:
        raise UserError(f"seed={composed.seed}: must be at least 0 and below 2^32")


def sampler_note(sampler: Any, model: Model) -> How:
    """How samples are drawn: the sampler, its steps and how often it asks the network."""
    if sampler is None:
        return {}
    note: How = {"sampler": type(sampler).__name__.lower()}
    for name in ("eta", "noise", "spacing"):
        value = getattr(sampler, name, None)
        if value is not None:
            note[name] = value
    schedule = getattr(model, "schedule", None)
    if schedule is not None:
        note["nfe"] = sampler.evaluations(schedule)
    return note
