"""What a run says of itself while it trains: curves, images/s, validation numbers and sample grids."""

import time
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from genlab.core.collectives import all_sum, world
from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.data.contract import DataSet
from genlab.metrics.contract import OF_CODES, SampleMetric
from genlab.metrics.likelihood import NegativeLogLikelihood
from genlab.metrics.record import Number, Ranking
from genlab.models.contract import Model
from genlab.runner.coded import Coded
from genlab.runner.lightning_module import Training
from genlab.runner.measure import (
    Drawing,
    cover,
    drawn,
    extractor_for,
    judge,
    keeps_features,
    likelihood,
    reference,
    sample_features,
    share,
)
from genlab.runner.pictures import mosaic, save_png, viewable
from genlab.runner.progress import Meter
from genlab.runner.sampled import Sampled
from genlab.runner.sharding import whole

GOOD = "val/"

BEST = "best"
"""What the best checkpoint is chosen by where the loss does not tell: the less the better."""


class Reporting(Callback):
    """Writes the means of losses and gradient norms, and the rate, every so many steps; shows progress.

    Arguments:
        every: steps between rows; 0 writes none.
        images_per_batch: data in a micro-batch over all processes.
        accumulate: micro-batches of a step.
        shown: whether progress is.
    """

    def __init__(self, every: int, images_per_batch: int, accumulate: int, shown: bool) -> None:
        self.every, self.images, self.accumulate, self.shown = every, images_per_batch, accumulate, shown
        self.meter: Meter | None = None
        self.seen_step = 0
        self.micro_batches, self.since = 0, 0.0
        self.warned: set[str] = set()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seen_step = trainer.global_step
        self.since = time.monotonic()
        if trainer.is_global_zero:
            self.meter = Meter("training", trainer.max_steps, "steps", done=self.seen_step, shown=self.shown)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Training)
        self.micro_batches += 1
        step = trainer.global_step
        new = step - self.seen_step
        self.seen_step = step
        if new and self.every and step % self.every == 0:
            means = pl_module.drain()
            now = time.monotonic()
            rate = self.micro_batches * self.images / (now - self.since)
            self.micro_batches, self.since = 0, now
            row = {f"train/{name}": value for name, value in means.items()}
            row |= {"train/lr": trainer.optimizers[0].param_groups[0]["lr"], "train/images_per_second": rate}
            log(trainer, row)
            self._warn(pl_module.model.troubles(means, step), step)
            self._advance(new, f"loss {means.get('loss', float('nan')):.4g}" if "loss" in means else "")
        else:
            self._advance(new, "")

    def _warn(self, troubles: dict[str, str], step: int) -> None:
        """Each kind is told of once a run."""
        for kind in troubles.keys() - self.warned:
            if self.meter is not None:
                self.meter.line(f"genlab: step {step}, {kind}: {troubles[kind]}")
            self.warned.add(kind)

    def _advance(self, steps: int, note: str) -> None:
        if self.meter is not None:
            self.meter.advance(steps, self.images, note)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.meter is not None:
            self.meter.close()


def log(trainer: Trainer, row: dict[str, float]) -> None:
    """A row of numbers to every logger, at this step."""
    for logger in trainer.loggers:
        logger.log_metrics(row, step=trainer.global_step)


