"""A part of each image drawn anew, to go with the rest, which stays as it is.

The part is white in a mask, or a box. How: `genlab.models.diffusion.known`.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.spec import Batch
from genlab.models.contract import Model, Watch
from genlab.models.diffusion.known import Outside, check_back_and_forth, completed
from genlab.tasks.contract import SplitName, Task, check_index, given, sampling
from genlab.tasks.diffusion import diffusion


class Inpaint(Task):
    """Draw a part of each image anew.

    Arguments:
        mask: a picture file of the images' size, white where they are drawn anew.
        box: instead, [top, left, height, width] in pixels.
        resample: how often each stretch of the sampler's steps is taken, with noise in between; 1 goes straight on, and
            more makes the new part agree with the rest.
        stretch: of how many steps a stretch is.
        split: of the data set.
        index: which data, gone through in turn; None is 0, 1, 2 and on. A single one is drawn again and again.
        label: see `Task`.
    """

    layout = (("data", "masked", "x"),)

    def __init__(
        self,
        mask: str | None = None,
        box: list[int] | None = None,
        resample: int = 1,
        stretch: int = 1,
        split: SplitName = "test",
        index: int | list[int] | None = None,
        label: int | list[int] | None = None,
    ) -> None:
        if (mask is None) == (box is None):
            raise ValueError("either mask, a file, or box, [top,left,height,width], must be given")
        if box is not None and (len(box) != 4 or min(box[:2]) < 0 or min(box[2:]) < 1):
            raise ValueError(f"box={box}: must be [top,left,height,width], the first two of at least 0, the last of 1")
        if resample < 1:
            raise ValueError(f"resample must be at least 1, not {resample}")
        if stretch < 1:
            raise ValueError(f"stretch must be at least 1, not {stretch}")
        self.mask, self.box, self.resample, self.stretch = None if mask is None else _read(mask), box, resample, stretch
        self.split, self.index, self.label = split, check_index(index), label

    @property
    def facts(self) -> dict[str, str | int | float]:
        if self.mask is None:
            return {}
        return {"mask": hashlib.sha256(np.packbits(self.mask.numpy()).tobytes()).hexdigest()[:16]}

    def unknown(self, shape: tuple[int, ...]) -> Tensor:
        """(H, W), true where images of this shape are drawn anew."""
        height, width = shape[-2:]
        if self.mask is not None:
            if tuple(self.mask.shape) != (height, width):
                here = "x".join(str(side) for side in reversed(self.mask.shape))
                raise UserError(f"task.mask: it has {here} pixels, and the images have {width}x{height}")
            return self.mask
        assert self.box is not None
        top, left, rows, columns = self.box
        if top + rows > height or left + columns > width:
            raise UserError(
                f"task.box={self.box}: it ends at row {top + rows} and column {left + columns}, and the images have "
                f"{height} rows and {width} columns"
            )
        mask = torch.zeros(height, width, dtype=torch.bool)
        mask[top : top + rows, left : left + columns] = True
        return mask

    def check(self, model: Model, sampler: Any) -> None:
        super().check(model, sampler)
        schedule = diffusion(model, self).schedule
        if not model.spec["x"].is_image:
            raise UserError("task=inpaint: a mask is for images, and the data are none")
        self.unknown(model.spec["x"].shape)
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
        batch, model = given(self, batch), diffusion(model, self)
        data, conditions = batch["x"], self.conditions(model, sampler, index, batch)
        projection = Outside(self.unknown(model.spec["x"].shape).to(data.device))
        rng = sampling(seed, index)
        x = completed(model, projection, data, conditions, rng, sampler, watch, self.resample, self.stretch)
        return {"x": x, "data": data, "masked": projection(data), **conditions}


def _read(path: str) -> Tensor:
    """(H, W), true where the picture is white."""
    from PIL import Image

    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"mask={path}: there is no such file")
    try:
        with Image.open(file) as picture:
            return torch.from_numpy(np.array(picture.convert("L"))) >= 128
    except Exception as error:
        raise ValueError(f"mask={path}: it cannot be read as a picture") from error
