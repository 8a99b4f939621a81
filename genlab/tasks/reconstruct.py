"""Data through their codes and back: how much of a datum its code keeps.

    x' = decode(encode(x)),    MSE = |x - x'|^2 / D,    PSNR = 10 log10(4 / MSE) dB

4 is the square of the range of data in [-1, 1]. With a diffusion model and a deterministic sampler nothing is lost but
by steps that are too long.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from genlab.core.spec import Batch
from genlab.core.units import psnr
from genlab.models.contract import Model, Watch
from genlab.tasks.codes import codes
from genlab.tasks.contract import Quantity, SplitName, Task, check_index, given, sampling


class Reconstruct(Task):
    """Encode data and decode them.

    What a decoder gives is the mean of data, which need not be one of their levels: of black and white it is grey.

    Arguments:
        split: of the data set.
        index: which data, gone through in turn; None is 0, 1, 2 and on.
    """

    needs = frozenset()
    layout = (("data", "x"),)
    shades = True
    numbers: Mapping[str, Quantity] = {
        "mse": Quantity("the mean square of a value's error, data in [-1, 1]"),
        "psnr": Quantity("the peak signal-to-noise ratio of a datum, range 2", "dB"),
    }

    def __init__(self, split: SplitName = "test", index: int | list[int] | None = None) -> None:
        self.split, self.index = split, check_index(index)

    def check(self, model: Model, sampler: Any) -> None:
        super().check(model, sampler)
        codes(model, sampler).check()
        if model.spec["x"].levels is None:
            self.numbers = {"mse": Quantity("the mean square of a value's error, in the data's own units")}

    def __call__(
        self,
        model: Model,
        index: Tensor,
        seed: int,
        sampler: Any,
        watch: Watch | None = None,
        batch: Batch | None = None,
    ) -> Batch:
        batch, rng, coder = given(self, batch), sampling(seed, index), codes(model, sampler)
        conditions = self.conditions(model, sampler, index, batch)
        x = coder.decode(coder.encode(batch, conditions, rng), conditions, rng, watch)
        mse = (x.double() - batch["x"].double()).square().flatten(1).mean(1)
        found = {"x": x, "data": batch["x"], **conditions, "mse": mse}
        return found if model.spec["x"].levels is None else {**found, "psnr": psnr(mse)}
