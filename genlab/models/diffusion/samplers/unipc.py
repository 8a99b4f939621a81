"""UniPC: a predictor of order p, and a corrector of order p + 1 that costs no evaluation.

The predictor UniP goes from t to s along the polynomial in lambda through p estimates, at t and before. Once the
estimate at s is there, which the next step needs anyway, the corrector UniC goes once more from t to s, along the
polynomial through all p + 1 of them. The step to the data ends with the estimate itself.

References:
    UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models (Zhao et al., 2023), section 3
        and algorithms 1 and 2.
"""

import math

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


class UniPC(Sampler):
    """UniP-p with UniC-p, whose weights solve the full Vandermonde system and so depend on no choice of B(h).

    The estimate at s is made at the predicted x_s and kept; the state is the corrected one.

    Arguments:
        steps, spacing, clip, last, rho: see `Sampler`.
        order: p, 1 to 3; with the corrector the whole is of order p + 1.
        integrand: "noise" or "data".
        corrector: whether there is one.
        midpoint: as published with B_2(h), where there are two estimates the value in the middle stands for all of the
            step; else they are integrated too.
        warm_up: what the first p - 1 steps are: of "lower" order, as published, or "singlestep" at order p and cost p.
        lower_order_final: lower the order of the last steps.
    """

    clips = False

    def __init__(
        self,
        steps: int | None = 20,
        order: int = 2,
        integrand: Integrand = "data",
        corrector: bool = True,
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
            raise ValueError(f"order must be 1, 2 or 3, not {order}: it is that of UniPC's predictor")
        self.order, self.corrector, self.warm_up, self.lower_order_final = order, corrector, warm_up, lower_order_final
        self.integral = Integral(integrand, midpoint=midpoint)

    @property
    def name(self) -> str:
        return "unipc"

    def times(self, schedule: Schedule) -> Tensor:
        return with_signal(schedule, super().times(schedule))

    def calls(self, step: int) -> int:
        """How often the denoiser is called in a step that does not go to the data, by its number from 0."""
        return calls_of_step(self.order, self.warm_up, step)

    def evaluations(self, schedule: Schedule) -> int:
        steps = len(self.times(schedule)) - 1
        return sum(map(self.calls, range(steps - self.last))) + self.last

    def step(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, s: Tensor, rng: Rng) -> State:
        x_t, m_t = state.x, self.integral.estimate(schedule, denoise, state.x, t)
        predicted = state.history if self.warm_up == "lower" or len(state.history) == self.order else ()
        if self.corrector and predicted:
            before, _, x_before = predicted[0]
            x_t = self.integral(schedule, x_before, before, t, ((t, m_t), *predicted[: self.order_before(state)]))
        calls = self.calls(state.step)
        known = ((t, m_t, x_t), *state.history)
        if calls > 1:
            x_s = self.integral.singlestep(schedule, denoise, x_t, t, s, m_t, calls)
        else:
            order = usable_order(self.order, state, self.lower_order_final, few=math.inf)
            x_s = self.integral(schedule, x_t, t, s, known[:order])
        return State(x_s, known[: self.order])

    def finish(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, rng: Rng) -> State:
        return State(denoise(state.x, t).x_0)

    def order_before(self, state: State) -> int:
        """That of the predictor which came to this state."""
        if state.steps is None or not self.lower_order_final:
            return self.order
        return min(self.order, state.steps - state.step + 1)
