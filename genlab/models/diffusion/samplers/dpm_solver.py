"""DPM-Solver and DPM-Solver++: polynomials in lambda = log(alpha / sigma) for eps, or for x_0.

With h = lambda_s - lambda_t, the first order of both is DDIM:

    x_s = alpha_s / alpha_t x_t - sigma_s (exp(h) - 1) eps(x_t)              DPM-Solver-1
    x_s = sigma_s / sigma_t x_t + alpha_s (1 - exp(-h)) x_0(x_t)             DPM-Solver++-1

Higher orders put in the place of the one estimate a polynomial: through those of the steps before, which cost nothing
(multistep), or through others within the step (singlestep).

References:
    DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in Around 10 Steps (Lu et al., 2022),
        algorithms 1 to 3.
    DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models (Lu et al., 2022), algorithms 1 and
        2.
"""

from typing import Literal

from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.diffusion.denoiser import Denoiser
from genlab.models.diffusion.samplers.exponential import (
    Integral,
    Integrand,
    WarmUp,
    calls_of_step,
    usable_order,
    with_signal,
)
from genlab.models.diffusion.samplers.sampler import Clip, Sampler, State
from genlab.models.diffusion.samplers.spacing import Spacing
from genlab.models.diffusion.schedule import Schedule


class DPMSolver(Sampler):
    """DPM-Solver (integrand=noise) and DPM-Solver++ (integrand=data).

    Multistep methods of order 3 integrate their parabola exactly; the formula in wide use halves its second difference,
    and its error falls as that of order 2.

    Arguments:
        steps, spacing, clip, last, rho: see `Sampler`. A singlestep method calls the denoiser `order` times a step, and
            once in the step to the data.
        order: 1, 2 or 3.
        method: "multistep" or "singlestep".
        integrand: "noise" or "data".
        midpoint: as published, steps of order 2 take the value in the middle for all of the step; else they integrate.
        warm_up: what the first order - 1 steps of a multistep method are: of "lower" order, as published, or
            "singlestep" at the full order and its cost.
        lower_order_final: lower the order of the last steps where there are fewer than 15, all of them large.
    """

    clips = False

    def __init__(
        self,
        steps: int | None = 20,
        order: int = 2,
        method: Literal["multistep", "singlestep"] = "multistep",
        integrand: Integrand = "data",
        midpoint: bool = True,
        warm_up: WarmUp = "lower",
        lower_order_final: bool = True,
        spacing: Spacing = "log_snr",
        clip: Clip = None,
        last: bool = True,
        rho: float = 7.0,
    ) -> None:
        super().__init__(steps, spacing, clip, last, rho)
        if order not in (1, 2, 3):
            raise ValueError(f"order must be 1, 2 or 3, not {order}: DPM-Solver has no other")
        self.order, self.method, self.warm_up, self.lower_order_final = order, method, warm_up, lower_order_final
        self.integral = Integral(integrand, midpoint=midpoint)

    @property
    def name(self) -> str:
        return "dpm_solver_pp" if self.integral.integrand == "data" else "dpm_solver"

    def times(self, schedule: Schedule) -> Tensor:
        return with_signal(schedule, super().times(schedule))

    def calls(self, step: int) -> int:
        """How often the denoiser is called in a step that does not go to the data, by its number from 0."""
        return self.order if self.method == "singlestep" else calls_of_step(self.order, self.warm_up, step)

    def evaluations(self, schedule: Schedule) -> int:
        steps = len(self.times(schedule)) - 1
        return sum(map(self.calls, range(steps - self.last))) + self.last

    def step(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, s: Tensor, rng: Rng) -> State:
        m_t = self.integral.estimate(schedule, denoise, state.x, t)
        calls = self.calls(state.step)
        known = ((t, m_t), *state.history)
        if calls > 1:
            x_s = self.integral.singlestep(schedule, denoise, state.x, t, s, m_t, calls)
        else:
            order = usable_order(self.order, state, self.lower_order_final)
            x_s = self.integral(schedule, state.x, t, s, known[:order])
        return State(x_s, known[: self.order - 1] if self.method == "multistep" else ())

    def finish(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, rng: Rng) -> State:
        return State(denoise(state.x, t).x_0)
