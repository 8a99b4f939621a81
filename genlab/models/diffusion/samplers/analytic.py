"""Ancestral steps whose variance is the best there is, estimated once from the model: Analytic-DPM.

    x_s = alpha_s x_0 + sqrt(sigma_s^2 - lambda^2) eps + v^(1/2) z,    z ~ N(0, I)
    v = lambda^2 + (sigma_t / r - sqrt(sigma_s^2 - lambda^2))^2 (1 - E|eps|^2 / D),    r = alpha_t / alpha_s

lambda^2 is eta^2 times the variance of q(x_s | x_t, x_0), and x_0 and eps are the network's estimates. The second term
is what is not known of x_0 given x_t: it is written here with the variance

    u_t = sigma_t^2 / alpha_t^2 (1 - E|eps|^2 / D),    kept between 0 and that of the data

times the square of what the step makes of x_0, alpha_s - sqrt(sigma_s^2 - lambda^2) alpha_t / sigma_t. E|eps|^2 is a
mean over data and noise; since E|noise|^2 = D, the mean of |noise|^2 - |eps|^2 is taken, which varies much less.

References:
    Analytic-DPM: an Analytic Estimate of the Optimal Reverse Variance in Diffusion Probabilistic Models (Bao et al.,
        2022), theorems 1 and 2, and appendix F for the last noise.
"""

import copy
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch
from genlab.models.diffusion.denoiser import Denoiser
from genlab.models.diffusion.flow_ode import noise
from genlab.models.diffusion.process import diffuse, posterior
from genlab.models.diffusion.samplers.sampler import Clip, Sampler, State
from genlab.models.diffusion.samplers.spacing import Spacing
from genlab.models.diffusion.schedule import Schedule, match

if TYPE_CHECKING:
    from genlab.models.diffusion.model import GaussianDiffusion

# alpha of the least signal from which anything is had.
LEAST_SIGNAL = 1e-6


class Analytic(Sampler):
    """Ancestral sampling, or DDIM's, with Analytic-DPM's variances. It draws only when it was `given` its estimates.

    Arguments:
        steps, spacing, clip, last, rho: see `Sampler`.
        eta: from 0 (Analytic-DDIM) to 1 (Analytic-DDPM).
        data: how many training data the estimate takes, with the noise of each time.
        visible: the noise of the step before the last changes values by at most this many of 255 grey levels in the
            mean, where data have levels; None lets it be.
    """

    def __init__(
        self,
        steps: int | None = 50,
        eta: float = 1.0,
        data: int = 256,
        visible: float | None = 1.0,
        spacing: Spacing = "uniform",
        clip: Clip = None,
        last: bool = True,
        rho: float = 7.0,
    ) -> None:
        super().__init__(steps, spacing, clip, last, rho)
        if not 0 <= eta <= 1:
            raise ValueError(f"eta must be in [0, 1], not {eta}: 0 is Analytic-DDIM, 1 is Analytic-DDPM")
        if data < 1:
            raise ValueError(f"data must be at least 1, not {data}")
        if visible is not None and visible <= 0:
            raise ValueError(f"visible must be above 0, not {visible}; null leaves the noise as it is")
        self.eta, self.needs_data, self.visible = eta, data, visible
        self.known: Mapping[str, Tensor] = {}

    @torch.no_grad()
    def estimate(self, model: "GaussianDiffusion", batches: Iterable[Batch]) -> dict[str, Tensor]:
        """u at each time (N,) as "unknown", and what one grey level is to the data () as "level"."""
        times = self.times(model.schedule)[:-1].to(model.device)
        sums = torch.zeros(len(times), dtype=torch.float64, device=model.device)
        first, second, count = sums.new_zeros(()), sums.new_zeros(()), 0
        for batch in batches:
            x_0 = batch["x"]
            rng = Rng(0, torch.arange(count, count + len(x_0), device=x_0.device)).stage("analytic")
            denoise = model.denoiser(batch, rng.stage("conditions"))
            for i, t in enumerate(times):
                z = rng.normal_like(x_0)
                x_t = diffuse(model.schedule, x_0, t, z)
                eps = noise(model.schedule, x_t, denoise(x_t, t).x_0, t)
                sums[i] += (z.double().square() - eps.double().square()).flatten(1).mean(1).sum()
            first, second = first + x_0.double().sum(0), second + x_0.double().square().sum(0)
            count += len(x_0)
        variance = (second / count - (first / count) ** 2).mean()
        alpha, sigma = model.schedule(times)
        # Without signal nothing is known of the data but how they vary.
        unknown = torch.where(alpha > LEAST_SIGNAL, (sigma / alpha) ** 2 * sums / count, math.inf)
        level = torch.full_like(variance, 2 / 255 if model.bounded else math.inf)
        return {"unknown": unknown.clamp(min=0).minimum(variance), "level": level}

    def given(self, estimates: Mapping[str, Tensor]) -> "Analytic":
        informed = copy.copy(self)
        informed.known = estimates
        return informed

    def step(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, s: Tensor, rng: Rng) -> State:
        if len(self.known.get("unknown", ())) != state.steps:
            raise UserError(
                "sampler=analytic: its variances are estimated from a trained model and data, at the times that it "
                "passes, as genlab sample and genlab eval do; choose another sampler"
            )
        x_t = state.x
        (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule(s), schedule(t)
        x_0 = denoise(x_t, t).x_0
        least = posterior(schedule, t, s).variance * self.eta**2
        direction = (sigma_s**2 - least).clamp(min=0).sqrt()
        mean = match(alpha_s, x_t) * x_0 + match(direction, x_t) * noise(schedule, x_t, x_0, t)
        of_x_0 = alpha_s - direction * alpha_t / sigma_t
        variance = least + of_x_0**2 * self.known["unknown"][state.step]
        if self.visible is not None and self.last and state.step == state.steps - 2:
            # E|c z| = c sqrt(2 / pi).
            variance = variance.minimum((self.visible * self.known["level"]) ** 2 * math.pi / 2)
        return State(mean + match(variance.sqrt(), x_t) * rng.normal_like(x_t))

    def finish(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, rng: Rng) -> State:
        return State(denoise(state.x, t).x_0)
