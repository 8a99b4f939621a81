"""From noise to data by the model's own posterior, or along any of the paths with the same marginals.

    x_s = alpha_s x_0 + sqrt(sigma_s^2 - eta^2 var) eps + eta sqrt(var) z,    z ~ N(0, I)

x_0 is the denoiser's estimate, eps = (x_t - alpha_t x_0) / sigma_t, and var that of q(x_s | x_t, x_0).
eta = 1 is ancestral sampling (DDPM); eta = 0 is deterministic (DDIM). In the last step there is no noise to add.

References:
    Denoising Diffusion Implicit Models (Song et al., 2021), eq. 12.
    Denoising Diffusion Probabilistic Models (Ho et al., 2020), section 3.2.
    Improved Denoising Diffusion Probabilistic Models (Nichol & Dhariwal, 2021), section 4, for the learned variance.
"""

import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.diffusion.denoiser import Denoiser
from genlab.models.diffusion.flow_ode import along
from genlab.models.diffusion.process import posterior
from genlab.models.diffusion.samplers.sampler import Clip, Sampler, State
from genlab.models.diffusion.samplers.spacing import Spacing
from genlab.models.diffusion.schedule import Schedule, match
from genlab.models.diffusion.variance import Variance, learned_log_variance


class Ancestral(Sampler):
    """DDPM's sampler and DDIM's, which differ in eta alone.

    Arguments:
        steps, spacing, clip: see `Sampler`.
        eta: from 0 (DDIM) to 1 (DDPM).
        noise: the variance of what is added. "posterior" is DDPM's beta~; "transition" is that of q(x_t | x_s), DDPM's
            beta, the wider of the two, which real data of high variance ask for; "learned" is what the network says,
            between the two, for steps of any length. All but the first need eta = 1. None is "learned" where the
            network learned it and eta is 1, else "posterior".
    """

    def __init__(
        self,
        steps: int | None = None,
        eta: float = 1.0,
        noise: Variance | None = None,
        spacing: Spacing = "uniform",
        clip: Clip = None,
        last: bool = True,
        rho: float = 7.0,
    ) -> None:
        super().__init__(steps, spacing, clip, last, rho)
        if not 0 <= eta <= 1:
            raise ValueError(f"eta must be in [0, 1], not {eta}: 0 is DDIM, 1 is ancestral sampling")
        if noise not in (None, "posterior") and eta != 1:
            raise ValueError(f"noise={noise} needs eta = 1, not {eta}: with less noise the marginals would be wrong")
        self.eta, self.noise = eta, noise

    @property
    def name(self) -> str:
        return "ancestral" if self.eta == 1 else "ddim"

    def step(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, s: Tensor, rng: Rng) -> State:
        x_t = state.x
        (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule(s), schedule(t)
        x_0, between = denoise(x_t, t)
        variance = posterior(schedule, t, s).variance * self.eta**2
        direction = (sigma_s**2 - variance).clamp(min=0).sqrt()
        eps = (x_t - match(alpha_t, x_t) * x_0) / match(sigma_t, x_t)
        x_s = match(alpha_s, x_t) * x_0 + match(direction, x_t) * eps
        if self.eta == 0:
            return State(x_s)
        noise = self.noise or ("learned" if between is not None and self.eta == 1 else "posterior")
        if noise != "posterior":
            widest = schedule.transition_variance(s, t)
            if noise == "learned":
                # The posterior's variance is 0 where there is no noise to add.
                low = torch.where(s > 0, variance, widest).log()
                widest = learned_log_variance(low, widest.log(), between, "sampler.noise").exp()
            variance = widest * (s > 0)
        return State(x_s + match(variance.sqrt(), x_t) * rng.normal_like(x_t))

    def check_inverts(self) -> None:
        if self.eta > 0:
            super().check_inverts()

    def rise(self, schedule: Schedule, denoise: Denoiser, x_s: Tensor, s: Tensor, t: Tensor) -> Tensor:
        return along(schedule, x_s, denoise(x_s, s).x_0, s, t)
