"""The observed orders of fast solvers are those of the papers: in double precision, from the largest time to the least.

The probability-flow ODE of one-dimensional data keeps the distribution function of x_t, so its solution is known: for
N(M, C^2) in closed form, for a mixture, whose ODE is not linear, by a root. The error is the largest on the way, in
standard deviations: at its end alone the leading terms of some methods cancel, and order 3 would look like 4.

The first steps of a multistep method are here singlestep ones of the full order where they would be of a lower one,
since one step of order 1 leaves an error of order 2, which is then that of the whole. Nor are the last steps' orders
lowered.
"""

import math

import pytest
import torch
from closed_form import CONTINUOUS, ideal_denoiser, marginal
from scipy.optimize import brentq
from scipy.special import ndtr
from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.diffusion.denoiser import Denoised
from genlab.models.diffusion.samplers.deis import DEIS
from genlab.models.diffusion.samplers.dpm_solver import DPMSolver
from genlab.models.diffusion.samplers.pndm import PNDM
from genlab.models.diffusion.samplers.unipc import UniPC
from genlab.models.diffusion.schedule import Schedule, match

PATH = {"spacing": "log_snr", "last": False}
FULL = {**PATH, "warm_up": "singlestep", "lower_order_final": False}
LOWER = {**FULL, "warm_up": "lower"}
STEPS = {1: 20, 2: 40, 3: 60, 4: 120}
"""Where the leading term is most of the error, by order; DEIS in t and rho takes twice as many."""

CASES = {
    **{f"DPM-Solver-{p}S": (p, lambda n, p=p: DPMSolver(n, p, "singlestep", "noise", **PATH)) for p in (1, 2, 3)},
    **{f"DPM-Solver++{p}S": (p, lambda n, p=p: DPMSolver(n, p, "singlestep", "data", **PATH)) for p in (1, 2, 3)},
    **{f"DPM-Solver-{p}M": (p, lambda n, p=p: DPMSolver(n, p, integrand="noise", **FULL)) for p in (1, 2, 3)},
    **{f"DPM-Solver++{p}M": (p, lambda n, p=p: DPMSolver(n, p, integrand="data", **FULL)) for p in (1, 2, 3)},
    "DPM-Solver-2M, integrated": (2, lambda n: DPMSolver(n, 2, integrand="noise", midpoint=False, **FULL)),
    "DPM-Solver++2M after one step of order 1": (2, lambda n: DPMSolver(n, 2, **LOWER)),
    **{f"UniPC-{p} of data": (p + 1, lambda n, p=p: UniPC(n, p, "data", **FULL)) for p in (1, 2, 3)},
    **{f"UniPC-{p} of noise": (p + 1, lambda n, p=p: UniPC(n, p, "noise", **FULL)) for p in (1, 2, 3)},
    "UniP-2 alone": (2, lambda n: UniPC(n, 2, corrector=False, **FULL)),
    "UniP-3 alone": (3, lambda n: UniPC(n, 3, corrector=False, **FULL)),
    **{f"tAB-DEIS-{r}": (r + 1, lambda n, r=r: DEIS(2 * n, r, "time", **FULL)) for r in (0, 1, 2, 3)},
    **{f"rhoAB-DEIS-{r}": (r + 1, lambda n, r=r: DEIS(2 * n, r, "rho", **FULL)) for r in (0, 1, 2, 3)},
    "S-PNDM": (2, lambda n: PNDM(n, 2, "lower", **PATH)),
}
SOME = ["DPM-Solver-2S", "DPM-Solver-3S", "DPM-Solver-3M", "DPM-Solver++2M", "DPM-Solver++3S", "DPM-Solver++3M"]


def observed_order(name: str, schedule: Schedule, denoise, solution, x_1: Tensor) -> float:
    """How the error falls where the steps are twice as many, as a power of two.

    Arguments:
        solution: of the ODE from x_1 at the first of these times, at all of them, and its standard deviations.
    """
    (order, make), errors = CASES[name], []
    for steps in (STEPS[order], 2 * STEPS[order]):
        sampler, seen = make(steps), []
        sampler(schedule, denoise, x_1, Rng(0, torch.arange(len(x_1))), watch=lambda *at, seen=seen: seen.append(at))
        states = [x for _, x in seen]
        # A root for each of ten times is enough.
        some = torch.linspace(0, len(states) - 1, 11).long()
        wanted, deviation = solution(x_1, sampler.times(schedule)[some])
        errors.append(((torch.stack(states)[some] - wanted).abs() / deviation).max().item())
    return math.log2(errors[0] / errors[1])


@pytest.mark.parametrize("path", ["vp", "edm", "straight"])
@pytest.mark.parametrize("name", CASES)
def test_orders_on_gaussian_data(name, path):
    schedule = CONTINUOUS[path]

    def solution(x: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        mean, deviation = (match(c, x[None]) for c in marginal(schedule, times))
        return mean + deviation * (x - mean[0]) / deviation[0], deviation

    x_1 = schedule.prior_scale * torch.tensor([[-1.5], [0.0], [2.0]], dtype=torch.float64)
    order = observed_order(name, schedule, ideal_denoiser(schedule), solution, x_1)
    assert order == pytest.approx(CASES[name][0], abs=0.25)


A, WIDTH = 0.6, 0.4  # of the mixture of N(A, WIDTH^2) and N(-A, WIDTH^2)


def mixture_denoiser(schedule: Schedule):
    def denoise(x_t: Tensor, t: Tensor) -> Denoised:
        alpha, sigma = (match(c, x_t) for c in schedule(t))
        variance = alpha**2 * WIDTH**2 + sigma**2
        right = torch.sigmoid(2 * x_t * alpha * A / variance)
        return Denoised((2 * right - 1) * A * sigma**2 / variance + alpha * WIDTH**2 / variance * x_t)

    return denoise


def mixture_solution(schedule: Schedule):
    def distribution(x: float, alpha: float, deviation: float) -> float:
        return (ndtr((x - alpha * A) / deviation) + ndtr((x + alpha * A) / deviation)) / 2

    def solution(x: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = schedule(times)
        deviation = (alpha**2 * WIDTH**2 + sigma**2).sqrt()
        ends = list(zip(alpha.tolist(), deviation.tolist(), strict=True))
        parts = [distribution(value, *ends[0]) for value in x[:, 0].tolist()]
        roots = [
            [brentq(lambda y, part=part, at=at: distribution(y, *at) - part, -4, 4, xtol=1e-14) for part in parts]
            for at in ends
        ]
        return torch.tensor(roots, dtype=torch.float64)[..., None], deviation[:, None, None]

    return solution


@pytest.mark.parametrize("name", [*SOME, "UniPC-2 of data", "UniPC-3 of data", "tAB-DEIS-2", "rhoAB-DEIS-1"])
def test_orders_on_a_mixture_whose_equation_is_not_linear(name):
    schedule = CONTINUOUS["vp"]
    x_1 = torch.tensor([[-1.1], [0.4], [1.3]], dtype=torch.float64)
    order = observed_order(name, schedule, mixture_denoiser(schedule), mixture_solution(schedule), x_1)
    assert order == pytest.approx(CASES[name][0], abs=0.3)
