"""What every sampler is: a way to take one step, and a history where it needs one.

All that changes while sampling stands in the `State`, so one sampler object serves many models and many batches.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.contract import Watch
from genlab.models.diffusion.denoiser import Denoised, Denoiser
from genlab.models.diffusion.samplers.spacing import Spacing, spaced_times
from genlab.models.diffusion.schedule import Schedule


@dataclass(frozen=True)
class State:
    """Where a sampler is: x_t (B, *), and what a multistep method keeps of the steps before."""

    x: Tensor
    history: tuple[Tensor, ...] = ()


class Clipped:
    """A denoiser whose estimate of x_0 is kept where data can be: in [-1, 1]."""

    def __init__(self, denoise: Denoiser) -> None:
        self.denoise = denoise

    def __call__(self, x_t: Tensor, t: Tensor) -> Denoised:
        denoised = self.denoise(x_t, t)
        return denoised._replace(x_0=denoised.x_0.clamp(-1, 1))


class Sampler(ABC):
    """Down a falling sequence of times from noise to data.

    Arguments:
        steps: how many; None is every step that the model's table has.
        spacing: which of the table's steps, see `genlab.models.diffusion.samplers.spacing`.
        clip: keep each estimate of x_0 in [-1, 1]; None does so where the data are bounded.
    """

    def __init__(self, steps: int | None = None, spacing: Spacing = "uniform", clip: bool | None = None) -> None:
        if steps is not None and steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        self.steps, self.spacing, self.clip = steps, spacing, clip

    @property
    def name(self) -> str:
        """What records of samples call it."""
        return type(self).__name__.lower()

    def times(self, schedule: Schedule) -> Tensor:
        """(N + 1,) in double, falling, from where noise is drawn to where data are."""
        return spaced_times(schedule, self.spacing, self.steps)

    def evaluations(self, schedule: Schedule) -> int:
        """NFE: how often the denoiser is called for one batch."""
        return len(self.times(schedule)) - 1

    @abstractmethod
    def step(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, s: Tensor, rng: Rng) -> State:
        """One step from time t down to s."""

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
        times = self.times(schedule).to(x_1.device)
        if self.clip if self.clip is not None else bounded:
            denoise = Clipped(denoise)
        state, rng = State(x_1), rng.stage("sampler")
        if watch is not None:
            watch(0.0, state.x)
        for i, (t, s) in enumerate(pairwise(times)):
            state = self.step(schedule, denoise, state, t, s, rng)
            if watch is not None:
                watch((i + 1) / (len(times) - 1), state.x)
        return state.x
