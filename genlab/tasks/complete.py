"""The first part of data given, the rest drawn: the upper rows of an image, the beginning of a text.

    x_i ~ p(x_i | x_{<i})    for the places i that are not given

which is a draw from p(rest | given), since what is given comes first in the model's order.
"""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Field
from genlab.models.contract import Model, Watch
from genlab.tasks.contract import SplitName, Task, check_index, given, sampling

# What stands where nothing is given yet: grey.
BLANK = 0.0


@runtime_checkable
class Completing(Protocol):
    """A model that can draw some places of a datum given those before them; see `Autoregressive.completed`."""

    @property
    def places(self) -> Tensor:
        """(L,) int64, the places in the order in which they are drawn."""

    def completed(
        self,
        x: Tensor,
        given: Tensor | None,
        conditions: Batch,
        rng: Rng,
        sampler: Any = None,
        watch: Watch | None = None,
    ) -> Tensor:
        """Data (B, C, *) with the values of x at the places that `given` (L,) marks, drawn at the others."""


class Complete(Task):
    """Draw the rest of data whose first rows are given.

    Arguments:
        rows: of an image that are given, from the top; of a sequence, the values, from its beginning. None is half.
        split: of the data set.
        index: which data, gone through in turn; None is 0, 1, 2 and on. A single one is completed again and again.
        label: see `Task`.
    """

    layout = (("data", "given", "x"),)

    def __init__(
        self,
        rows: int | None = None,
        split: SplitName = "test",
        index: int | list[int] | None = None,
        label: int | list[int] | None = None,
    ) -> None:
        if rows is not None and rows < 1:
            raise ValueError(f"rows must be at least 1, not {rows}")
        self.rows, self.split, self.index, self.label = rows, split, check_index(index), label

    def known(self, field: Field) -> Tensor:
        """(*) of bool, which places of data (C, *) are given."""
        sizes = field.shape[1:]
        if not sizes:
            raise UserError(f"task=complete: the data are {field.shape[0]} numbers and have no rows to be given")
        rows = sizes[0] // 2 if self.rows is None else self.rows
        if not 1 <= rows < sizes[0]:
            what = "rows" if len(sizes) > 1 else "values"
            raise UserError(f"task.rows={rows}: the data have {sizes[0]} {what}; give at least 1, and fewer than that")
        mask = torch.zeros(sizes, dtype=torch.bool)
        mask[:rows] = True
        return mask

    def check(self, model: Model, sampler: Any) -> None:
        super().check(model, sampler)
        if not isinstance(model, Completing):
            raise UserError(
                f"task=complete: {type(model).__name__} does not draw place by place, and it needs an autoregressive "
                "model; task=inpaint is for diffusion models"
            )
        if getattr(sampler, "length", None) is not None:
            raise UserError("sampler.length: is for task=generate; data that are completed keep theirs, leave it out")
        mask = self.known(model.spec["x"]).flatten()
        if not mask[model.places.cpu()[: int(mask.sum())]].all():
            raise UserError(
                "task=complete: the model draws places in another order, in which those that are given are not the "
                "first; train one of the natural order"
            )

    def __call__(
        self,
        model: Model,
        index: Tensor,
        seed: int,
        sampler: Any,
        watch: Watch | None = None,
        batch: Batch | None = None,
    ) -> Batch:
        batch = given(self, batch)
        data, conditions = batch["x"], self.conditions(model, sampler, index, batch)
        assert isinstance(model, Completing)
        mask = self.known(model.spec["x"]).to(data.device)
        x = model.completed(data, mask.flatten(), conditions, sampling(seed, index), sampler, watch)
        return {"x": x, "data": data, "given": torch.where(mask, data, BLANK), **conditions}
