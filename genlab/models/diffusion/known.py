"""Sampling where a part of the data is known: that part is held, and the rest is drawn to go with it.

    x_0 <- x_0 - P x_0 + P y

y are the known data and P a projection on what is known of them: the pixels outside a mask, or the mean of the
channels. Samplers take the noise in x_t from this x_0, so on every way to the data P x_t = alpha_t P y + sigma_t P eps:
the known data, diffused, whatever the network says.

The rest is drawn given the known part at the same noise level, and not given the known data, so what comes out is near
p(x_0 | P x_0 = P y) and is not that: it leans less on what is known than it should. Going back and forth helps
(RePaint): each stretch of steps is taken several times, with the noise of q(x_t | x_s) added before the next time, so
that the rest comes to agree with the known part at that level. What the steps themselves get wrong is repeated as well:
on Gaussian data the mean comes out nearly right, and the spread a little small.

References:
    Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), appendix I.2 and I.3.
    RePaint: Inpainting using Denoising Diffusion Probabilistic Models (Lugmayr et al., 2022), algorithm 1.
    Practical and Asymptotically Exact Conditional Sampling in Diffusion Models (Wu et al., 2023), on the error.
"""

import copy
from abc import ABC, abstractmethod
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch
from genlab.models.contract import Watch
from genlab.models.diffusion.denoiser import Denoised, Denoiser
from genlab.models.diffusion.guidance import Guidance
from genlab.models.diffusion.model import GaussianDiffusion
from genlab.models.diffusion.process import diffuse
from genlab.models.diffusion.samplers.sampler import Sampler, State
from genlab.models.diffusion.schedule import Schedule, match


