"""Fast solvers do what diffusers' and k-diffusion's do, on one network, where those do what the papers say.

Agreement is to their single precision. diffusers' order is the number of estimates, and what is published for order 2
is its "midpoint" (UniPC's "bh2"). Its third orders are not the papers', or not of order 3, and are not compared.
"""

import numpy as np
import pytest
import torch
from closed_form import published_beta
from diffusers import (
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from oracles import k_diffusion
from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.diffusion.continuous import LinearSigma, VariancePreserving
from genlab.models.diffusion.denoiser import Denoised
from genlab.models.diffusion.samplers.deis import DEIS
from genlab.models.diffusion.samplers.dpm_solver import DPMSolver
from genlab.models.diffusion.samplers.pndm import PNDM
from genlab.models.diffusion.samplers.sampler import Sampler
from genlab.models.diffusion.samplers.unipc import UniPC
from genlab.models.diffusion.schedule import LinearBeta, Schedule, match

LINEAR = LinearBeta()
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of diffusers
agree = {"rtol": 1e-4, "atol": 1e-4}


def network(x: Tensor, step: float) -> Tensor:
    """Some eps of x and the step counted from 0, neither affine nor small."""
    return 0.7 * x + 0.5 * torch.sin(2 * x.roll(1, -1) + x.flip(1) + step / 150)


def denoiser(schedule: Schedule):
    def denoise(x_t: Tensor, t: Tensor) -> Denoised:
        alpha, sigma = (match(c, x_t) for c in schedule(t))
        return Denoised((x_t - sigma * network(x_t, schedule.level(t).item())) / alpha)

    return denoise


def start() -> tuple[Tensor, Rng]:
    rng = Rng(3, torch.arange(2))
    return rng.stage("start").normal(3, 4, 4, dtype=torch.float64), rng


def drawn(sampler: Sampler, schedule: Schedule = LINEAR, scale: float = 1.0) -> Tensor:
    x, rng = start()
    return sampler(schedule, denoiser(schedule), scale * x, rng)


def theirs(scheduler, steps: int) -> Tensor:
    scheduler.set_timesteps(steps)
    x = start()[0]
    for timestep in scheduler.timesteps:
        x = scheduler.step(network(x, timestep.item()), timestep, x).prev_sample
    return x


def final(last: bool) -> dict[str, str]:
    """diffusers' settings for the times of `spacing=trailing`, to the data, and of `spacing=uniform, last=false`."""
    if last:
        return {"timestep_spacing": "trailing", "final_sigmas_type": "zero"}
    return {"timestep_spacing": "linspace", "final_sigmas_type": "sigma_min"}


def ours(last: bool) -> dict[str, object]:
    return {"spacing": "trailing" if last else "uniform", "last": last}


few_and_many = pytest.mark.parametrize("steps", [9, 21])
orders = pytest.mark.parametrize("order", [1, 2])


@few_and_many
@orders
@pytest.mark.parametrize("midpoint", [True, False])
@pytest.mark.parametrize(
    ("integrand", "algorithm", "last"),
    [("data", "dpmsolver++", True), ("data", "dpmsolver++", False), ("noise", "dpmsolver", False)],
)
def test_multistep_dpm_solver_is_that_of_diffusers(steps, order, midpoint, integrand, algorithm, last):
    kind = "midpoint" if midpoint else "heun"
    scheduler = DPMSolverMultistepScheduler(
        solver_order=order, algorithm_type=algorithm, solver_type=kind, lower_order_final=True, **final(last)
    )
    sampler = DPMSolver(steps, order, integrand=integrand, midpoint=midpoint, **ours(last))
    torch.testing.assert_close(drawn(sampler), theirs(scheduler, steps), **agree)


@orders
@pytest.mark.parametrize(("integrand", "algorithm"), [("data", "dpmsolver++"), ("noise", "dpmsolver")])
def test_singlestep_dpm_solver_is_that_of_diffusers(order, integrand, algorithm):
    """Which counts evaluations as steps: here it is given the inner ones where ours are."""
    steps = 12
    scheduler = DPMSolverSinglestepScheduler(
        solver_order=order, algorithm_type=algorithm, lower_order_final=False, final_sigmas_type="sigma_min"
    )
    scheduler.set_timesteps(order * steps)
    sampler = DPMSolver(steps, order, "singlestep", integrand, last=False)
    log_snr = LINEAR.log_snr(sampler.times(LINEAR)).numpy()
    within = np.interp(np.arange(order * steps + 1) / order, np.arange(steps + 1), log_snr)
    scheduler.sigmas = torch.from_numpy(np.exp(-0.5 * within))
    timesteps = LINEAR.level(LINEAR.time(torch.from_numpy(within)))
    scheduler.set_begin_index(0)
    x = start()[0]
    for step in timesteps[:-1]:
        x = scheduler.step(network(x, step.item()), step, x).prev_sample
    torch.testing.assert_close(drawn(sampler), x, **agree)


@few_and_many
@orders
@pytest.mark.parametrize("corrector", [True, False])
@pytest.mark.parametrize(("integrand", "last"), [("data", True), ("data", False), ("noise", False)])
def test_unipc_is_that_of_diffusers(steps, order, corrector, integrand, last):
    scheduler = UniPCMultistepScheduler(
        solver_order=order,
        predict_x0=integrand == "data",
        solver_type="bh2",
        disable_corrector=[] if corrector else list(range(steps)),
        **final(last),
    )
    sampler = UniPC(steps, order, integrand, corrector, **ours(last))
    torch.testing.assert_close(drawn(sampler), theirs(scheduler, steps), **agree)


@few_and_many
@orders
def test_deis_in_log_rho_is_that_of_diffusers(steps, order):
    """The only variable that it has, in which DEIS is a multistep DPM-Solver."""
    scheduler = DEISMultistepScheduler(solver_order=order, timestep_spacing="linspace")
    sampler = DEIS(steps, order - 1, variable="log_snr", spacing="uniform", last=False)
    torch.testing.assert_close(drawn(sampler), theirs(scheduler, steps), **agree)


@pytest.mark.parametrize("steps", [10, 50])
@pytest.mark.parametrize(("skip", "warm_up"), [(False, "runge_kutta"), (True, "lower")])
def test_pndm_is_that_of_diffusers(steps, skip, warm_up):
    """Over equal steps, down to the data."""
    scheduler = PNDMScheduler(skip_prk_steps=skip, set_alpha_to_one=True, timestep_spacing="trailing")
    scheduler.final_alpha_cumprod, scheduler.alphas_cumprod = (
        torch.tensor(1.0),
        (1 - published_beta("linear")).cumprod(0),
    )
    torch.testing.assert_close(
        drawn(PNDM(steps, warm_up=warm_up, spacing="trailing")), theirs(scheduler, steps), **agree
    )


def k_diffused(name: str, sampler: Sampler, schedule: Schedule, **options: object) -> Tensor:
    """What k-diffusion makes of the same noise by the times of our sampler, in y = x / alpha and n = sigma / alpha."""
    times = sampler.times(schedule)
    alpha, sigma = schedule(times)

    def estimate(y: Tensor, n: Tensor) -> Tensor:
        t = schedule.time(-2 * n[0].log())
        return denoiser(schedule)(match(schedule(t)[0], y) * y, t).x_0

    y = start()[0] * sigma[0] / alpha[0]
    return getattr(k_diffusion(), f"sample_{name}")(estimate, y, sigma / alpha, disable=True, **options)


smooth = pytest.mark.parametrize("schedule", [LinearSigma(), VariancePreserving()], ids=["edm", "vp"])


@smooth
@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("dpmpp_2m", DPMSolver(18, 2, lower_order_final=False, spacing="karras")),
        ("dpm_2", DPMSolver(12, 2, "singlestep", "noise", spacing="karras")),
    ],
    ids=["2M", "2S"],
)
def test_dpm_solvers_are_those_of_k_diffusion(name, sampler, schedule):
    found = drawn(sampler, schedule, scale=schedule(sampler.times(schedule)[0])[1].item())
    torch.testing.assert_close(found, k_diffused(name, sampler, schedule), rtol=1e-6, atol=1e-6)


@smooth
@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_deis_in_rho_is_the_linear_multistep_method_of_k_diffusion(order, schedule):
    """Down to the smallest time: the step from there to the data is of the full order there, and the estimate here."""
    sampler = DEIS(15, order, variable="rho", spacing="karras", last=False)
    found = drawn(sampler, schedule, scale=schedule(sampler.times(schedule)[0])[1].item())
    theirs = k_diffused("lms", sampler, schedule, order=order + 1)
    alpha = schedule(sampler.times(schedule)[-1])[0]
    torch.testing.assert_close(found, alpha * theirs, rtol=1e-4, atol=1e-4)
