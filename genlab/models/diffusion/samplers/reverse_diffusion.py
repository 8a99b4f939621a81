"""Back along the process by turning its own discrete steps round: score SDE's predictor.

    x_t = r x_s + sqrt(v) z            is turned into
    x_s = (2 - r) x_t + v score + sqrt(v) z,    z ~ N(0, I),    score = -eps / sigma

References:
    Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), appendix E and F.
"""

from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.diffusion.denoiser import Denoiser
from genlab.models.diffusion.flow_ode import noise
from genlab.models.diffusion.samplers.sampler import Clip, Sampler, State
from genlab.models.diffusion.samplers.spacing import Spacing
from genlab.models.diffusion.schedule import Schedule, match


class ReverseDiffusion(Sampler):
    """The reverse diffusion predictor, for steps of which each changes the signal little.

    The last step, to the data, gives the denoiser's estimate, to which the paper's, the mean of the step, is as near as
    r is to 1.

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

    def step(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, s: Tensor, rng: Rng) -> State:
        x_t = state.x
        (alpha_t, sigma_t), (alpha_s, _) = schedule(t), schedule(s)
        v = schedule.transition_variance(s, t)
        eps = noise(schedule, x_t, denoise(x_t, t).x_0, t)
        mean = match(2 - alpha_t / alpha_s, x_t) * x_t - match(v / sigma_t, x_t) * eps
        return State(mean + match(v.sqrt(), x_t) * rng.normal_like(x_t))

    def finish(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, rng: Rng) -> State:
        return State(denoise(state.x, t).x_0)