class Projection(ABC):
    """P, what is known of data (B, *)."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """P x, of the shape of x."""

    def put(self, x: Tensor, y: Tensor) -> Tensor:
        """x with what is known of y: x - P x + P y."""
        return x - self(x) + self(y)

    def put_in_range(self, x: Tensor, y: Tensor) -> Tensor:
        """The same in [-1, 1], as x and y are."""
        return self.put(x, y)


class Outside(Projection):
    """The values outside a mask.

    Arguments:
        mask: of the shape of one datum, or one that broadcasts to it; true where data are unknown.
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def __call__(self, x: Tensor) -> Tensor:
        return torch.where(self.mask.to(x.device), torch.zeros_like(x), x)

    def put(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.where(self.mask.to(x.device), x, y)


class Grey(Projection):
    """The mean of the channels of images (B, C, H, W)."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.mean(1, keepdim=True).expand_as(x)

    def put_in_range(self, x: Tensor, y: Tensor) -> Tensor:
        """Colours are paled where they would leave the range, so that the grey of a pixel stays what it is."""
        grey = self(y)
        colour = x - self(x)
        room = torch.where(colour > 0, 1 - grey, 1 + grey).clamp(min=0)
        most = (room / colour.abs().clamp(min=1e-12)).amin(1, keepdim=True).clamp(max=1)
        return grey + most * colour


class Holding(Guidance):
    """The sampler's own denoiser, guided and clipped as it would be, with the known part of its estimate put in place.

    Arguments:
        sampler: as it was; what guides it is guided still.
        projection: P.
        known: y (B, *), a row for each that is sampled.
    """

    def __init__(self, sampler: Sampler, projection: Projection, known: Tensor) -> None:
        self.sampler, self.projection, self.known = sampler, projection, known
        inner = sampler.guidance
        self.factor = 1 if inner is None else inner.factor
        self.conditions = frozenset() if inner is None else inner.conditions
        self.note = {} if inner is None else inner.note

    def check(self, model: GaussianDiffusion) -> None:
        if self.sampler.guidance is not None:
            self.sampler.guidance.check(model)

    def __call__(self, model: GaussianDiffusion, conditions: Batch, rng: Rng) -> Denoiser:
        denoise = self.sampler.kept(model.guided(conditions, rng, self.sampler), model.bounded)

        def held(x_t: Tensor, t: Tensor) -> Denoised:
            denoised = denoise(x_t, t)
            return denoised._replace(x_0=self.projection.put(denoised.x_0, self.known))

        return held


class BackAndForth(Sampler):
    """A sampler that takes each stretch of its steps several times, with noise in between.

    Arguments:
        sampler: takes the steps.
        times_each: how often each stretch is taken, RePaint's U; 1 is the sampler itself.
        stretch: of how many steps one is, RePaint's jump length.
    """

    def __init__(self, sampler: Sampler, times_each: int, stretch: int) -> None:
        super().__init__(sampler.steps, sampler.spacing, sampler.clip, sampler.last, sampler.rho)
        self.sampler, self.times_each, self.stretch = sampler, times_each, stretch
        self.guidance, self.clips = sampler.guidance, sampler.clips

    @property
    def name(self) -> str:
        return self.sampler.name

    def times(self, schedule: Schedule) -> Tensor:
        return self.sampler.times(schedule)

    def evaluations(self, schedule: Schedule) -> int | None:
        once = self.sampler.evaluations(schedule)
        return None if once is None else once * self.times_each

    def step(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, s: Tensor, rng: Rng) -> State:
        return self.sampler.step(schedule, denoise, state, t, s, rng)

    def finish(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, rng: Rng) -> State:
        return self.sampler.finish(schedule, denoise, state, t, rng)

    def __call__(
        self,
        schedule: Schedule,
        denoise: Denoiser,
        x_1: Tensor,
        rng: Rng,
        bounded: bool = False,
        watch: Watch | None = None,
    ) -> Tensor:
        times = self.times(schedule).to(x_1.device)
        count, to_data = len(times) - 1, bool(times[-1] == 0)
        denoise = self.kept(denoise, bounded)
        steps = list(enumerate(pairwise(times)))
        x, rng, back = x_1, rng.stage("sampler"), rng.stage("back")
        if watch is not None:
            watch(0.0, x)
        for first in range(0, count, self.stretch):
            stretch = steps[first : first + self.stretch]
            for turn in range(self.times_each):
                # What a multistep method keeps is of the way that ends here.
                state = State(x if turn == 0 else noised(schedule, x, times[first + len(stretch)], times[first], back))
                for i, (t, s) in stretch:
                    state = replace(state, step=i, steps=count)
                    if to_data and i == count - 1:
                        state = self.finish(schedule, denoise, state, t, rng)
                    else:
                        state = self.step(schedule, denoise, state, t, s, rng)
                x = state.x
            if watch is not None:
                watch((first + len(stretch)) / count, x)
        return x


def noised(schedule: Schedule, x_s: Tensor, s: Tensor, t: Tensor, rng: Rng) -> Tensor:
    """x_t (B, *) of q(x_t | x_s), for s < t."""
    r, v = schedule(t)[0] / schedule(s)[0], schedule.transition_variance(s, t)
    return match(r, x_s) * x_s + match(v.sqrt(), x_s) * rng.normal_like(x_s)


def check_back_and_forth(sampler: Sampler, schedule: Schedule) -> None:
    """Raise a UserError where the sampler has no steps that could be taken again."""
    if sampler.evaluations(schedule) is None:
        raise UserError(
            f"task.resample: sampler={sampler.name} chooses its own steps and takes none of them again; choose another "
            "sampler, or task.resample=1"
        )


def completed(
    model: GaussianDiffusion,
    projection: Projection,
    known: Tensor,
    conditions: Batch,
    rng: Rng,
    sampler: Sampler,
    watch: Watch | None = None,
    resample: int = 1,
    stretch: int = 1,
) -> Tensor:
    """Samples (B, *) of which P is that of `known` (B, *).

    Arguments:
        resample: how often each stretch of steps is taken; 1 goes straight on.
        stretch: how many steps one is.
    """
    schedule = model.schedule
    holding = copy.copy(sampler)
    # What is put in place is the last word: the estimate is clipped before.
    holding.guidance, holding.clip = Holding(sampler, projection, known), False
    if resample > 1:
        holding = BackAndForth(holding, resample, stretch)
    x_1 = model.prior(rng)
    start = sampler.times(schedule)[0].to(x_1.device)
    x_1 = projection.put(x_1, diffuse(schedule, known, start, x_1 / schedule.prior_scale))
    x_0 = model.from_noise(x_1, conditions, rng, holding, watch)
    return projection.put_in_range(x_0.clamp(-1, 1), known) if model.bounded else projection.put(x_0, known)