class Validating(Callback):
    """Measures the moving average on validation data every so many steps, by the code of `genlab eval`.

    Arguments:
        every: steps; 0 is never.
        dataset: whose validation split is used for likelihoods, and its training data for distances.
        metrics: by name.
        n: data, and samples.
        estimator, sampler: how the model is asked.
        seed: of the noise.
        batch_size: of both.
    """

    def __init__(
        self,
        every: int,
        dataset: DataSet,
        metrics: dict[str, Any],
        n: int,
        estimator: Any,
        sampler: Any,
        seed: int,
        batch_size: int,
    ) -> None:
        self.every, self.dataset, self.metrics, self.n = every, dataset, metrics, n
        self.estimator, self.sampler, self.seed, self.batch_size = estimator, sampler, seed, batch_size
        self.done_step = 0

    def check(self) -> None:
        """Raise a UserError, before training begins, where a metric needs more samples than it will be given."""
        distances = {name: m for name, m in self.metrics.items() if not m.needs & {"nll", "drawn", *OF_CODES}}
        if not self.every or not distances:
            return
        extractor = extractor_for(self.dataset, None, torch.device("cpu"), shown=False)
        for name, metric in distances.items():
            least = metric.least(extractor.dimension)
            if self.n < least:
                raise UserError(f"trainer.validate_data={self.n}: {name} needs at least {least} samples")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Training)
        self.done_step = trainer.global_step
        for name, metric in self.metrics.items():
            if self.every and not metric.needs & {"nll", *OF_CODES} and "sample" not in pl_module.ema.can:
                raise UserError(
                    f"trainer.validate: {name} is of samples, which this model has none of until training ends; drop it"
                )
            if self.every and metric.needs & OF_CODES:
                able, of = ("classify", "classes") if "classify" in metric.needs else ("encode", "codes")
                if able not in pl_module.ema.can:
                    raise UserError(f"trainer.validate: {name} is of {of}, and this model has none; leave it out")
                metric.check(self.codes(pl_module.ema))
            if self.every and "drawn" in metric.needs:
                metric.check(self.sampled(pl_module.ema))

    def sampled(self, model: Model) -> Sampled:
        return Sampled(Drawing(model, self.sampler, self.seed, self.batch_size, shown=False), self.dataset)

    def codes(self, model: Model) -> Coded:
        return Coded(model, self.dataset, "validation", self.n, self.batch_size, shown=False)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Training)
        step = trainer.global_step
        if not self.every or step == self.done_step or step % self.every or not pl_module.boundary:
            return
        self.done_step = step
        with whole(pl_module.ema):
            numbers, losses = self.measure(pl_module.ema), dict[str, float]()
            if pl_module.ema.loss_tells:
                losses = validation_losses(pl_module.ema, self.dataset, self.seed, self.n, self.batch_size)
        row = {f"{GOOD}{name}": value for name, value in {**{n.name: n.value for n in numbers}, **losses}.items()}
        if row:
            log(trainer, row)
        for name, value in row.items():
            pl_module.log(name, value, logger=False)
        first = ranking(self.metrics)
        if first is not None:
            value = next(number.value for number in numbers if number.name.startswith(first.name))
            pl_module.log(BEST, -value if first.rises else value, logger=False)

    def measure(self, model: Model) -> list[Number]:
        numbers: list[Number] = []
        distances: dict[str, SampleMetric] = {}
        for name, metric in self.metrics.items():
            if metric.needs & OF_CODES:
                numbers += metric.evaluate(self.codes(model))
            elif "drawn" in metric.needs:
                numbers += metric.evaluate(self.sampled(model))
            elif not isinstance(metric, NegativeLogLikelihood):
                distances[name] = metric
            elif "nll" in model.can:
                numbers += likelihood(
                    model, self.dataset, metric, self.estimator, "validation", self.seed, self.batch_size, shown=False
                )
        if distances:
            extractor = extractor_for(self.dataset, None, model.device, shown=False)
            drawing = Drawing(model, self.sampler, self.seed, self.batch_size, shown=False)
            keep = keeps_features(distances)
            real = reference(extractor, self.dataset, None, self.batch_size, keep, shown=False)
            numbers += judge(distances, real, sample_features(extractor, drawing, self.n, keep))
        return numbers


def ranking(metrics: dict[str, Any]) -> Ranking | None:
    """By which number the best checkpoint is chosen where the loss does not tell: that of the first that has one."""
    return next((metric.ranks for metric in metrics.values() if hasattr(metric, "ranks")), None)


@torch.no_grad()
def validation_losses(model: Model, dataset: DataSet, seed: int, n: int, batch_size: int) -> dict[str, float]:
    """What training logs of the counting player, on the first n validation data, with the same noise each time."""
    data = dataset.split("validation")
    sums: dict[str, Tensor] = {}
    count = min(n, len(data))
    parts = list(cover(share(count), batch_size))
    for number in range(-(-count // (world()[1] * batch_size))):
        # A process whose share is done looks at a datum that counts nothing: all must know the names, and a loss may be
        # of what all processes have.
        mine = number < len(parts)
        index = parts[number] if mine else torch.zeros(1, dtype=torch.long)
        batch = {key: value.to(model.device) for key, value in data.batch(index).items()}
        rng = Rng(seed, index.to(model.device)).stage("validation")
        for name, value in model.loss(batch, rng, model.counts, 0).items():
            counted = float(value) * (len(index) if mine else 0)
            sums[name] = sums.get(name, torch.zeros(1, dtype=torch.float64)) + counted
    return {name: float(all_sum(total)) / count for name, total in sums.items()}


class Previewing(Callback):
    """Draws a grid of samples of the moving average every so many steps, always from the same noise.

    Arguments:
        every: steps; 0 is never.
        folder: where step_0000500.png goes.
        sampler: how it is drawn.
        n: samples.
        seed: of the noise.
    """

    def __init__(self, every: int, folder: Path, sampler: Any, n: int, seed: int) -> None:
        self.every, self.folder, self.sampler, self.n, self.seed = every, folder, sampler, n, seed
        self.done_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.done_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Training)
        step, model = trainer.global_step, pl_module.ema
        if not self.every or step == self.done_step or step % self.every or not pl_module.boundary:
            return
        self.done_step = step
        if "sample" not in model.can or not viewable(model.spec["x"]):
            return
        with whole(model):
            x = drawn(Drawing(model, self.sampler, self.seed, self.n, shown=False), self.n)
        if not trainer.is_global_zero:
            return
        picture = mosaic(x, model.spec["x"])
        save_png(picture, self.folder / f"step_{step:07d}.png")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("samples", picture, step)
