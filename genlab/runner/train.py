"""`genlab train`: from the command line to what a run is, and to the processes that do it."""

from dataclasses import replace
from typing import Any

from omegaconf import DictConfig

from genlab.core.collectives import world
from genlab.core.errors import UserError
from genlab.data.contract import DataSet
from genlab.runner import processes
from genlab.runner.build import build
from genlab.runner.checkpoint import load_checkpoint, run_of
from genlab.runner.compose import apply_overrides, run_folder, task_overrides, training_config
from genlab.runner.devices import processes_of
from genlab.runner.fit import Plan, fit
from genlab.runner.place import agreed, joined


def train(composed: DictConfig) -> None:
    """Train the model that the command line describes, or continue a run."""
    with joined():
        try:
            plan = agreed(lambda: planned(composed))
            count = processes_of(plan.config["trainer"])
            if count > 1 and world()[1] == 1:
                processes.run(fit, (replace(plan, data=None),), count)
            else:
                fit(plan)
        except UserError:
            folder = run_folder()
            # A folder that Hydra made and nothing was written to is of no use to anyone.
            if world()[0] == 0 and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
            raise


def planned(composed: DictConfig) -> Plan:
    """What the run is: a new one, or one that is continued."""
    data: DataSet | None
    if composed.resume is not None:
        checkpoint = load_checkpoint(composed.resume)
        config = apply_overrides(checkpoint.config, composed, task_overrides())
        plan = Plan(config, run_of(checkpoint.path), checkpoint.path, build(config["data"], path="data"))
        checked(config["trainer"], checkpoint.step)
    else:
        config, data = training_config(composed)
        plan = Plan(config, run_folder(), None, data)
        if (plan.run / "checkpoints").exists():
            raise UserError(f"{plan.run} holds a run already; continue it with resume={plan.run}")
        checked(config["trainer"], 0)
    return plan if world()[1] == 1 else replace(plan, data=None)


def checked(trainer: dict[str, Any], done: int) -> None:
    """What a type cannot say of the trainer's options."""
    positive = ("max_steps", "batch_size", "accumulate", "preview_n", "preview_steps", "validate_data")
    nonnegative = ("workers", "log_every", "checkpoint_every", "keep_every", "validate_every", "preview_every")
    for name, least in {**dict.fromkeys(positive, 1), **dict.fromkeys(nonnegative, 0)}.items():
        if trainer[name] < least:
            raise UserError(f"trainer.{name}={trainer[name]}: must be at least {least}")
    if trainer["max_steps"] <= done:
        raise UserError(f"the run has {done} steps already; set trainer.max_steps above that to go on")
