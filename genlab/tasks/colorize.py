"""Colours for grey images, which stay the grey images of what comes out.

The grey of a pixel is the mean of its channels. How: `genlab.models.diffusion.known`.

References:
    Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), appendix I.3.
"""

from typing import Any

from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.spec import Batch
from genlab.models.contract import Model, Watch
from genlab.models.diffusion.known import Grey, check_back_and_forth, completed
from genlab.tasks.contract import SplitName, Task, check_index, given, sampling
from genlab.tasks.diffusion import diffusion


class Colorize(Task):
    """Take the colours away from data, and draw new ones.

    Arguments:
        resample, stretch: as in `Inpaint`.
        split: of the data set.
        index: which data, gone through in turn; None is 0, 1, 2 and on. A single one is drawn again and again.
        label: see `Task`.
    """

    layout = (("data", "grey", "x"),)

    def __init__(
        self,
        resample: int = 1,
        stretch: int = 1,
        split: SplitName = "test",
        index: int | list[int] | None = None,
        label: int | list[int] | None = None,
    ) -> None:
        if resample < 1:
            raise ValueError(f"resample must be at least 1, not {resample}")
        if stretch < 1:
            raise ValueError(f"stretch must be at least 1, not {stretch}")
        self.resample, self.stretch = resample, stretch
        self.split, self.index, self.label = split, check_index(index), label

    def check(self, model: Model, sampler: Any) -> None:
        super().check(model, sampler)
        schedule, field = diffusion(model, self).schedule, model.spec["x"]
        if not field.is_image or field.shape[0] != 3:
            what = "grey already" if field.is_image else "no images"
            raise UserError(f"task=colorize: it is for images in colour, and the data are {what}")
        if self.resample > 1:
            check_back_and_forth(sampler, schedule)

    def __call__(
        self,
        model: Model,
        index: Tensor,
        seed: int,
        sampler: Any,
        watch: Watch | None = None,
        batch: Batch | None = None,
    ) -> Batch:
        batch, model, projection = given(self, batch), diffusion(model, self), Grey()
        data, conditions = batch["x"], self.conditions(model, sampler, index, batch)
        rng = sampling(seed, index)
        x = completed(model, projection, data, conditions, rng, sampler, watch, self.resample, self.stretch)
        return {"x": x, "data": data, "grey": projection(data), **conditions}
