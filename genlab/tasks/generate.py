"""New samples: sample i is drawn from noise that belongs to (seed, i), given a label where the model wants one."""

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch
from genlab.models.contract import Model, Watch


class Generate:
    """Draw new samples.

    Arguments:
        label: a class, or classes that the samples go through in turn; None goes through all that there are where the
            model is conditional.
    """

    needs = frozenset({"sample"})

    def __init__(self, label: int | list[int] | None = None) -> None:
        self.label = label

    def conditions(self, model: Model, index: Tensor) -> Batch:
        """What the samples numbered `index` (B,) are asked to be."""
        if "label" not in model.conditions:
            if self.label is not None:
                raise UserError(f"label={self.label}: the model has no labels; train one by conditioner=label")
            return {}
        classes = model.spec["label"].classes or 0
        asked = list(range(classes)) if self.label is None else self.label
        asked = [asked] if isinstance(asked, int) else asked
        if not asked or not all(0 <= label < classes for label in asked):
            raise UserError(f"label={self.label}: labels are 0 to {classes - 1}")
        return {"label": torch.tensor(asked, device=index.device)[index % len(asked)]}

    def __call__(self, model: Model, index: Tensor, seed: int, sampler: object, watch: Watch | None = None) -> Batch:
        """The samples numbered `index` (B,)."""
        rng = Rng(seed, index).stage("sample")
        return model.sample(self.conditions(model, index), rng, sampler, watch)
