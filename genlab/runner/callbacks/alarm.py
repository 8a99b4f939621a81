"""The end of a run that has diverged, before anything is written over what was good."""

from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from genlab.core.errors import UserError
from genlab.runner.lightning_module import Training


class Alarm(Callback):
    """Stops a run whose loss, or whose weights, are not finite numbers, and names the last checkpoint before.

    Arguments:
        last: the checkpoint.
        every: numbers of steps; it looks at each multiple of any of them, and waits for the device. 0 is never.
    """

    def __init__(self, last: Path, every: tuple[int, ...]) -> None:
        self.last, self.every = last, [steps for steps in every if steps]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Training)
        step = trainer.global_step
        if pl_module.boundary and any(step % steps == 0 for steps in self.every):
            self.check(pl_module, step)

    def check(self, pl_module: Training, step: int) -> None:
        """Raise a UserError where it has diverged by this step."""
        bad = pl_module.bad_step()
        if bad is not None:
            said = f"the loss is not a finite number at step {bad}"
        elif pl_module.bad_weights():
            said = f"weights are not finite numbers after step {step}"
        else:
            return
        good = f"the last good checkpoint is {self.last}" if self.last.exists() else "no checkpoint was written before"
        raise UserError(
            f"{said}, and the run stops: {good}; a smaller optim.lr, optim.gradient_clip or trainer.precision=32-true "
            "may help"
        )
