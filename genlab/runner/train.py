"""`genlab train`: one run, from its config to its last checkpoint."""

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig
from torch.utils.data import DataLoader

from genlab import __version__
from genlab.core.errors import Interrupted, UserError
from genlab.data.contract import DataSet
from genlab.data.stream import Requested, Stream
from genlab.models.contract import Model
from genlab.runner.build import build
from genlab.runner.callbacks.reporting import Previewing, Reporting, Validating
from genlab.runner.callbacks.saving import Saving
from genlab.runner.checkpoint import Checkpoint, load_checkpoint, load_weights, model_of, run_of
from genlab.runner.checkpoint_io import AtomicCheckpointIO
from genlab.runner.compose import apply_overrides, run_folder, task_overrides, training_config
from genlab.runner.files import replacing
from genlab.runner.lightning_module import Training
from genlab.runner.log import JsonLines

PREPARING_BATCHES = 8

# Lightning tells of devices, tips and limits reached; a run says what matters in lines of its own.
logging.getLogger("lightning").setLevel(logging.WARNING)
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
logging.getLogger("lightning.fabric").setLevel(logging.WARNING)


def train(composed: DictConfig) -> None:
    """Train the model that the command line describes, or continue a run."""
    if composed.resume is not None:
        checkpoint = load_checkpoint(composed.resume)
        config = apply_overrides(checkpoint.config, composed, task_overrides())
        data = build(config["data"], path="data")
        fit(config, data, run_of(checkpoint.path), checkpoint)
        return
    folder = run_folder()
    try:
        config, data = training_config(composed)
        if (folder / "checkpoints").exists():
            raise UserError(f"{folder} holds a run already; continue it with resume={folder}")
        fit(config, data, folder, None)
    except UserError:
        # A folder that Hydra made and nothing was written to is of no use to anyone.
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        raise


def checked(trainer: dict[str, Any], done: int) -> None:
    """What a type cannot say of the trainer's options."""
    at_least = {"max_steps": 1, "batch_size": 1, "accumulate": 1, "preview_n": 1, "preview_steps": 1, "validate_data": 1}
    nonnegative = ("workers", "log_every", "checkpoint_every", "keep_every", "validate_every", "preview_every")
    for name, least in {**at_least, **dict.fromkeys(nonnegative, 0)}.items():
        if trainer[name] < least:
            raise UserError(f"trainer.{name}={trainer[name]}: must be at least {least}")
    if trainer["max_steps"] <= done:
        raise UserError(f"the run has {done} steps already; set trainer.max_steps above that to go on")
    if trainer["accelerator"] == "gpu" and not torch.cuda.is_available():
        raise UserError("trainer.accelerator=gpu: there is no GPU here; choose trainer=cpu")


def fit(config: dict[str, Any], data: DataSet, run: Path, checkpoint: Checkpoint | None) -> None:
    """Train from the start, or from a checkpoint, and leave the run's folder complete.

    Arguments:
        config: resolved.
        run: the folder, which is made.
    """
    options = config["trainer"]
    checked(options, checkpoint.step if checkpoint else 0)
    model = seeded_model(config)
    if checkpoint is not None:
        load_weights(model, checkpoint.state, checkpoint.path)
    optimizers = {name: build(config["optim"]["optimizer"], path="optim.optimizer") for name in model.players()}
    parts = Parts(config, data)
    split = data.split("train")
    if len(split) == 0:
        raise UserError("data: the training split is empty")
    prepare(model, data, config, checkpoint)

    run.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(config, sort_keys=False)
    with replacing(run / "config.yaml") as file:
        file.write(text.encode())
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
    saving = Saving(
        run / "checkpoints", options["checkpoint_every"], options["keep_every"], options["log_every"] or 50
    )
    trainer = Trainer(
        accelerator=options["accelerator"],
        devices=options["devices"],
        num_nodes=options["num_nodes"],
        strategy=options["strategy"],
        precision=options["precision"],
        max_steps=options["max_steps"],
        max_epochs=-1,
        logger=[
            TensorBoardLogger(run, name="", version="tensorboard"),
            JsonLines(run / "metrics.jsonl", step=checkpoint.step if checkpoint else 0),
        ],
        callbacks=parts.callbacks(run, saving),
        plugins=[AtomicCheckpointIO()],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=options["validate_every"] > 0,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=max(1, options["log_every"]),
    )
    describe(model, data, config, run)
    start = checkpoint.raw["genlab_progress"]["micro_batches"] if checkpoint else 0
    stream = Stream(
        len(split), options["batch_size"], config["seed"], start, trainer.global_rank, trainer.world_size
    )
    loader = DataLoader(
        Requested(split, config["seed"]),
        batch_size=None,
        sampler=stream,
        num_workers=options["workers"],
        pin_memory=options["accelerator"] == "gpu",
        persistent_workers=options["workers"] > 0,
    )
    with warnings.catch_warnings():
        # Lightning warns of runs continued within an epoch; the stream's order makes that exact.
        warnings.filterwarnings("ignore", message=".*(resuming from a checkpoint|does not have many workers).*")
        trainer.fit(module, train_dataloaders=loader, ckpt_path=checkpoint.path if checkpoint else None)
    if saving.stopped:
        raise Interrupted(f"stopped at step {saving.saved_step}; go on with: genlab train resume={run}")
    if trainer.is_global_zero:
        print(f"{run}: {trainer.global_step} steps done, {saving.last}")


