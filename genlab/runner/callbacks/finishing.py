"""What a model still has to see of the training data when its last step is done, and forgets when more follow."""

from collections.abc import Iterator

import torch
from lightning import Callback, LightningModule, Trainer

from genlab.core.spec import Batch
from genlab.data.contract import DataSet
from genlab.models.contract import Model
from genlab.runner.callbacks.saving import Saving
from genlab.runner.lightning_module import Training
from genlab.runner.sharding import whole


class Finishing(Callback):
    """Shows the model and its moving average the training data in order, before the last checkpoint is written.

    Arguments:
        data: the data set.
        size: data in a batch.
        saving: writes the last checkpoint, after this.
    """

    def __init__(self, data: DataSet, size: int, saving: Saving) -> None:
        self.data, self.size, self.saving = data, size, saving

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Training)
        for model in (pl_module.model, pl_module.ema):
            model.begin()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Training)
        if self.saving.stopped or type(pl_module.model).finish is Model.finish:
            return
        for model in (pl_module.model, pl_module.ema):
            with whole(model):
                model.finish(self.batches())
        # What was saved at this step does not have it.
        self.saving.saved_step = -1

    def batches(self) -> Iterator[Batch]:
        """The training split in order, loaded only as far as it is looked at."""
        split = self.data.split("train")
        for start in range(0, len(split), self.size):
            yield split.batch(torch.arange(start, min(start + self.size, len(split))))
