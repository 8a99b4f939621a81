"""Samples with the noise that each was made from, which `data=coupled` reads: reflow trains on them.

References:
    Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow (Liu et al., 2023), section 2.2.
"""

from typing import Any

from torch import Tensor

from genlab.core.spec import Batch
from genlab.models.contract import Model, Watch
from genlab.tasks.contract import Task, sampling
from genlab.tasks.diffusion import diffusion


class Pairs(Task):
    """New samples x, those of task=generate, each with its "noise" of unit variance. They are kept in .npz files.

    The noise decides the sample where the sampler is a solver of the flow, as euler, heun or rk45.

    Arguments:
        label: a class, or classes that the samples go through in turn; None goes through all that there are where the
            model is conditional.
    """

    exact = True

    def __init__(self, label: int | list[int] | None = None) -> None:
        self.label = label

    def check(self, model: Model, sampler: Any) -> None:
        super().check(model, sampler)
        diffusion(model, self)

    def __call__(
        self,
        model: Model,
        index: Tensor,
        seed: int,
        sampler: Any,
        watch: Watch | None = None,
        batch: Batch | None = None,
    ) -> Batch:
        own, rng, conditions = diffusion(model, self), sampling(seed, index), self.conditions(model, sampler, index)
        x_1 = own.prior(rng)
        x_0 = own.from_noise(x_1, conditions, rng, sampler, watch)
        return {"x": x_0, "noise": x_1 / own.schedule.prior_scale, **conditions}
