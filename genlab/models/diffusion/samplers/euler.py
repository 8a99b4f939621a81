"""Along the probability-flow ODE by its tangent: Euler's method in time.

    x_s = x_t + (s - t) dx/dt,    dx/dt = alpha' x_0 + sigma' eps

On the straight path, where alpha and sigma are linear in time, this is DDIM, and flow matching's sampler; elsewhere
DDIM is Euler's method in sigma / alpha, by which clock the path is straighter. The last step, to the data, gives the
denoiser's estimate: sigma' may be infinite there.

References:
    Flow Matching for Generative Modeling (Lipman et al., 2023), section 6.
    Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), section 4.3.
"""

from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.diffusion.denoiser import Denoiser
from genlab.models.diffusion.flow_ode import field
from genlab.models.diffusion.samplers.sampler import Clip, Sampler, State
from genlab.models.diffusion.samplers.spacing import Spacing
from genlab.models.diffusion.schedule import Schedule, match


class Euler(Sampler):
    """Euler's method for the probability-flow ODE, first order in the steps.

    Arguments:
        steps, spacing, clip, last, rho: see `Sampler`.
    """

    clips = False

    def __init__(
        self,
        steps: int | None = 50,
        spacing: Spacing = "uniform",
        clip: Clip = None,
        last: bool = True,
        rho: float = 7.0,
    ) -> None:
        super().__init__(steps, spacing, clip, last, rho)

    def step(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, s: Tensor, rng: Rng) -> State:
        return State(self.rise(schedule, denoise, state.x, t, s))

    def finish(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, rng: Rng) -> State:
        return State(denoise(state.x, t).x_0)

    def check_inverts(self) -> None:
        """It can."""

    def rise(self, schedule: Schedule, denoise: Denoiser, x_s: Tensor, s: Tensor, t: Tensor) -> Tensor:
        return x_s + match(t - s, x_s) * field(schedule, denoise)(x_s, s)
