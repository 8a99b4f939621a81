"""DEIS: eps along the polynomial through its estimates of the steps before, in t or in rho = sigma / alpha.

    x_s = alpha_s / alpha_t x_t + sum_j c_j eps_j,    c_j = alpha_s int_{rho_t}^{rho_s} l_j d rho

References:
    Fast Sampling of Diffusion Models with Exponential Integrator (Zhang & Chen, 2023), sections 3.2 and 4: tAB-DEIS and
        rhoAB-DEIS.
"""

from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.diffusion.denoiser import Denoiser
from genlab.models.diffusion.samplers.exponential import (
    Integral,
    Variable,
    WarmUp,
    calls_of_step,
    usable_order,
    with_signal,
)
from genlab.models.diffusion.samplers.sampler import Clip, Sampler, State
from genlab.models.diffusion.samplers.spacing import Spacing
from genlab.models.diffusion.schedule import Schedule


class DEIS(Sampler):
    """tAB-DEIS (variable=time) and rhoAB-DEIS (variable=rho).

    Arguments:
        steps, spacing, clip, last, rho: see `Sampler`.
        order: the degree of the polynomial, 0 (DDIM) to 3, as the paper counts: the error is of one order more.
        variable: "time", "rho", or "log_snr", with which DEIS is a multistep DPM-Solver.
        warm_up: what the first `order` steps are: of "lower" order, as published, or "singlestep" ones of the order
            that makes up for it, at its cost: two evaluations, or three.
        lower_order_final: lower the order of the last steps where there are fewer than 15, all of them large.
    """

    clips = False

    def __init__(
        self,
        steps: int | None = 20,
        order: int = 3,
        variable: Variable = "time",
        warm_up: WarmUp = "lower",
        lower_order_final: bool = True,
        spacing: Spacing = "log_snr",
        clip: Clip = None,
        last: bool = True,
        rho: float = 7.0,
    ) -> None:
        super().__init__(steps, spacing, clip, last, rho)
        if order not in (0, 1, 2, 3):
            raise ValueError(f"order must be 0, 1, 2 or 3, not {order}: it is the degree of DEIS's polynomial")
        self.order, self.warm_up, self.lower_order_final = order, warm_up, lower_order_final
        self.integral = Integral("noise", variable)

    def times(self, schedule: Schedule) -> Tensor:
        return with_signal(schedule, super().times(schedule))

    def calls(self, step: int) -> int:
        """How often the denoiser is called in a step that does not go to the data, by its number from 0."""
        return calls_of_step(self.order + 1, self.warm_up, step)

    def evaluations(self, schedule: Schedule) -> int:
        steps = len(self.times(schedule)) - 1
        return sum(map(self.calls, range(steps - self.last))) + self.last

    def step(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, s: Tensor, rng: Rng) -> State:
        eps = self.integral.estimate(schedule, denoise, state.x, t)
        calls = self.calls(state.step)
        known = ((t, eps), *state.history)
        if calls > 1:
            x_s = Integral("noise").singlestep(schedule, denoise, state.x, t, s, eps, calls)
        else:
            points = usable_order(self.order + 1, state, self.lower_order_final)
            x_s = self.integral(schedule, state.x, t, s, known[:points])
        return State(x_s, known[: self.order])

    def finish(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, rng: Rng) -> State:
        return State(denoise(state.x, t).x_0)
