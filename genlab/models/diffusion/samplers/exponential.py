"""Exponential integrators of the probability-flow ODE: its linear part exactly, the network's along a polynomial.

With lambda = log(alpha / sigma), half the log-SNR, the ODE has the solutions

    x_s = sigma_s / sigma_t x_t + alpha_s int exp(lambda - lambda_s) x_0(lambda) d lambda    in terms of data
    x_s = alpha_s / alpha_t x_t - sigma_s int exp(lambda_s - lambda) eps(lambda) d lambda    in terms of noise

from lambda_t up to lambda_s. Where estimates m_j of x_0 or eps are known at times t_j, the polynomial through them
takes the integrand's place, in lambda, in rho = sigma / alpha or in t itself, v being any of these:

    m(v) = sum_j l_j(v) m_j,    l_j(v) = prod_{k != j} (v - v_k) / (v_j - v_k)

So the integral is that of the exponential alone times a mean of the m_j, weighted by shares whose sum is 1. The former
is had in closed form, the latter by Fejer's rule of 48 points, which leaves no error but rounding for steps of up to 15
in lambda, more than the schedules span. No digits are lost where steps are short, as they are by phi functions.

DPM-Solver takes eps and DPM-Solver++ x_0 in lambda; DEIS takes eps in t or rho.

References:
    DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in Around 10 Steps (Lu et al., 2022),
        section 3.
    DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models (Lu et al., 2022), section 4.
    Fast Sampling of Diffusion Models with Exponential Integrator (Zhang & Chen, 2023), section 3.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from genlab.models.diffusion.denoiser import Denoiser
from genlab.models.diffusion.samplers.sampler import State
from genlab.models.diffusion.schedule import Schedule, match

Integrand = Literal["data", "noise"]
Variable = Literal["log_snr", "rho", "time"]
WarmUp = Literal["lower", "singlestep"]

OF_HALF_LOG_SNR: dict[Variable, Callable[[Schedule, Tensor], Tensor]] = {
    "log_snr": lambda schedule, half: half,
    "rho": lambda schedule, half: (-half).exp(),
    "time": lambda schedule, half: schedule.time(2 * half),
}
"""What v is at given lambda."""

INNER: dict[int, tuple[float, ...]] = {1: (), 2: (1 / 2,), 3: (1 / 3, 2 / 3)}
"""Where a singlestep method of this many evaluations makes those after the first, as a part of the step in lambda."""

# With fewer steps than this, DPM-Solver's last ones are of lower order where that is left to it.
FEW = 15


def fejer(points: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Places in [0, 1] and weights (points,) of the rule int_0^1 f = sum_i w_i f(theta_i), exact for polynomials."""
    angle = (torch.arange(points, dtype=torch.float64, device=device) + 0.5) * (math.pi / points)
    twice = 2 * torch.arange(1, points // 2 + 1, dtype=torch.float64, device=device)[:, None]
    weight = (1 - 2 * ((twice * angle).cos() / (twice**2 - 1)).sum(0)) / points
    return (1 - angle.cos()) / 2, weight


def lagrange(nodes: Tensor, at: Tensor) -> Tensor:
    """(n, Q): the polynomials that are 1 at one of the nodes (n,) and 0 at the others, at places (Q,)."""
    same = torch.eye(len(nodes), dtype=torch.bool, device=nodes.device)[..., None]
    factors = (at - nodes[:, None]) / (nodes[:, None] - nodes)[..., None]
    return torch.where(same, 1.0, factors).prod(1)


def with_signal(schedule: Schedule, times: Tensor) -> Tensor:
    """The times, from the largest on at which lambda is finite: where alpha = 0 there is nothing to integrate."""
    return times.clamp(max=schedule.t_max).unique_consecutive()


def usable_order(order: int, state: State, lower_order_final: bool, few: float = FEW) -> int:
    """How many estimates the step to come can use of those that there are.

    Arguments:
        order: the most.
        lower_order_final: fewer in the last steps, 1 in the very last, where there are fewer than `few`.
    """
    order = min(order, len(state.history) + 1)
    if state.steps is None or not lower_order_final or state.steps >= few:
        return order
    return min(order, state.steps - state.step)


def calls_of_step(points: int, warm_up: WarmUp, step: int) -> int:
    """How often a multistep method of so many points calls the denoiser in a step, by its number from 0."""
    return 1 if warm_up == "lower" or step >= points - 1 else min(points, max(INNER))


@dataclass(frozen=True)
class Integral:
    """One step from t to s, given what is known of the integrand.

    Arguments:
        integrand: what is estimated at the nodes, x_0 ("data") or eps ("noise").
        variable: what the polynomial is one of.
        midpoint: where two estimates are known, take the polynomial's value in the middle of the step, in lambda, for
            all of it, as published for methods of order 2; else integrate it too. Both have the same order.
    """

    integrand: Integrand
    variable: Variable = "log_snr"
    midpoint: bool = False

    def estimate(self, schedule: Schedule, denoise: Denoiser, x_t: Tensor, t: Tensor) -> Tensor:
        """The integrand at x_t (B, *)."""
        x_0 = denoise(x_t, t).x_0
        if self.integrand == "data":
            return x_0
        alpha, sigma = (match(c, x_t) for c in schedule(t))
        return (x_t - alpha * x_0) / sigma

    def __call__(
        self, schedule: Schedule, x_t: Tensor, t: Tensor, s: Tensor, known: Sequence[tuple[Tensor, ...]]
    ) -> Tensor:
        """x_s (B, *).

        Arguments:
            known: (time, estimate, ...) of each node: one where s = 0, infinitely far in lambda, and else up to four.
        """
        coefficients = self.coefficients(schedule, t, s, [node[0] for node in known]).to(x_t.dtype)
        return sum((c * node[1] for c, node in zip(coefficients[1:], known, strict=True)), coefficients[0] * x_t)

    def coefficients(self, schedule: Schedule, t: Tensor, s: Tensor, nodes: Sequence[Tensor]) -> Tensor:
        """(1 + n,) in double: of x_t, and of the estimates at the n nodes."""
        alpha, sigma = schedule(torch.stack([s, t, *nodes]))
        half_log_snr = alpha.log() - sigma.log()
        h = half_log_snr[0] - half_log_snr[1]
        grown = -torch.expm1(-h)
        if self.integrand == "data":
            of_x_t, whole = sigma[0] / sigma[1], alpha[0] * grown
        else:
            of_x_t = alpha[0] / alpha[1]
            whole = -of_x_t * sigma[1] * grown
        return torch.cat([of_x_t[None], whole * self.shares(schedule, half_log_snr[1], h, half_log_snr[2:])])

    def shares(self, schedule: Schedule, start: Tensor, h: Tensor, nodes: Tensor) -> Tensor:
        """(n,), of sum 1: what part each estimate has in the step from lambda = start to start + h, nodes in lambda."""
        if len(nodes) == 1:
            return torch.ones_like(nodes)
        if self.midpoint and len(nodes) == 2:
            return lagrange(nodes, (start + h / 2)[None])[:, 0]
        theta, weight = fejer(48, nodes.device)
        weight = weight * (-h * (1 - theta if self.integrand == "data" else theta)).exp()
        v = OF_HALF_LOG_SNR[self.variable](schedule, torch.cat([nodes, start + h * theta]))
        return lagrange(v[: len(nodes)], v[len(nodes) :]) @ (weight / weight.sum())

    def singlestep(
        self, schedule: Schedule, denoise: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, m_t: Tensor, order: int
    ) -> Tensor:
        """x_s (B, *) by a Runge-Kutta method: as many evaluations as its order, within the step, that at t among them.

        Each stage goes from t along the line through the estimates at t and at the stage before.
        """
        start, end = schedule.log_snr(torch.stack([t, s]))
        known: tuple[tuple[Tensor, Tensor], ...] = ((t, m_t),)
        line = self if order == 2 else Integral(self.integrand)
        for part in INNER[order]:
            inner = schedule.time(torch.lerp(start, end, part))
            x = line(schedule, x_t, t, inner, known)
            known = ((t, m_t), (inner, self.estimate(schedule, denoise, x, inner)))
        return line(schedule, x_t, t, s, known)
