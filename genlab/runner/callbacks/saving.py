"""Checkpoints while training, and a graceful stop."""

import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from lightning import Callback, LightningModule, Trainer

from genlab.core.collectives import Vote
from genlab.runner.callbacks.alarm import Alarm
from genlab.runner.lightning_module import Training

# Signals that come this close together are one: a terminal sends one to every process, and torchrun another one.
TOGETHER = 1.0


class Saving(Callback):
    """Writes last.ckpt every so many steps, and when training ends or is stopped.

    Only between optimizer steps, so that a run continued from any checkpoint is the run that was never stopped.
    A run that has diverged ends before anything is written over a good checkpoint. Where there are several processes,
    all stop at the same step whichever of them was asked to.

    Arguments:
        folder: of the checkpoints.
        every: steps between checkpoints; 0 writes at the end only.
        keep_every: steps between checkpoints that stay, as step_0000500.ckpt; 0 keeps none.
        watch_every: numbers of steps between looks at whether the run has diverged; see `Alarm`.
    """

    def __init__(self, folder: Path, every: int, keep_every: int, watch_every: tuple[int, ...]) -> None:
        self.folder, self.every, self.keep_every = folder, every, keep_every
        self.alarm = Alarm(self.last, watch_every)
        self.saved_step = -1
        self.asked_at: float | None = None
        self.stopped, self.vote = False, Vote()
        self.handlers: dict[int, Any] = {}

    @property
    def last(self) -> Path:
        return self.folder / "last.ckpt"

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Lightning would have all processes tell each other in each step, and wait for the device to hear it.
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
        self.handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self._listen()

    def _listen(self) -> None:
        # Not where this is not the main thread, in which nobody presses Ctrl-C.
        with suppress(ValueError):
            for number in self.handlers:
                signal.signal(number, self._asked_to_stop)

    def _asked_to_stop(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.asked_at is not None:
            if now - self.asked_at > TOGETHER:
                raise KeyboardInterrupt
            return
        self.asked_at = now
        print("genlab: stopping after this step; once more stops at once", file=sys.stderr)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Once more, since meanwhile Lightning has put its own handlers before these.
        self._listen()
        self.saved_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Training)
        step = trainer.global_step
        if not pl_module.boundary:
            return
        if self.vote.any(self.asked_at is not None):
            trainer.should_stop = self.stopped = True
        elif step != self.saved_step and self.every and step % self.every == 0:
            self._save(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Training)
        if trainer.global_step != self.saved_step and pl_module.boundary:
            self._save(trainer, pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        with suppress(ValueError):
            for number, handler in self.handlers.items():
                signal.signal(number, handler)
        self.handlers = {}

    def _save(self, trainer: Trainer, pl_module: Training) -> None:
        self.alarm.check(pl_module, trainer.global_step)
        trainer.save_checkpoint(self.last)
        self.saved_step = trainer.global_step
        if self.keep_every and self.saved_step % self.keep_every == 0:
            trainer.save_checkpoint(self.folder / f"step_{self.saved_step:07d}.ckpt")
