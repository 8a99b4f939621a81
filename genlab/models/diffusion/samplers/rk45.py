"""The probability-flow ODE by a solver that chooses its own steps: Dormand and Prince's method of orders 5 and 4.

It is solved by the angle of `genlab.models.diffusion.flow_ode`, the clock by which the path is smooth on any schedule,
from t = 1 to the smallest time. The last step, to the data, gives the denoiser's estimate.

References:
    A Family of Embedded Runge-Kutta Formulae (Dormand & Prince, 1980).
    Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), section 4.3.
"""

import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.diffusion.denoiser import Denoised, Denoiser
from genlab.models.diffusion.flow_ode import angle, radius, solve, turning
from genlab.models.diffusion.samplers.sampler import Clip, Sampler, State
from genlab.models.diffusion.schedule import Schedule, match


class RungeKutta(Sampler):
    """Dormand and Prince's adaptive method, "rk45".

    All samples of a batch take the same steps, which are so short that the error of each is within the tolerances. So a
    sample depends on the others, but to within the tolerances only.

    Arguments:
        rtol, atol: the error that a step may have, relative to the state's size and in itself: the root of the mean
            square over a sample's values.
        clip, last: see `Sampler`.
    """

    clips = False

    def __init__(self, rtol: float = 1e-5, atol: float = 1e-5, clip: Clip = None, last: bool = True) -> None:
        super().__init__(clip=clip, last=last)
        if rtol <= 0 or atol <= 0:
            raise ValueError(f"rtol={rtol} and atol={atol} must be above 0")
        self.rtol, self.atol = rtol, atol

    @property
    def name(self) -> str:
        return "rk45"

    def times(self, schedule: Schedule) -> Tensor:
        """Where the solver begins and ends, and 0; in between it goes as it likes."""
        return torch.tensor([1, schedule.t_min, *([0] if self.last else [])], dtype=torch.float64)

    def evaluations(self, schedule: Schedule) -> int | None:
        return None

    def step(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, s: Tensor, rng: Rng) -> State:
        return State(self.rise(schedule, denoise, state.x, t, s))

    def finish(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, rng: Rng) -> State:
        return State(denoise(state.x, t).x_0)

    def check_inverts(self) -> None:
        """It can."""

    def rise(self, schedule: Schedule, denoise: Denoiser, x_s: Tensor, s: Tensor, t: Tensor) -> Tensor:
        def in_double(x: Tensor, t: Tensor) -> Denoised:
            """The solver's small differences need double precision, the network does not."""
            return Denoised(denoise(x.to(x_s), t).x_0.double())

        y = x_s.double()
        y = y / match(radius(schedule, s), y)
        y = solve(turning(schedule, in_double), y, angle(schedule, s), angle(schedule, t), self.rtol, self.atol)
        return (match(radius(schedule, t), y) * y).to(x_s)
