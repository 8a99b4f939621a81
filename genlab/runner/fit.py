"""One process's part in a run, from its config to its last checkpoint."""

import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader

from genlab import __version__
from genlab.core.collectives import world
from genlab.core.errors import Interrupted, UserError
from genlab.core.files import replacing
from genlab.data.contract import DataSet
from genlab.data.stream import Requested, Stream
from genlab.models.contract import Model
from genlab.runner.build import build
from genlab.runner.callbacks.finishing import Finishing
from genlab.runner.callbacks.reporting import BEST, Previewing, Reporting, Validating, ranking
from genlab.runner.callbacks.saving import Saving
from genlab.runner.checkpoint import Checkpoint, load_checkpoint, load_weights, model_of
from genlab.runner.checkpoint_io import AtomicCheckpointIO
from genlab.runner.checkpointed import sampler_note
from genlab.runner.compose import metric_config
from genlab.runner.devices import kind_of
from genlab.runner.estimated import check_uninformed
from genlab.runner.guided import guidance_of
from genlab.runner.lightning_module import Training
from genlab.runner.log import JsonLines
from genlab.runner.meeting import in_turn
from genlab.runner.options import optimizer_of
from genlab.runner.strategy import environment, strategy_of
from genlab.runner.train import Plan
from genlab.runner.unprofiled import Unprofiled

PREPARING_BATCHES = 8

# Lightning tells of devices, tips and limits reached; a run says what matters in lines of its own.
logging.getLogger("lightning").setLevel(logging.WARNING)
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
logging.getLogger("lightning.fabric").setLevel(logging.WARNING)


def fit(plan: Plan) -> None:
    """Train, and leave the run's folder complete. All of the processes are called; the first of them writes."""
    config, run, options = plan.config, plan.run, plan.config["trainer"]
    (rank, processes), kind = world(), kind_of(options["accelerator"])
    checkpoint = None if plan.checkpoint is None else load_checkpoint(plan.checkpoint)
    model = seeded_model(config)
    if options["batch_size"] < model.smallest_batch:
        raise UserError(
            f"trainer.batch_size={options['batch_size']}: the networks compare the data of a batch, or normalise by "
            f"their statistics, which takes {model.smallest_batch} or more"
        )
    if checkpoint is not None:
        load_weights(model, checkpoint.state, checkpoint.path)
    elif config.get("init"):
        first = load_checkpoint(config["init"])
        load_weights(model, first.weights("ema"), f"init={first.path}")
    strategy = strategy_of(options, processes, model)
    optimizers = {name: optimizer_of(config["optim"], name) for name in named_players(config["optim"], model)}
    data = plan.data or build(config["data"], path="data")
    parts = Parts(config, data, processes, model)
    split = in_turn(lambda: data.split("train"))
    if len(split) == 0:
        raise UserError("data: the training split is empty")
    prepare(model, data, config, checkpoint)

    text = yaml.safe_dump(config, sort_keys=False)
    module = Training(
        model,
        optimizers,
        config["seed"],
        options["accumulate"],
        config["optim"]["warmup_steps"],
        config["optim"]["gradient_clip"],
        config["optim"]["ema_decay"],
        text,
        __version__,
    )
    compile_networks(module, options)
    watch_every = (options["log_every"] or 50, options["validate_every"], options["preview_every"])
    saving = Saving(run / "checkpoints", options["checkpoint_every"], options["keep_every"], watch_every)
    trainer = Trainer(
        accelerator={"cuda": "gpu"}.get(kind, kind),
        devices=options["devices"],
        num_nodes=options["num_nodes"],
        strategy=strategy,
        precision=options["precision"],
        sync_batchnorm=processes > 1 and kind == "cuda",
        # Where nothing is optimised no step is taken: the model sees all data when training ends, after one batch.
        max_steps=options["max_steps"] if optimizers else -1,
        max_epochs=-1 if optimizers else 1,
        limit_train_batches=None if optimizers else 1,
        logger=[
            TensorBoardLogger(run, name="", version="tensorboard"),
            JsonLines(run / "metrics.jsonl", step=checkpoint.step if checkpoint else 0),
        ],
        callbacks=parts.callbacks(run, saving),
        plugins=[AtomicCheckpointIO(), environment()],
        profiler=Unprofiled(),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=parts.tells_best,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=max(1, options["log_every"]),
    )
    if rank == 0:
        # The first that is written, when nothing is left to be found wrong.
        with replacing(run / "config.yaml") as file:
            file.write(text.encode())
    describe(model, data, plan, processes)
    start = checkpoint.raw["genlab_progress"]["micro_batches"] if checkpoint else 0
    loader = DataLoader(
        Requested(split, config["seed"]),
        batch_size=None,
        sampler=Stream(len(split), options["batch_size"], config["seed"], start, rank, processes),
        num_workers=options["workers"],
        pin_memory=kind == "cuda",
        persistent_workers=options["workers"] > 0,
    )
    with warnings.catch_warnings():
        # Lightning warns of runs continued within an epoch; the stream's order makes that exact.
        warnings.filterwarnings("ignore", message=".*(resuming from a checkpoint|does not have many workers).*")
        trainer.fit(module, train_dataloaders=loader, ckpt_path=checkpoint.path if checkpoint else None)
    if saving.stopped:
        raise Interrupted(f"stopped at step {saving.saved_step}; go on with: genlab train resume={run}")
    print(f"{run}: {trainer.global_step} steps done, {saving.last}")


