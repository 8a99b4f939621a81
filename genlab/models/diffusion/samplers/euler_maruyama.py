"""Back along the stochastic differential equation of the process, by the method of Euler and Maruyama.

    dx = (f x - g^2 score) dt + g dw
    x_s = x_t - (f x_t - g^2 score) (t - s) + g sqrt(t - s) z,    z ~ N(0, I),    score = -eps / sigma

References:
    Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), eq. 6 and appendix G.
"""

from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.diffusion.denoiser import Denoiser
from genlab.models.diffusion.flow_ode import noise
from genlab.models.diffusion.samplers.sampler import Clip, Sampler, State
from genlab.models.diffusion.samplers.spacing import Spacing
from genlab.models.diffusion.schedule import Schedule, derivatives, match


class EulerMaruyama(Sampler):
    """Euler and Maruyama's method for the reverse-time SDE. The last step, to the data, gives the denoiser's estimate.

    Paths begin at the schedule's `t_max`, since f and g are infinite where there is no signal.

    Arguments:
        steps, spacing, clip, last, rho: see `Sampler`.
    """

    clips = False

    def __init__(
        self,
        steps: int | None = 1000,
        spacing: Spacing = "uniform",
        clip: Clip = None,
        last: bool = True,
        rho: float = 7.0,
    ) -> None:
        super().__init__(steps, spacing, clip, last, rho)

    def times(self, schedule: Schedule) -> Tensor:
        return super().times(schedule).clamp(max=schedule.t_max)

    def step(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, s: Tensor, rng: Rng) -> State:
        x_t = state.x
        (alpha, sigma), (alpha_slope, sigma_slope) = schedule(t), derivatives(schedule, t)
        f = alpha_slope / alpha
        g_squared = 2 * sigma * (sigma_slope - f * sigma)
        eps = noise(schedule, x_t, denoise(x_t, t).x_0, t)
        drift = match(f, x_t) * x_t + match(g_squared / sigma, x_t) * eps
        spread = (g_squared * (t - s)).sqrt()
        return State(x_t - match(t - s, x_t) * drift + match(spread, x_t) * rng.normal_like(x_t))

    def finish(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, rng: Rng) -> State:
        return State(denoise(state.x, t).x_0)
