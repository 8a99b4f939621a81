"""What every sampler is: a way to take one step, and a history where it needs one.

All that changes while sampling stands in the `State`, so one sampler object serves many models and many batches.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch
from genlab.models.contract import Watch
from genlab.models.diffusion.denoiser import Denoised, Denoiser
from genlab.models.diffusion.flow_ode import noise
from genlab.models.diffusion.guidance import Guidance
from genlab.models.diffusion.process import diffuse
from genlab.models.diffusion.samplers.spacing import Spacing, spaced_times
from genlab.models.diffusion.schedule import Schedule

if TYPE_CHECKING:
    from genlab.models.diffusion.model import GaussianDiffusion

Clip = bool | Literal["dynamic"] | None

# Dynamic thresholding takes this part of a sample's values for what should lie within the range.
PERCENTILE = 0.995


@dataclass(frozen=True)
class State:
    """Where a sampler is: x_t (B, *), and what a multistep method keeps of the steps before.

    Arguments:
        history: a tuple of tensors for each step that is kept, the latest first.
        step, steps: the number of the step to come, from 0, and of all steps; None where nobody counts them.
    """

    x: Tensor
    history: tuple[tuple[Tensor, ...], ...] = ()
    step: int = 0
    steps: int | None = None


class Clipped:
    """A denoiser whose estimate of x_0 is kept where data can be.

    Arguments:
        dynamic: divide each sample by the 99.5th percentile of its absolute values where that is above 1, after
            clipping to it, so that bright samples are not saturated; else clip to [-1, 1].

    References:
        Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding (Saharia et al., 2022), sec. 2.3.
    """

    def __init__(self, denoise: Denoiser, dynamic: bool = False) -> None:
        self.denoise, self.dynamic = denoise, dynamic

    def __call__(self, x_t: Tensor, t: Tensor) -> Denoised:
        denoised = self.denoise(x_t, t)
        x_0 = denoised.x_0
        if not self.dynamic:
            return denoised._replace(x_0=x_0.clamp(-1, 1))
        most = x_0.abs().flatten(1).quantile(PERCENTILE, dim=1).clamp(min=1)
        most = most.reshape(-1, *[1] * (x_0.dim() - 1))
        return denoised._replace(x_0=x_0.clamp(-most, most) / most)


class Sampler(ABC):
    """Down a falling sequence of times from noise to data.

    Arguments:
        steps: how many; None is every step that the model's table has.
        spacing: which times are passed, see `genlab.models.diffusion.samplers.spacing`.
        clip: keep each estimate of x_0 in [-1, 1], or "dynamic": within its own range, scaled to that; None does the
            former where the data are bounded and the sampler's paper does so.
        last: end with a step to the data, t = 0; else at the smallest time that the network knows.
        rho: of spacing=karras.

    Attributes:
        clips: whether clip=None clips bounded data: solvers of differential equations do not.
        guidance: makes the denoiser that is asked; None asks the model's own.
        needs_data: how many training data it has to see before it draws, by `estimate` and `given`; most need none.
    """

    clips: bool = True
    guidance: Guidance | None = None
    needs_data: int = 0

    def __init__(
        self,
        steps: int | None = None,
        spacing: Spacing = "uniform",
        clip: Clip = None,
        last: bool = True,
        rho: float = 7.0,
    ) -> None:
        if steps is not None and steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        if rho <= 0:
            raise ValueError(f"rho must be above 0, not {rho}")
        self.steps, self.spacing, self.clip, self.last, self.rho = steps, spacing, clip, last, rho

    @property
    def name(self) -> str:
        """What records of samples call it: the class's name, in small letters."""
        return re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", type(self).__name__).lower()

    def times(self, schedule: Schedule) -> Tensor:
        """(N + 1,) in double, falling, from where noise is drawn to where data are."""
        return spaced_times(schedule, self.spacing, self.steps, self.last, self.rho)

    def evaluations(self, schedule: Schedule) -> int | None:
        """NFE: how often the denoiser is called for one batch; None where the sampler decides on its way.

        Raises UserError where the schedule does not have the steps that the sampler takes.
        """
        return len(self.times(schedule)) - 1

    @abstractmethod
    def step(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, s: Tensor, rng: Rng) -> State:
        """One step from time t down to s, both () in double on the device of the state."""

    def finish(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, rng: Rng) -> State:
        """The last step, from the smallest time t to the data."""
        return self.step(schedule, denoise, state, t, torch.zeros_like(t), rng)

    def __call__(
        self,
        schedule: Schedule,
        denoise: Denoiser,
        x_1: Tensor,
        rng: Rng,
        bounded: bool = False,
        watch: Watch | None = None,
    ) -> Tensor:
        """From x_1 (B, *) to a sample of the data.

        Arguments:
            rng: one row a sample.
            bounded: the data lie in [-1, 1], so that `clip` may be left to the sampler.
            watch: sees x_1 and the state after each step.
        """
        times = self.times(schedule)
        # Asked here, since a step that looked at its own times would wait for the device.
        steps, to_data, times = len(times) - 1, bool(times[-1] == 0), times.to(x_1.device)
        denoise = self.kept(denoise, bounded)
        state, rng = State(x_1), rng.stage("sampler")
        if watch is not None:
            watch(0.0, state.x)
        for i, (t, s) in enumerate(pairwise(times)):
            state = replace(state, step=i, steps=steps)
            if to_data and i == steps - 1:
                state = self.finish(schedule, denoise, state, t, rng)
            else:
                state = self.step(schedule, denoise, state, t, s, rng)
            if watch is not None:
                watch((i + 1) / steps, state.x)
        return state.x

    def check_inverts(self) -> None:
        """Raise a UserError unless the sampler can be run backwards."""
        raise UserError(f"sampler={self.name}: it cannot be run backwards; choose ddim, euler, heun or rk45")

    def rise(self, schedule: Schedule, denoise: Denoiser, x_s: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """x_t (B, *), one step backwards from x_s (B, *) at time s > 0 up to t."""
        raise NotImplementedError

    def invert(self, schedule: Schedule, denoise: Denoiser, x_0: Tensor, bounded: bool = False) -> Tensor:
        """The x_1 (B, *) that a deterministic sampler comes to x_0 (B, *) from, to the order of its steps.

        A sampler that ends at the data, t = 0, where there is no noise to tell the way, leaves them with the noise that
        the network sees in x_0 at the smallest time t: x_t = alpha_t x_0 + sigma_t eps(x_0, t). One that ends at the
        smallest time takes x_0 for x_t.
        """
        self.check_inverts()
        rising = self.times(schedule).flip(0).to(x_0.device)
        denoise, x = self.kept(denoise, bounded), x_0
        if bool(rising[0] == 0):
            t, rising = rising[1], rising[1:]
            x = diffuse(schedule, x_0, t, noise(schedule, x_0, denoise(x_0, t).x_0, t))
        for s, t in pairwise(rising):
            x = self.rise(schedule, denoise, x, s, t)
        return x

    def estimate(self, model: "GaussianDiffusion", batches: Iterable[Batch]) -> dict[str, Tensor]:
        """What the sampler must know of a model before it draws, from `needs_data` training data, in batches."""
        return {}

    def given(self, estimates: Mapping[str, Tensor]) -> "Sampler":
        """The sampler that knows what `estimate` found."""
        return self

    def kept(self, denoise: Denoiser, bounded: bool) -> Denoiser:
        """The denoiser with its estimates clipped as `clip` says."""
        clip = (bounded and self.clips) if self.clip is None else self.clip
        return Clipped(denoise, dynamic=clip == "dynamic") if clip else denoise
