"""New samples: sample i is drawn from noise that belongs to (seed, i), given a label where the model wants one."""

from typing import Any

from torch import Tensor

from genlab.core.spec import Batch
from genlab.models.contract import Model, Watch
from genlab.tasks.contract import Task, sampling


class Generate(Task):
    """Draw new samples.

    Arguments:
        label: a class, or classes that the samples go through in turn; None goes through all that there are where the
            model is conditional.
    """

    def __init__(self, label: int | list[int] | None = None) -> None:
        self.label = label

    def __call__(
        self,
        model: Model,
        index: Tensor,
        seed: int,
        sampler: Any,
        watch: Watch | None = None,
        batch: Batch | None = None,
    ) -> Batch:
        return model.sample(self.conditions(model, sampler, index), sampling(seed, index), sampler, watch)
