"""Steps of any sampler, and before each some of Langevin's, which bring the state back to the marginal of its time.

    x <- x + e score + sqrt(2 e) z,    z ~ N(0, I),    score = -eps / sigma
    e = 2 r^2 (snr |z| / |score|)^2

with r = alpha_t / alpha_s for the next step's s. The norms are those of a sample, where the authors' code takes the
means over a batch, so that a sample does not depend on the others; in a batch of one there is no difference. That they
vary from step to step widens samples of D values by about 2 / D of their deviation: nothing in images.

References:
    Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), algorithms 4 and 5.
"""

import copy
import inspect
from dataclasses import replace

from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.diffusion.denoiser import Denoiser
from genlab.models.diffusion.flow_ode import noise
from genlab.models.diffusion.samplers.sampler import Clip, Sampler, State
from genlab.models.diffusion.samplers.spacing import Spacing
from genlab.models.diffusion.schedule import Schedule, match

# Of the least norm that scores have in the mean. A sample whose own is smaller, as happens in few dimensions near a
# mode, would be thrown far away.
LEAST = 0.5

# What a predictor is told.
SHARED = ("steps", "spacing", "clip", "last", "rho")


class PredictorCorrector(Sampler):
    """A predictor, any sampler that steps, and Langevin's corrector at each time that it passes.

    As in the authors' code the corrector goes first, from x_1 on.

    Arguments:
        predictor: takes the steps; its steps, spacing, clip, last and rho are those that stand here.
        snr: signal-to-noise ratio of a correction.
        corrections: how many at each time.
        steps, spacing, clip, last, rho: see `Sampler`.
    """

    clips = False

    def __init__(
        self,
        predictor: Sampler,
        snr: float = 0.16,
        corrections: int = 1,
        steps: int | None = 1000,
        spacing: Spacing = "uniform",
        clip: Clip = None,
        last: bool = True,
        rho: float = 7.0,
    ) -> None:
        super().__init__(steps, spacing, clip, last, rho)
        if snr <= 0:
            raise ValueError(f"snr must be above 0, not {snr}")
        if corrections < 0:
            raise ValueError(f"corrections must be at least 0, not {corrections}")
        usual = inspect.signature(type(predictor)).parameters
        if predictor.needs_data or isinstance(predictor, PredictorCorrector) or "steps" not in usual:
            raise ValueError(f"predictor: {predictor.name} cannot be one; choose reverse_diffusion or euler_maruyama")
        self.snr, self.corrections = snr, corrections
        self.predictor = copy.copy(predictor)
        for name in SHARED:
            if getattr(predictor, name) != usual[name].default:
                raise ValueError(f"predictor.{name}={getattr(predictor, name)}: set {name} beside it, for the whole")
            setattr(self.predictor, name, getattr(self, name))

    def times(self, schedule: Schedule) -> Tensor:
        return self.predictor.times(schedule)

    def evaluations(self, schedule: Schedule) -> int | None:
        predictions = self.predictor.evaluations(schedule)
        steps = len(self.times(schedule)) - 1
        return None if predictions is None else predictions + self.corrections * steps

    def step(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, s: Tensor, rng: Rng) -> State:
        x_t = self.corrected(schedule, denoise, state.x, t, schedule(s)[0], rng)
        return self.predictor.step(schedule, denoise, replace(state, x=x_t), t, s, rng)

    def finish(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, rng: Rng) -> State:
        x_t = self.corrected(schedule, denoise, state.x, t, t.new_ones(()), rng)
        return self.predictor.finish(schedule, denoise, replace(state, x=x_t), t, rng)

    def corrected(
        self, schedule: Schedule, denoise: Denoiser, x_t: Tensor, t: Tensor, alpha_s: Tensor, rng: Rng
    ) -> Tensor:
        """x_t (B, *) after Langevin's steps at its time; alpha_s is the signal to which the next step leads."""
        alpha, sigma = schedule(t)
        # Of data whose variance is at most 1, by Cramer and Rao.
        least = LEAST * (x_t[0].numel() / (alpha**2 + sigma**2)).sqrt()
        for _ in range(self.corrections):
            score = -noise(schedule, x_t, denoise(x_t, t).x_0, t) / match(sigma, x_t)
            z = rng.normal_like(x_t)
            ratio = self.snr * norm(z) / norm(score).clamp(min=least.to(x_t))
            step = match(2 * (alpha / alpha_s) ** 2 * ratio.double() ** 2, x_t)
            x_t = x_t + step * score + (2 * step).sqrt() * z
        return x_t


def norm(x: Tensor) -> Tensor:
    """(B,) of x (B, *)."""
    return x.flatten(1).norm(dim=1)