def named_players(optim: dict[str, Any], model: Model) -> list[str]:
    """The names of the model's players; an error where the options name others."""
    names = list(model.players())
    for name in optim.get("players") or {}:
        if name not in names:
            raise UserError(f"optim.players.{name}: there is no such player; the model's are {', '.join(names)}")
    return names


def seeded_model(config: dict[str, Any]) -> Model:
    """The model with first weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])
        return model_of(config)


def prepare(model: Model, data: DataSet, config: dict[str, Any], checkpoint: Checkpoint | None) -> None:
    """Show a new model a few batches, as ActNorm and latent scales want; one with trained weights needs none."""
    if checkpoint is not None or config.get("init"):
        return
    split = data.split("train")
    stream = Stream(len(split), config["trainer"]["batch_size"], config["seed"])
    model.prepare(split.batch(stream.request(step).index) for step in range(PREPARING_BATCHES))


def compile_networks(module: Training, options: dict[str, Any]) -> None:
    """Compile, and lay out, the networks where the options say so; in place, so that their names stay."""
    if options["channels_last"]:
        module.to(memory_format=torch.channels_last)
    if options["compile"]:
        for network in networks_of(module.model):
            network.compile()


def networks_of(model: Model) -> Iterator[nn.Module]:
    """What a model is made of, and what a model within it is made of, as far as it has weights."""
    for part in model.children():
        if isinstance(part, Model):
            yield from networks_of(part)
        elif any(True for _ in part.parameters()):
            yield part


def describe(model: Model, data: DataSet, plan: Plan, processes: int) -> None:
    """One line that says what is about to happen."""
    weights = sum(p.numel() for player in model.players().values() for p in player.parameters)
    options = plan.config["trainer"]
    each = f"{options['batch_size']}" + (f" on each of {processes} devices" if processes > 1 else "")
    what = f"{weights:,} weights, {options['max_steps']} steps of {each}" if weights else "fitted without steps"
    name = plan.config["choices"].get("model", "model")
    print(f"training {name} on {data.identity}: {what}, into {plan.run}", file=sys.stderr)


class Parts:
    """The objects beside the model that a run is watched with."""

    def __init__(self, config: dict[str, Any], data: DataSet, processes: int, model: Model) -> None:
        self.config, self.data, self.options, self.processes = config, data, config["trainer"], processes
        self.model = model
        self.sampler = build(config["sampler"], path="sampler") if config.get("sampler") else None
        self.estimator = build(config["estimator"], path="estimator") if config.get("estimator") else None
        self.few = self.preview_sampler(getattr(getattr(model, "schedule", None), "steps", None))
        guidance = guidance_of(config.get("guidance"), model, self.sampler)
        for sampler in (self.sampler, self.few):
            if guidance is not None and sampler is not None:
                sampler.guidance = guidance
            # An error where the model has fewer steps than the sampler takes.
            sampler_note(sampler, model)
            check_uninformed(sampler)

    def preview_sampler(self, total: int | None) -> Any:
        """The run's sampler with few steps, where it has steps, of the `total` that the model has."""
        sampler = self.config.get("sampler") or {}
        if "steps" not in sampler:
            return self.sampler
        steps = min(n for n in (self.options["preview_steps"], sampler["steps"], total) if n is not None)
        return build({**sampler, "steps": steps}, path="sampler")

    def metrics(self) -> dict[str, Any]:
        """What is measured while training, built from the files that `genlab eval` takes."""
        found = {}
        for name in self.options["validate"]:
            found[name] = build(metric_config(name, self.options["validate_data"]), path=f"metric.{name}")
        return found

    @property
    def tells_best(self) -> bool:
        """Whether validation says which step is the best so far."""
        by_number = ranking(self.metrics()) is not None
        return self.options["validate_every"] > 0 and (self.model.loss_tells or by_number)

    def callbacks(self, run: Path, saving: Saving) -> list[Callback]:
        options, seed = self.options, self.config["seed"]
        size = options["batch_size"]
        validating = Validating(
            options["validate_every"],
            self.data,
            self.metrics(),
            options["validate_data"],
            self.estimator,
            self.few,
            seed,
            size,
        )
        validating.check()
        best = ModelCheckpoint(
            run / "checkpoints",
            filename="best",
            monitor="val/loss" if self.model.loss_tells else BEST,
            every_n_train_steps=options["validate_every"],
            enable_version_counter=False,
        )
        previews = Previewing(options["preview_every"], run / "samples", self.few, options["preview_n"], seed)
        reporting = Reporting(options["log_every"], size * self.processes, options["accumulate"], options["progress"])
        watching = [best] if self.tells_best else []
        finishing = Finishing(self.data, size, saving)
        return [saving.alarm, finishing, reporting, validating, previews, saving, *watching]
