"""Likelihood by the probability-flow ODE, along which a density changes by what the field diverges.

    log p_0(x) = log p_1(x_1) + integral_0^1 div dx/dt dt

x_1 is where the ODE leads from x. The divergence is the trace of the field's Jacobian: summed dimension by dimension,
or without bias from a random probe z of mean 0 and covariance I, by one vector-Jacobian product:

    div v = E z^T (dv/dx) z

The ODE is solved by the clock of `flow_ode`, the angle, where y = x / r and log p(x) = log p(y) - D log r. At the
smallest time, x_t / alpha_t is taken for the data.

Discrete data, whose bins have the width w, are spread evenly over their bins, with u uniform in [-w / 2, w / 2]:

    -log P(x) <= E_u -log p_0(x + u) - D log w

References:
    Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), sec. 4.3, app. D.2.
    FFJORD: Free-form Continuous Dynamics for Scalable Reversible Generative Models (Grathwohl et al., 2019), sec. 3.1.
    A note on the evaluation of generative models (Theis et al., 2016), section 3.1, for the bins.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torchdiffeq import odeint

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.core.units import half_bin
from genlab.models.contract import Nll
from genlab.models.diffusion.denoiser import Denoised, Denoiser
from genlab.models.diffusion.estimator import Estimator
from genlab.models.diffusion.flow_ode import angle, radius, turning
from genlab.models.diffusion.schedule import Schedule

MOST_DIMENSIONS = 256
"""An exact trace takes as many vector-Jacobian products at each point of the path as there are dimensions."""

Divergence = Callable[[Tensor, Tensor], Tensor]
"""(v (B, *), y (B, *) that it was computed from) -> the divergence of v by y, (B,)."""


def exact_trace(v: Tensor, y: Tensor) -> Tensor:
    """The sum of dv_i / dy_i, dimension by dimension."""
    flat = v.flatten(1)
    count = flat.shape[1]
    slopes = [torch.autograd.grad(flat[:, i].sum(), y, retain_graph=True)[0].flatten(1)[:, i] for i in range(count)]
    return torch.stack(slopes).sum(0)


def along_probe(probe: Tensor) -> Divergence:
    """z^T (dv / dy) z for a probe z (B, *)."""

    def estimate(v: Tensor, y: Tensor) -> Tensor:
        (product,) = torch.autograd.grad((v * probe).sum(), y)
        return (product * probe).flatten(1).sum(1)

    return estimate


def largest_of_any_datum(state: tuple[Tensor, Tensor]) -> Tensor:
    """What the solver holds against its tolerance: data that are solved for together hide no error of each other."""
    y, change = state
    return torch.maximum(y.flatten(1).square().mean(1).sqrt(), change.abs()).max()


class ProbabilityFlow(Estimator):
    """The density by the probability-flow ODE.

    For real data it is an estimate with Hutchinson's trace, without bias, and exact up to the solver's tolerance with
    the exact trace. For discrete data it is an upper bound in expectation, by uniform dequantisation. Data of a batch
    share the solver's steps, so a datum depends on the others, but to within the tolerance only.

    Arguments:
        trace: "hutchinson", from one probe that is kept along a path; or "exact", in few dimensions.
        probe: "rademacher" (signs) or "normal".
        repeats: paths a datum, each with a dequantisation and a probe of its own, that are averaged.
        rtol, atol: the relative and the absolute error of a step of the solver, Dormand and Prince's of order 5.
        t_min: the time at which the data are entered; the first step of a table where that is later.

    Raises UserError for an exact trace in more than 256 dimensions.
    """

    def __init__(
        self,
        trace: Literal["hutchinson", "exact"] = "hutchinson",
        probe: Literal["rademacher", "normal"] = "rademacher",
        repeats: int = 1,
        rtol: float = 1e-5,
        atol: float = 1e-5,
        t_min: float = 1e-5,
    ) -> None:
        if repeats < 1:
            raise ValueError(f"repeats must be at least 1, not {repeats}")
        if not (rtol > 0 and atol > 0):
            raise ValueError(f"rtol={rtol} and atol={atol} must be above 0")
        if not 0 < t_min < 1:
            raise ValueError(f"t_min must lie between 0 and 1, not {t_min}")
        self.trace, self.probe, self.repeats = trace, probe, repeats
        self.rtol, self.atol, self.t_min = rtol, atol, t_min

    def __call__(
        self, schedule: Schedule, denoise: Denoiser, x_0: Tensor, field: Field, rng: Rng, bounded: bool
    ) -> Nll:
        dimensions = math.prod(x_0.shape[1:])
        if self.trace == "exact" and dimensions > MOST_DIMENSIONS:
            raise UserError(
                f"estimator.trace=exact: the data have {dimensions} dimensions, and the exact trace is for at most "
                f"{MOST_DIMENSIONS}; choose hutchinson"
            )
        discrete = field.levels is not None
        # Nothing is drawn for real data with an exact trace.
        repeats = self.repeats if discrete or self.trace == "hutchinson" else 1
        width = 2 * half_bin(field.levels) if field.levels is not None else 0.0
        dequantising, probing = rng.stage("dequantisation"), rng.stage("probe")
        start = self.t_min if schedule.steps is None else max(self.t_min, 1 / schedule.steps)

        def in_precision(x_t: Tensor, t: Tensor) -> Denoised:
            """The path is kept in double, and the network asked in its own precision."""
            return Denoised(denoise(x_t.to(x_0), t).x_0.double())

        prior, change = torch.zeros(2, len(x_0), dtype=torch.float64, device=x_0.device)
        asked = 0
        for _ in range(repeats):
            x = x_0.double()
            if discrete:
                x = x + width * (dequantising.uniform(*x.shape[1:], dtype=torch.float64) - 0.5)
            divergence = exact_trace if self.trace == "exact" else along_probe(self.drawn(probing, x))
            x_1, along, count = self.solved(schedule, in_precision, x, start, divergence)
            squared = (x_1 / schedule.prior_scale).square() + math.log(2 * math.pi * schedule.prior_scale**2)
            prior, change = prior + 0.5 * squared.flatten(1).sum(1) / repeats, change + along / repeats
            asked += count
        terms = {"prior": prior, "divergence": -change}
        if discrete:
            terms["dequantisation"] = torch.full_like(prior, -dimensions * math.log(width))
        bound: Literal["exact", "upper", "estimate"] = "upper"
        if not discrete:
            bound = "exact" if self.trace == "exact" else "estimate"
        return Nll(torch.stack(list(terms.values())).sum(0), bound, terms, self.how(start, repeats, discrete, asked))

    def drawn(self, rng: Rng, x: Tensor) -> Tensor:
        """A probe of the shape of x (B, *), in double."""
        if self.probe == "normal":
            return rng.normal(*x.shape[1:], dtype=torch.float64)
        return 2.0 * rng.integers(2, *x.shape[1:]).double() - 1

    def solved(
        self, schedule: Schedule, denoise: Denoiser, x: Tensor, start: float, divergence: Divergence
    ) -> tuple[Tensor, Tensor, int]:
        """x_1 (B, *) to which x (B, *) leads, the log of how volume grew on the way (B,), and the evaluations."""
        ends = torch.tensor([start, 1.0], dtype=torch.float64, device=x.device)
        phi = angle(schedule, ends)
        first, last = phi[0].cos(), radius(schedule, ends[1])
        rate, asked = turning(schedule, denoise), 0

        def change(phi: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            nonlocal asked
            asked += 1
            with torch.enable_grad():
                y = state[0].detach().requires_grad_()
                v = rate(y, phi)
                grown = divergence(v, y)
            return v.detach(), grown.detach()

        # A step to the end, since beyond it there is no schedule to interpolate from.
        options = {"norm": largest_of_any_datum, "step_t": phi[1:]}
        begin = (x * first, torch.zeros(len(x), dtype=torch.float64, device=x.device))
        try:
            y, grown = odeint(change, begin, phi, rtol=self.rtol, atol=self.atol, method="dopri5", options=options)
        except AssertionError as error:
            raise UserError(
                "estimator=ode: the solver came to a halt, since the model's field is not finite or too steep there; "
                "try another checkpoint, or larger estimator.rtol and estimator.atol"
            ) from error
        return y[-1] * last, grown[-1] + math.prod(x.shape[1:]) * (first * last).log(), asked

    def how(self, start: float, repeats: int, discrete: bool, asked: int) -> str:
        """What was computed. Evaluations are those of the last batch; others take about as many."""
        trace = "exact trace" if self.trace == "exact" else f"Hutchinson's trace with {self.probe} probes"
        said = [f"probability-flow ODE from t={start:g}", trace, f"dopri5 to rtol={self.rtol:g}, atol={self.atol:g}"]
        if discrete:
            said.append("uniform dequantisation")
        if repeats > 1:
            said.append(f"mean of {repeats} paths")
        return ", ".join([*said, f"about {10 * round(asked / repeats / 10)} evaluations a path"])
