"""Noise on data and the way back, whichever a model has.

A diffusion model goes to noise and back step by step:

    forward      x_0 -> x_t by q(x_t | x_s), time upon time
    reverse      x_1 -> x_t by the sampler, from where the forward process ended
    difference   reverse - forward, at the same times

x_t is shown divided by sqrt(alpha_t^2 + sigma_t^2), which leaves it as it is where the variance is preserved. An
autoencoder that was trained to restore goes in one step:

    corrupted    c(x), as in training
    x            decode(encode(c(x)))

References:
    Deep Unsupervised Learning using Nonequilibrium Thermodynamics (Sohl-Dickstein et al., 2015), figures 1 and 3.
    Extracting and Composing Robust Features with Denoising Autoencoders (Vincent et al., 2008).
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch
from genlab.core.units import psnr
from genlab.models.contract import Model, Watch
from genlab.models.diffusion.known import noised
from genlab.models.diffusion.model import GaussianDiffusion
from genlab.models.diffusion.schedule import Schedule, match
from genlab.tasks.contract import Quantity

Layout = tuple[tuple[str, ...], ...]

# Pictures in a strip, where nobody says how many.
POINTS = 9


@runtime_checkable
class Restoring(Protocol):
    """A model that corrupts data in training, or could."""

    corruption: Callable[[Tensor, Rng], Tensor] | None


class Way(Protocol):
    """To noise and back.

    Attributes:
        layout, numbers, sampled: as of a task.
    """

    layout: Layout
    numbers: Mapping[str, Quantity]
    sampled: bool

    def check(self, points: int | None, sampler: Any) -> None:
        """Raise a UserError where it is asked for what it has not."""

    def __call__(
        self, data: Tensor, points: int | None, conditions: Batch, rng: Rng, sampler: Any, watch: Watch | None
    ) -> Batch:
        """What `layout` and `numbers` name, of the data (B, *)."""


def way(model: Model) -> Way:
    """The one that the model has; a UserError where it has none."""
    if isinstance(model, GaussianDiffusion):
        return Steps(model)
    if isinstance(model, Restoring) and model.corruption is not None:
        return Restored(model, model.corruption)
    raise UserError(
        f"task=denoise: {type(model).__name__} was not trained to take noise away; it is for Gaussian diffusion "
        "models, and for autoencoders with a corruption, as model=dae"
    )


class Steps:
    """That of a diffusion model, as strips of so many points from the data to the noise."""

    layout: Layout = (("forward",), ("reverse",), ("difference",))
    numbers: Mapping[str, Quantity] = {}
    sampled = True

    def __init__(self, model: GaussianDiffusion) -> None:
        self.model = model

    def check(self, points: int | None, sampler: Any) -> None:
        schedule = self.model.schedule
        if sampler.evaluations(schedule) is None:
            raise UserError(f"task=denoise: sampler={sampler.name} chooses its own times; choose another sampler")
        steps = len(sampler.times(schedule)) - 1
        if points is not None and points > steps + 1:
            raise UserError(f"task.points={points}: the sampler has {steps} steps; choose at most {steps + 1}")

    def __call__(
        self, data: Tensor, points: int | None, conditions: Batch, rng: Rng, sampler: Any, watch: Watch | None
    ) -> Batch:
        schedule = self.model.schedule
        times = sampler.times(schedule).to(data.device)
        points = points or min(POINTS, len(times))
        steps = torch.linspace(len(times) - 1, 0, points).round().long().tolist()
        shown = times[steps]
        forward = forward_path(schedule, data, shown, rng.stage("forward"))
        states: dict[int, Tensor] = {}

        def look(progress: float, x: Tensor) -> None:
            step = round(progress * (len(times) - 1))
            if step in steps:
                states[step] = x
            if watch is not None:
                watch(progress, x)

        x = self.model.from_noise(forward[-1], conditions, rng, sampler, look)
        scale = torch.stack([alpha.square() + sigma.square() for alpha, sigma in map(schedule, shown)]).rsqrt()

        def strip(path: list[Tensor]) -> Tensor:
            return torch.stack([match(c, x_t) * x_t for c, x_t in zip(scale, path, strict=True)], dim=1)

        ways = {"forward": strip(forward), "reverse": strip([states[step] for step in steps])}
        return {**ways, "difference": ways["reverse"] - ways["forward"], "x": x}


def forward_path(schedule: Schedule, x_0: Tensor, times: Tensor, rng: Rng) -> list[Tensor]:
    """x_t (B, *) at each of the rising times, one path of the process that begins at the data."""
    path, s = [x_0], torch.zeros_like(times[0])
    begins_at_data = bool(times[0] == 0)
    for t in times[1:] if begins_at_data else times:
        path.append(noised(schedule, path[-1], s, t, rng))
        s = t
    return path if begins_at_data else path[1:]


class Restored:
    """That of an autoencoder: what it makes of corrupted data, with the errors before and after."""

    layout: Layout = (("data", "corrupted", "x"),)
    sampled = False

    def __init__(self, model: Model, corruption: Callable[[Tensor, Rng], Tensor]) -> None:
        self.model, self.corruption = model, corruption
        self.numbers: Mapping[str, Quantity] = {
            "mse_corrupted": Quantity("the mean square of a corrupted value's error"),
            "mse": Quantity("the mean square of a restored value's error"),
        }
        self.has_range = model.spec["x"].levels is not None
        if self.has_range:
            self.numbers = {
                **self.numbers,
                "psnr_corrupted": Quantity("the peak signal-to-noise ratio of a corrupted datum, range 2", "dB"),
                "psnr": Quantity("the peak signal-to-noise ratio of a restored datum, range 2", "dB"),
            }

    def check(self, points: int | None, sampler: Any) -> None:
        if points is not None:
            raise UserError(
                f"task.points={points}: {type(self.model).__name__} restores in one step; it is for diffusion models"
            )

    def __call__(
        self, data: Tensor, points: int | None, conditions: Batch, rng: Rng, sampler: Any, watch: Watch | None
    ) -> Batch:
        corrupted = self.corruption(data, rng.stage("corruption"))
        x = self.model.decode({**self.model.encode({"x": corrupted, **conditions}), **conditions})["x"]
        found = {"x": x, "data": data, "corrupted": corrupted}
        for name, other in (("_corrupted", corrupted), ("", x)):
            mse = (other.double() - data.double()).square().flatten(1).mean(1)
            found[f"mse{name}"] = mse
            if self.has_range:
                found[f"psnr{name}"] = psnr(mse)
        return found
