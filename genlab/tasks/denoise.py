"""Noise on data and the model's way back, and how far both are apart. How: `genlab.tasks.noise`."""

from typing import Any

from torch import Tensor

from genlab.core.spec import Batch
from genlab.models.contract import Model, Watch
from genlab.tasks.contract import SplitName, Task, check_index, given, sampling
from genlab.tasks.noise import Steps, way


class Denoise(Task):
    """Both ways of a diffusion model as strips, from the data on the left to the noise on the right; of an autoencoder
    that restores, data, what is made of them, and what it restores of that.

    Arguments:
        points: pictures in a strip, at evenly spaced steps of the sampler, first and last among them; None is 9, or as
            many as there are. An autoencoder has no steps, and takes none.
        split: of the data set.
        index: which data, gone through in turn; None is 0, 1, 2 and on.
        label: see `Task`.
    """

    needs = frozenset()
    layout = Steps.layout
    shades = True

    def __init__(
        self,
        points: int | None = None,
        split: SplitName = "test",
        index: int | list[int] | None = None,
        label: int | list[int] | None = None,
    ) -> None:
        if points is not None and points < 2:
            raise ValueError(f"points must be at least 2, not {points}: the data and the noise")
        self.points, self.split, self.index, self.label = points, split, check_index(index), label

    def check(self, model: Model, sampler: Any) -> None:
        super().check(model, sampler)
        found = way(model)
        found.check(self.points, sampler)
        self.layout, self.numbers, self.sampled = found.layout, found.numbers, found.sampled

    def __call__(
        self,
        model: Model,
        index: Tensor,
        seed: int,
        sampler: Any,
        watch: Watch | None = None,
        batch: Batch | None = None,
    ) -> Batch:
        batch, conditions = given(self, batch), self.conditions(model, sampler, index, batch)
        found = way(model)(batch["x"], self.points, conditions, sampling(seed, index), sampler, watch)
        return {**found, **conditions}
