"""The way of a datum to noise, the sampler's way back from there, and how far they are apart.

    forward      x_0 -> x_t by q(x_t | x_s), time upon time
    reverse      x_1 -> x_t by the sampler, from where the forward process ended
    difference   reverse - forward, at the same times

x_t is shown divided by sqrt(alpha_t^2 + sigma_t^2), which leaves it as it is where the variance is preserved.

References:
    Deep Unsupervised Learning using Nonequilibrium Thermodynamics (Sohl-Dickstein et al., 2015), figures 1 and 3.
"""

from typing import Any

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch
from genlab.models.contract import Model, Watch
from genlab.models.diffusion.known import noised
from genlab.models.diffusion.schedule import Schedule, match
from genlab.tasks.contract import SplitName, Task, check_index, given, sampling
from genlab.tasks.diffusion import diffusion


class Denoise(Task):
    """Both ways as strips, from the data on the left to the noise on the right.

    Arguments:
        points: pictures in a strip, at evenly spaced steps of the sampler, first and last among them.
        split: of the data set.
        index: which data, gone through in turn; None is 0, 1, 2 and on.
        label: see `Task`.
    """

    layout = (("forward",), ("reverse",), ("difference",))

    def __init__(
        self,
        points: int = 9,
        split: SplitName = "test",
        index: int | list[int] | None = None,
        label: int | list[int] | None = None,
    ) -> None:
        if points < 2:
            raise ValueError(f"points must be at least 2, not {points}: the data and the noise")
        self.points, self.split, self.index, self.label = points, split, check_index(index), label

    def check(self, model: Model, sampler: Any) -> None:
        super().check(model, sampler)
        schedule = diffusion(model, self).schedule
        if sampler.evaluations(schedule) is None:
            raise UserError(f"task=denoise: sampler={sampler.name} chooses its own times; choose another sampler")
        steps = len(sampler.times(schedule)) - 1
        if self.points > steps + 1:
            raise UserError(f"task.points={self.points}: the sampler has {steps} steps; choose at most {steps + 1}")

    def __call__(
        self,
        model: Model,
        index: Tensor,
        seed: int,
        sampler: Any,
        watch: Watch | None = None,
        batch: Batch | None = None,
    ) -> Batch:
        batch, model, rng = given(self, batch), diffusion(model, self), sampling(seed, index)
        schedule, conditions = model.schedule, self.conditions(model, sampler, index, batch)
        times = sampler.times(schedule).to(index.device)
        steps = torch.linspace(len(times) - 1, 0, self.points).round().long().tolist()
        shown = times[steps]
        forward = forward_path(schedule, batch["x"], shown, rng.stage("forward"))
        states: dict[int, Tensor] = {}

        def look(progress: float, x: Tensor) -> None:
            step = round(progress * (len(times) - 1))
            if step in steps:
                states[step] = x
            if watch is not None:
                watch(progress, x)

        x = model.from_noise(forward[-1], conditions, rng, sampler, look)
        scale = torch.stack([alpha.square() + sigma.square() for alpha, sigma in map(schedule, shown)]).rsqrt()

        def strip(path: list[Tensor]) -> Tensor:
            return torch.stack([match(c, x_t) * x_t for c, x_t in zip(scale, path, strict=True)], dim=1)

        ways = {"forward": strip(forward), "reverse": strip([states[step] for step in steps])}
        return {**ways, "difference": ways["reverse"] - ways["forward"], "x": x, **conditions}


def forward_path(schedule: Schedule, x_0: Tensor, times: Tensor, rng: Rng) -> list[Tensor]:
    """x_t (B, *) at each of the rising times, one path of the process that begins at the data."""
    path, s = [x_0], torch.zeros_like(times[0])
    begins_at_data = bool(times[0] == 0)
    for t in times[1:] if begins_at_data else times:
        path.append(noised(schedule, path[-1], s, t, rng))
        s = t
    return path if begins_at_data else path[1:]
