"""From noise to data by the model's own posterior, or along any of the paths with the same marginals.

    x_s = alpha_s x_0 + sqrt(sigma_s^2 - eta^2 var) eps + eta sqrt(var) z,    z ~ N(0, I)

x_0 is the denoiser's estimate, eps = (x_t - alpha_t x_0) / sigma_t, and var that of q(x_s | x_t, x_0).
eta = 1 is ancestral sampling (DDPM); eta = 0 is deterministic (DDIM). In the last step there is no noise to add.

References:
    Denoising Diffusion Implicit Models (Song et al., 2021), eq. 12.
    Denoising Diffusion Probabilistic Models (Ho et al., 2020), section 3.2.
"""

from typing import Literal

from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.diffusion.denoiser import Denoiser
from genlab.models.diffusion.process import posterior
from genlab.models.diffusion.samplers.sampler import Sampler, State
from genlab.models.diffusion.samplers.spacing import Spacing
from genlab.models.diffusion.schedule import Schedule, match


class Ancestral(Sampler):
    """DDPM's sampler and DDIM's, which differ in eta alone.

    Arguments:
        steps, spacing, clip: see `Sampler`.
        eta: from 0 (DDIM) to 1 (DDPM).
        noise: the variance of what is added. "posterior" is DDPM's beta~; "transition" is that of q(x_t | x_s), DDPM's
            beta, the wider of the two, which real data of high variance ask for; it needs eta = 1.
    """

    def __init__(
        self,
        steps: int | None = None,
        eta: float = 1.0,
        noise: Literal["posterior", "transition"] = "posterior",
        spacing: Spacing = "uniform",
        clip: bool | None = None,
    ) -> None:
        super().__init__(steps, spacing, clip)
        if not 0 <= eta <= 1:
            raise ValueError(f"eta must be in [0, 1], not {eta}: 0 is DDIM, 1 is ancestral sampling")
        if noise == "transition" and eta != 1:
            raise ValueError(f"noise=transition needs eta = 1, not {eta}: with less noise the marginals would be wrong")
        self.eta, self.noise = eta, noise

    @property
    def name(self) -> str:
        return "ancestral" if self.eta == 1 else "ddim"

    def step(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, s: Tensor, rng: Rng) -> State:
        x_t = state.x
        (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule(s), schedule(t)
        x_0 = denoise(x_t, t).x_0
        variance = posterior(schedule, t, s).variance * self.eta**2
        direction = (sigma_s**2 - variance).clamp(min=0).sqrt()
        eps = (x_t - match(alpha_t, x_t) * x_0) / match(sigma_t, x_t)
        x_s = match(alpha_s, x_t) * x_0 + match(direction, x_t) * eps
        if self.eta > 0:
            drawn = schedule.transition_variance(s, t) * (s > 0) if self.noise == "transition" else variance
            x_s = x_s + match(drawn.sqrt(), x_t) * rng.normal_like(x_t)
        return State(x_s)
