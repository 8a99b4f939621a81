"""`genlab train`: from the command line to what a run is, and to the processes that do it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from genlab.core.collectives import world
from genlab.data.contract import DataSet
from genlab.runner import processes
from genlab.runner.build import build
from genlab.runner.checkpoint import load_checkpoint, run_of
from genlab.runner.compose import apply_overrides, run_folder, run_folder_is_named, task_overrides, training_config
from genlab.runner.devices import processes_of
from genlab.runner.folders import claimed, forget_empty
from genlab.runner.meeting import agreed, joined
from genlab.runner.options import check_training


@dataclass(frozen=True)
class Plan:
    """What a run is, as each of its processes is told.

    Arguments:
        config: resolved.
        run: the folder, which is made.
        checkpoint: the file to go on from; None for a new run.
        data: where it has been built already.
    """

    config: dict[str, Any]
    run: Path
    checkpoint: Path | None
    data: DataSet | None = None


def train(composed: DictConfig) -> None:
    """Train the model that the command line describes, or continue a run."""
    with joined():
        plan = agreed(lambda: planned(composed))
        try:
            count = processes_of(plan.config["trainer"])
            if count > 1 and world()[1] == 1:
                processes.run(fit_plan, (replace(plan, data=None),), count)
            else:
                fit_plan(plan)
        finally:
            if world()[0] == 0:
                forget_empty(plan.run)


def fit_plan(plan: Plan) -> None:
    """`genlab.runner.fit.fit`, with lightning imported only by those processes that train."""
    from genlab.runner.fit import fit

    fit(plan)


def planned(composed: DictConfig) -> Plan:
    """What the run is: a new one, or one that is continued."""
    data: DataSet | None
    if composed.resume is not None:
        checkpoint = load_checkpoint(composed.resume)
        config = apply_overrides(checkpoint.config, composed, task_overrides())
        check_training(config, checkpoint.step)
        data = build(config["data"], path="data")
        run = run_folder()
        if run.resolve() != run_of(checkpoint.path).resolve():
            run = claimed(run, named=run_folder_is_named())
        plan = Plan(config, run, checkpoint.path, data)
    else:
        config, data = training_config(composed)
        check_training(config)
        plan = Plan(config, claimed(run_folder(), named=run_folder_is_named()), None, data)
    return plan if world()[1] == 1 else replace(plan, data=None)
