"""PNDM: multistep and Runge-Kutta methods that average eps in t, and take DDIM's step with the average.

    x_s = alpha_s / alpha_t x_t + (sigma_s - alpha_s / alpha_t sigma_t) eps'
    eps' = 1 / (s - t) int_t^s eps(tau) d tau

with eps the polynomial in t through its estimates. Over equal steps their weights are Adams and Bashforth's, for four

    eps' = (55 eps_t - 59 eps_{t+d} + 37 eps_{t+2d} - 9 eps_{t+3d}) / 24

Over unequal steps they are what the integral says, as in the short last one where times are spaced as DDIM's. The whole
is of order 2, whatever the polynomial's, since DDIM's step is not linear in t.

References:
    Pseudo Numerical Methods for Diffusion Models on Manifolds (Liu et al., 2022), section 3.3 and algorithms 2 and 4.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.diffusion.denoiser import Denoiser
from genlab.models.diffusion.samplers.exponential import Integral, fejer, lagrange, with_signal
from genlab.models.diffusion.samplers.sampler import Clip, Sampler, State
from genlab.models.diffusion.samplers.spacing import Spacing
from genlab.models.diffusion.schedule import Schedule


class PNDM(Sampler):
    """F-PNDM: four points after three Runge-Kutta steps. With warm_up=lower it is PLMS, and with order=2 beside S-PNDM.

    Arguments:
        steps, spacing, clip, last, rho: see `Sampler`.
        order: how many estimates are averaged, 1 (DDIM) to 4.
        warm_up: "runge_kutta" makes the first order - 1 steps, but not that to the data, with four evaluations each;
            "lower" the first with two, and the next with as many estimates as there are.
    """

    clips = False
    integral = Integral("noise")

    def __init__(
        self,
        steps: int | None = 50,
        order: int = 4,
        warm_up: Literal["runge_kutta", "lower"] = "runge_kutta",
        spacing: Spacing = "uniform",
        clip: Clip = None,
        last: bool = True,
        rho: float = 7.0,
    ) -> None:
        super().__init__(steps, spacing, clip, last, rho)
        if order not in (1, 2, 3, 4):
            raise ValueError(f"order must be 1, 2, 3 or 4, not {order}: it is how many estimates PNDM averages")
        self.order, self.warm_up = order, warm_up

    def times(self, schedule: Schedule) -> Tensor:
        return with_signal(schedule, super().times(schedule))

    def calls(self, step: int) -> int:
        """How often the denoiser is called in a step that does not go to the data, by its number from 0."""
        if step >= self.order - 1:
            return 1
        if self.warm_up == "runge_kutta":
            return 4
        return 2 if step == 0 else 1

    def evaluations(self, schedule: Schedule) -> int:
        steps = len(self.times(schedule)) - 1
        return sum(map(self.calls, range(steps - self.last))) + self.last

    def step(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, s: Tensor, rng: Rng) -> State:
        x_t = state.x

        def eps(x: Tensor, at: Tensor) -> Tensor:
            return self.integral.estimate(schedule, denoise, x, at)

        def transferred(eps: Tensor, to: Tensor) -> Tensor:
            return self.integral(schedule, x_t, t, to, ((t, eps),))

        eps_t = eps(x_t, t)
        known = ((t, eps_t), *state.history)
        calls = self.calls(state.step)
        if calls == 4:
            middle = (t + s) / 2
            second = eps(transferred(eps_t, middle), middle)
            third = eps(transferred(second, middle), middle)
            fourth = eps(transferred(third, s), s)
            average = (eps_t + 2 * second + 2 * third + fourth) / 6
        elif calls == 2:
            average = (eps_t + eps(transferred(eps_t, s), s)) / 2
        else:
            average = mean(known, t, s)
        return State(transferred(average, s), known[: self.order - 1])

    def finish(self, schedule: Schedule, denoise: Denoiser, state: State, t: Tensor, rng: Rng) -> State:
        eps_t, end = self.integral.estimate(schedule, denoise, state.x, t), torch.zeros_like(t)
        average = mean(((t, eps_t), *state.history), t, end)
        return State(self.integral(schedule, state.x, t, end, ((t, average),)))


def mean(known: Sequence[tuple[Tensor, ...]], t: Tensor, s: Tensor) -> Tensor:
    """The mean from t to s of the polynomial in t through (time, estimate (B, *)) of each node."""
    theta, weight = fejer(8, t.device)
    nodes = torch.stack([node[0] for node in known])
    shares = (lagrange(nodes, t + (s - t) * theta) @ weight).to(known[0][1].dtype)
    return torch.stack([share * node[1] for share, node in zip(shares, known, strict=True)]).sum(0)
