"""How many bits a datum takes, sent step by step as the reverse process goes, and how near it is after each.

How: `genlab.models.diffusion.coding`. The published curve is that of all steps of a table.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.spec import Batch
from genlab.core.units import bits_per_dim, in_grey_levels
from genlab.models.contract import Model, Watch
from genlab.models.diffusion.bound import VariationalBound
from genlab.models.diffusion.coding import progressive
from genlab.models.diffusion.samplers.spacing import spaced_times
from genlab.models.diffusion.schedule import Schedule
from genlab.tasks.contract import Curve, Quantity, SplitName, Task, check_index, given, sampling
from genlab.tasks.diffusion import diffusion

# Steps where the schedule has none of its own.
CONTINUOUS = 1000


class Compress(Task):
    """The rate-distortion curve of a diffusion model, and what the receiver sees on the way.

    Arguments:
        steps: of the code, evenly spaced; None is every step of the table, or 1,000 in continuous time.
        points: pictures of the receiver's estimate, evenly spaced over the steps.
        variance: of p(x_s | x_t), as in the bound: "posterior" (beta~), "transition" (beta) or "learned"; None is the
            last where the model has learned it, else the first.
        split: of the data set.
        index: which data, gone through in turn; None is 0, 1, 2 and on.
    """

    layout = (("x", "data"),)
    sampled = False
    traces = ("rate", "distortion")

    def __init__(
        self,
        steps: int | None = None,
        points: int = 9,
        variance: Literal["posterior", "transition", "learned"] | None = None,
        split: SplitName = "test",
        index: int | list[int] | None = None,
    ) -> None:
        if steps is not None and steps < 2:
            raise ValueError(f"steps must be at least 2, not {steps}")
        if points < 1:
            raise ValueError(f"points must be at least 1, not {points}")
        self.steps, self.points, self.variance = steps, points, variance
        self.split, self.index = split, check_index(index)
        self.bound, self.times = VariationalBound(), [0.0]
        self.scale, self.unit = in_grey_levels, "0..255"
        self.numbers: Mapping[str, Quantity] = {
            "sent": Quantity("the bits up to x_1, L_T + ... + L_1", "bits/dim"),
            "rest": Quantity("the bits that the data themselves take then, L_0", "bits/dim"),
            "whole": Quantity("both together, the variational bound", "bits/dim"),
        }

    def check(self, model: Model, sampler: Any) -> None:
        super().check(model, sampler)
        model = diffusion(model, self)
        schedule = model.schedule
        if self.variance == "learned" and model.outputs == 1:
            raise UserError("task.variance=learned: the model has learned none; choose posterior or transition")
        self.bound = VariationalBound(variance=self.variance or ("learned" if model.outputs == 2 else "posterior"))
        most = schedule.steps
        if most is not None and self.steps is not None and self.steps > most:
            raise UserError(f"task.steps={self.steps}: the model's schedule has {most} steps; choose at most {most}")
        self.times = self.passed(schedule)[:-1].tolist()
        if self.points > len(self.times):
            raise UserError(f"task.points={self.points}: the code has {len(self.times)} steps; choose at most as many")
        if model.spec["x"].levels is None:
            self.scale, self.unit = _as_it_is, "the data's own units"

    def passed(self, schedule: Schedule) -> Tensor:
        """The falling times (S + 1,) of the code."""
        return spaced_times(schedule, "trailing", self.steps or schedule.steps or CONTINUOUS)

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
        data, field = batch["x"], model.spec["x"]
        denoise = model.denoiser(self.conditions(model, None, index, batch), rng)
        times = self.passed(model.schedule).to(data.device)
        keep = torch.linspace(0, len(times) - 2, self.points).round().long().tolist()
        with torch.no_grad():
            coded = progressive(model.schedule, denoise, data, times, self.bound, field, rng, model.bounded, keep)
        rate, rest = bits_per_dim(coded.rate, field), bits_per_dim(coded.rest, field)
        values = {"sent": rate[:, -1], "rest": rest, "whole": rate[:, -1] + rest}
        return {"x": coded.estimates, "data": data, **values, "rate": rate, "distortion": coded.distortion}

    def curves(self, values: Batch) -> list[Curve]:
        rate = values["rate"].mean(0)
        error = self.scale(values["distortion"].mean(0).sqrt())
        steps = len(self.times)
        columns = {
            "step": [float(i + 1) for i in range(steps)],
            "t": self.times,
            "rate (bits/dim)": rate.tolist(),
            f"RMSE ({self.unit})": error.tolist(),
        }
        step, _, bits, distortion = columns
        plots = ((step, distortion), (step, bits), (bits, distortion))
        how = f"{self.bound.variance} variance, {steps} steps, root of the mean over {len(values['rate'])} data"
        return [Curve("rate_distortion", columns, plots, how)]


def _as_it_is(difference: Tensor) -> Tensor:
    return difference
