"""The typed part of the configs: what is checked while they are composed, `trainer.max_steps=ten` for one.

Groups whose files choose classes stay open here; their arguments are checked against the class when it is built.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class TrainerConfig:
    """How a model is trained; a `trainer` file sets some of it.

    Attributes:
        accelerator, devices, num_nodes, strategy, precision: as Lightning's Trainer takes them.
        max_steps: optimizer steps of the counting player, after which the run ends.
        batch_size: data in a micro-batch of one process.
        accumulate: micro-batches whose gradients are averaged in one optimizer step.
        compile: compile the networks.
        channels_last: lay images out with the channels innermost.
        workers: processes that load data; 0 loads in this one.
        log_every, checkpoint_every, validate_every, preview_every: in steps; 0 is never.
        keep_every: keep a checkpoint for good every so many steps; 0 is never.
        validate: metrics computed while training, a list of names from `genlab list metrics`. The best checkpoint is
            that of the least loss on validation data; of a game, whose loss does not tell, of the first of these that
            is about samples or classes, and there is none without one.
        validate_data: how many validation data, and samples, they are computed on.
        preview_steps: sampler steps of the sample grids drawn while training, where the sampler has any.
        preview_n: samples in such a grid.
        progress: show a progress bar.
    """

    accelerator: str = "cpu"
    devices: Any = 1
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    max_steps: int = 3000
    batch_size: int = 128
    accumulate: int = 1
    compile: bool = False
    channels_last: bool = False
    workers: int = 0
    log_every: int = 50
    checkpoint_every: int = 500
    keep_every: int = 0
    validate_every: int = 500
    validate: list[str] = field(default_factory=lambda: ["nll"])
    validate_data: int = 180
    preview_every: int = 1000
    preview_steps: int = 50
    preview_n: int = 64
    progress: bool = True


@dataclass
class TrainConfig:
    network: Any = None
    schedule: Any = None
    weighting: Any = None
    times: Any = None
    encoder: Any = None
    bottleneck: Any = None
    decoder: Any = None
    output: Any = None
    corruption: Any = None
    objective: Any = None
    perceptual: Any = None
    critic: Any = None
    generator: Any = None
    noise: Any = None
    penalty: Any = None
    regularizer: Any = None
    augment: Any = None
    causal: Any = None
    transform: Any = None
    base: Any = None
    preprocess: Any = None
    conditioner: Any = None
    sampler: Any = None
    guidance: Any = None
    estimator: Any = None
    optim: Any = None
    data: Any = None
    model: Any = None
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    spec: Any = None
    seed: int = 0
    resume: str | None = None
    init: str | None = None


@dataclass
class SampleConfig:
    ckpt: Any = None
    n: int | None = None
    seed: int = 0
    batch_size: int = 256
    label: Any = None
    weights: str = "ema"
    device: str = "auto"
    devices: Any = 1
    out: str | None = None
    format: str = "png"
    gif: bool = False
    task: Any = MISSING
    sampler: Any = None
    guidance: Any = None
    data: Any = None
    network: Any = None


@dataclass
class EvalConfig:
    ckpt: Any = None
    samples: str | None = None
    seed: int = 0
    batch_size: int = 256
    weights: str = "ema"
    device: str = "auto"
    devices: Any = 1
    metric: Any = MISSING
    sampler: Any = None
    guidance: Any = None
    estimator: Any = None
    data: Any = None
    network: Any = None


SCHEMAS: dict[str, type] = {"train": TrainConfig, "sample": SampleConfig, "eval": EvalConfig}
"""Of each command."""


def register() -> None:
    """Make the schemas known to Hydra, by the names that the root configs begin with."""
    for command, schema in SCHEMAS.items():
        ConfigStore.instance().store(name=f"{command}_schema", node=schema)