def seeded_model(config: dict[str, Any]) -> Model:
    """The model with first weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])
        return model_of(config)


def prepare(model: Model, data: DataSet, config: dict[str, Any], checkpoint: Checkpoint | None) -> None:
    """Show a new model a few batches, as ActNorm and latent scales want."""
    if checkpoint is not None:
        return
    split = data.split("train")
    stream = Stream(len(split), config["trainer"]["batch_size"], config["seed"])
    model.prepare(split.batch(stream.request(step).index) for step in range(PREPARING_BATCHES))


def compile_networks(module: Training, options: dict[str, Any]) -> None:
    """Compile, and lay out, the networks where the options say so; in place, so that their names stay."""
    if options["channels_last"]:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if options["compile"]:
        for network in module.model.children():
            if any(True for _ in network.parameters()):
                network.compile()


def describe(model: Model, data: DataSet, config: dict[str, Any], run: Path) -> None:
    """One line that says what is about to happen."""
    weights = sum(p.numel() for player in model.players().values() for p in player.parameters)
    names = config["choices"]
    print(
        f"training {names.get('model', 'model')} on {data.identity}: {weights:,} weights, "
        f"{config['trainer']['max_steps']} steps of {config['trainer']['batch_size']}, into {run}",
        file=sys.stderr,
    )


class Parts:
    """The objects beside the model that a run is watched with."""

    def __init__(self, config: dict[str, Any], data: DataSet) -> None:
        self.config, self.data, self.options = config, data, config["trainer"]
        self.sampler = build(config["sampler"], path="sampler") if config.get("sampler") else None
        self.estimator = build(config["estimator"], path="estimator") if config.get("estimator") else None

    def preview_sampler(self) -> Any:
        """The run's sampler with few steps, where it has steps."""
        sampler = dict(self.config.get("sampler") or {})
        if "steps" not in sampler:
            return self.sampler
        asked = self.options["preview_steps"]
        sampler["steps"] = asked if sampler["steps"] is None else min(asked, sampler["steps"])
        return build(sampler, path="sampler")

    def metrics(self) -> dict[str, Any]:
        """What is measured while training, built from the files that `genlab eval` takes."""
        from genlab.runner.compose import metric_config

        found = {}
        for name in self.options["validate"]:
            found[name] = build(metric_config(name, self.options["validate_data"]), path=f"metric.{name}")
        return found

    def callbacks(self, run: Path, saving: Saving) -> list[Callback]:
        options, seed = self.options, self.config["seed"]
        size = options["batch_size"]
        few = self.preview_sampler()
        validating = Validating(
            options["validate_every"], self.data, self.metrics(), options["validate_data"], self.estimator, few, seed, size
        )
        best = ModelCheckpoint(
            run / "checkpoints",
            filename="best",
            monitor="val/loss",
            every_n_train_steps=options["validate_every"],
            enable_version_counter=False,
        )
        previews = Previewing(options["preview_every"], run / "samples", few, options["preview_n"], seed)
        reporting = Reporting(options["log_every"], size, options["accumulate"], options["progress"])
        watching = [best] if options["validate_every"] else []
        return [reporting, validating, previews, saving, *watching]
