"""Laws of DPM-Solver, DPM-Solver++, UniPC, DEIS and PNDM on every schedule; orders and agreement are tested beside."""

import pytest
import torch
from closed_form import C, M, shipped
from test_samplers import mean_and_deviation
from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.diffusion.denoiser import Denoised
from genlab.models.diffusion.samplers.ancestral import Ancestral
from genlab.models.diffusion.samplers.deis import DEIS
from genlab.models.diffusion.samplers.dpm_solver import DPMSolver
from genlab.models.diffusion.samplers.pndm import PNDM
from genlab.models.diffusion.samplers.sampler import Sampler, State
from genlab.models.diffusion.samplers.unipc import UniPC
from genlab.models.diffusion.schedule import Cosine, LinearBeta, Schedule, match

SCHEDULES: dict[str, Schedule] = {
    **shipped("schedule"),
    "no signal at the end": LinearBeta(zero_terminal_snr=True),
    "cosine without signal at the end": Cosine(zero_terminal_snr=True),
}
SAMPLERS: dict[str, Sampler] = {
    "DPM-Solver-1": DPMSolver(100, 1, integrand="noise"),
    **{f"DPM-Solver-{p}M": DPMSolver(20, p, integrand="noise") for p in (2, 3)},
    **{f"DPM-Solver-{p}S": DPMSolver(20, p, "singlestep", "noise") for p in (2, 3)},
    **{f"DPM-Solver++{p}M": DPMSolver(20, p) for p in (2, 3)},
    **{f"DPM-Solver++{p}S": DPMSolver(20, p, "singlestep") for p in (2, 3)},
    "DPM-Solver++3M from singlesteps": DPMSolver(20, 3, warm_up="singlestep"),
    "UniPC-1": UniPC(40, 1),
    "UniPC-2": UniPC(20, 2),
    "UniPC-3": UniPC(20, 3),
    "UniPC-3 from singlesteps": UniPC(20, 3, warm_up="singlestep"),
    "UniPC-2 of noise": UniPC(20, 2, "noise"),
    "UniP-3": UniPC(20, 3, corrector=False),
    "tAB-DEIS-1": DEIS(40, 1),
    "tAB-DEIS-3": DEIS(20, 3),
    "rhoAB-DEIS-3": DEIS(30, 3, "rho"),
    "tAB-DEIS-3 from singlesteps": DEIS(20, 3, warm_up="singlestep"),
    "F-PNDM": PNDM(50, spacing="log_snr"),
    "S-PNDM": PNDM(50, 2, "lower", spacing="log_snr"),
    "PLMS": PNDM(50, warm_up="lower", spacing="log_snr"),
}
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
samplers = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)


def start(rows: int = 2) -> tuple[Tensor, Rng]:
    rng = Rng(3, torch.arange(rows))
    return rng.stage("start").normal(3, 4, 4, dtype=torch.float64), rng


def nonlinear(schedule: Schedule):
    """Some denoiser that is neither affine nor small."""

    def denoise(x_t: Tensor, t: Tensor) -> Denoised:
        alpha, sigma = (match(c, x_t) for c in schedule(t))
        known = alpha / (alpha**2 + sigma**2)
        return Denoised(known * x_t + 0.3 * torch.sin(3 * x_t.roll(1, -1) + 5 * sigma))

    return denoise


# On data of known distribution


@schedules
@samplers
def test_solvers_return_the_data_distribution(sampler, schedule):
    """In 20 to 100 steps, those of order 1 in the most."""
    mean, deviation = mean_and_deviation(sampler, schedule)
    assert mean == pytest.approx(M, abs=0.022)
    assert deviation == pytest.approx(C, abs=0.022)


@pytest.mark.parametrize("name", ["straight", "no signal at the end", "cosine without signal at the end", "cosine"])
@pytest.mark.parametrize(
    "sampler",
    [
        DPMSolver(20, spacing="trailing"),
        DPMSolver(20, 3, "singlestep", "noise", spacing="trailing"),
        DPMSolver(20, integrand="noise", spacing="trailing", warm_up="singlestep"),
        UniPC(20, spacing="trailing"),
        UniPC(20, 2, "noise", spacing="trailing"),
        DEIS(20, spacing="trailing"),
        PNDM(50, spacing="trailing"),
    ],
    ids=lambda sampler: sampler.name,
)
def test_times_at_which_nothing_is_left_of_the_data_are_not_passed(sampler, name):
    schedule = SCHEDULES[name]
    times = sampler.times(schedule)
    assert times[0] == schedule.t_max < 1
    assert (times.diff() < 0).all()
    mean, deviation = mean_and_deviation(sampler, schedule)
    assert mean == pytest.approx(M, abs=0.035)
    assert deviation == pytest.approx(C, abs=0.035)


def test_every_step_of_a_table_without_signal_at_the_end_can_be_taken():
    """Those above t_max are one then."""
    schedule, sampler = LinearBeta(100, zero_terminal_snr=True), DPMSolver(None, spacing="trailing")
    assert 90 < sampler.evaluations(schedule) < 100
    mean, deviation = mean_and_deviation(sampler, schedule)
    assert mean == pytest.approx(M, abs=0.02)
    assert deviation == pytest.approx(C, abs=0.02)


# What is the same by another name


def one(schedule: Schedule, sampler: Sampler) -> Tensor:
    x, rng = start()
    return sampler(schedule, nonlinear(schedule), x * schedule.prior_scale, rng)


@pytest.mark.parametrize("name", ["linear", "edm", "straight"])
@pytest.mark.parametrize("last", [True, False])
def test_all_of_them_begin_as_ddim(name, last):
    settings = {"spacing": "log_snr", "last": last}
    ddim = one(SCHEDULES[name], Ancestral(12, eta=0, **settings))
    for sampler in (
        DPMSolver(12, 1, integrand="noise", **settings),
        DPMSolver(12, 1, integrand="data", **settings),
        DPMSolver(12, 1, "singlestep", **settings),
        UniPC(12, 1, corrector=False, **settings),
        DEIS(12, 0, **settings),
        PNDM(12, 1, **settings),
    ):
        torch.testing.assert_close(one(SCHEDULES[name], sampler), ddim, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("order", [2, 3])
def test_deis_in_log_snr_is_dpm_solver_and_unipc_without_its_corrector_dpm_solver_pp(order):
    schedule = SCHEDULES["vp"]
    deis = DEIS(20, order - 1, "log_snr")
    torch.testing.assert_close(
        one(schedule, deis),
        one(schedule, DPMSolver(20, order, integrand="noise", midpoint=False)),
        rtol=1e-12,
        atol=1e-12,
    )
    unip = UniPC(20, order, corrector=False, lower_order_final=False)
    torch.testing.assert_close(one(schedule, unip), one(schedule, DPMSolver(20, order)), rtol=1e-12, atol=1e-12)


def test_time_is_rho_where_sigma_is_time():
    schedule = SCHEDULES["edm"]
    torch.testing.assert_close(one(schedule, DEIS(20)), one(schedule, DEIS(20, variable="rho")), rtol=1e-9, atol=1e-9)


# What each of them promises

CONDUCT = {
    **SAMPLERS,
    **{f"{name}, not to the data": type(sampler)(9, last=False) for name, sampler in SAMPLERS.items() if "-2" in name},
    **{f"DPM-Solver++3M in {n}": DPMSolver(n, 3, warm_up="singlestep") for n in (1, 2, 3, 4)},
    **{f"DPM-Solver++3S in {n}": DPMSolver(n, 3, "singlestep") for n in (1, 2)},
    **{f"UniPC-3 in {n}": UniPC(n, 3) for n in (1, 2, 3, 4)},
    **{f"tAB-DEIS-3 in {n}": DEIS(n, 3, warm_up="singlestep") for n in (1, 2, 4, 5)},
    **{f"F-PNDM in {n}": PNDM(n) for n in (1, 2, 4, 5)},
    **{f"PLMS in {n}": PNDM(n, warm_up="lower") for n in (1, 2)},
}
conduct = pytest.mark.parametrize("sampler", CONDUCT.values(), ids=CONDUCT)


@conduct
@pytest.mark.parametrize("name", ["linear", "straight"])
def test_evaluations_are_the_calls_of_the_denoiser(sampler, name):
    schedule, asked = SCHEDULES[name], []

    def counted(x_t: Tensor, t: Tensor) -> Denoised:
        asked.append(t.item())
        assert x_t.isfinite().all()
        return nonlinear(schedule)(x_t, t)

    x, rng = start()
    assert sampler(schedule, counted, x, rng).isfinite().all()
    assert len(asked) == sampler.evaluations(schedule)
    assert schedule.t_min * (1 - 1e-9) <= min(asked)
    assert max(asked) <= schedule.t_max


@pytest.mark.parametrize(
    ("sampler", "evaluations"),
    [
        (DPMSolver(20), 20),
        (DPMSolver(20, last=False), 20),
        (DPMSolver(10, 3, "singlestep"), 28),
        (DPMSolver(10, 3, "singlestep", last=False), 30),
        (DPMSolver(10, 3, warm_up="singlestep"), 14),
        (UniPC(10, 3), 10),
        (UniPC(10, 3, warm_up="singlestep"), 14),
        (DEIS(10, 3), 10),
        (DEIS(10, 3, warm_up="singlestep"), 16),
        (DEIS(10, 1, warm_up="singlestep"), 11),
        (PNDM(50), 59),
        (PNDM(50, warm_up="lower"), 51),
        (PNDM(50, 1), 50),
    ],
)
def test_what_steps_cost(sampler, evaluations):
    assert sampler.evaluations(LinearBeta()) == evaluations


@conduct
def test_a_sample_does_not_depend_on_its_batch(sampler):
    schedule, (x, rng) = SCHEDULES["vp"], start(5)
    whole = sampler(schedule, nonlinear(schedule), x, rng)
    for part in (slice(0, 1), slice(1, 5)):
        assert torch.equal(sampler(schedule, nonlinear(schedule), x[part], rng.rows(part)), whole[part])


@samplers
def test_nothing_is_drawn_and_nothing_remembered_from_one_batch_to_the_next(sampler):
    schedule, x = SCHEDULES["linear"], start()[0]
    first = sampler(schedule, nonlinear(schedule), x, Rng(0, torch.arange(2)))
    assert torch.equal(sampler(schedule, nonlinear(schedule), x, Rng(1, torch.arange(2))), first)


@samplers
def test_single_precision_is_kept_and_is_enough(sampler):
    schedule, (x, rng) = SCHEDULES["vp"], start()
    out = sampler(schedule, nonlinear(schedule), x.float(), rng)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), sampler(schedule, nonlinear(schedule), x, rng), rtol=1e-3, atol=1e-3)


@samplers
def test_the_step_to_the_data_gives_the_estimate(sampler):
    schedule, (x, rng) = SCHEDULES["vp"], start()
    t, denoise = torch.tensor(0.05, dtype=torch.float64), nonlinear(schedule)
    out = sampler.finish(schedule, denoise, State(x, step=19, steps=20), t, rng)
    torch.testing.assert_close(out.x, denoise(x, t).x_0, rtol=1e-12, atol=1e-12)


@samplers
@pytest.mark.parametrize(("clip", "bounded", "clipped"), [(None, 1, 0), (True, 0, 1), (False, 1, 0)])
def test_estimates_are_clipped_where_told_alone(sampler, clip, bounded, clipped, monkeypatch):
    """Clipped estimates are not those of a differential equation's right-hand side."""
    monkeypatch.setattr(sampler, "clip", clip)
    out = sampler(LinearBeta(), lambda x_t, t: Denoised(torch.full_like(x_t, 3.0)), *start(), bool(bounded))
    torch.testing.assert_close(out, torch.full_like(out, 1.0 if clipped else 3.0), rtol=1e-6, atol=0)


def test_the_last_of_a_few_steps_are_of_lower_order_where_it_is_left_to_them():
    """Of 14 steps of order 3 the one before the last is of order 2; of 15 it is not."""
    schedule = SCHEDULES["vp"]
    for steps, same in ((14, False), (15, True)):
        lowered, full = (one(schedule, DPMSolver(steps, 3, lower_order_final=lower)) for lower in (True, False))
        assert torch.equal(lowered, full) == same
    lowered, full = (one(schedule, UniPC(20, 3, lower_order_final=lower)) for lower in (True, False))
    assert not torch.equal(lowered, full)


def test_names_are_those_of_the_configs():
    names = ["dpm_solver", "dpm_solver_pp", "unipc", "deis", "pndm"]
    assert [shipped("sampler")[name].name for name in names] == names


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DPMSolver(order=4), "order must be 1, 2 or 3, not 4: DPM-Solver has no other"),
        (lambda: DPMSolver(order=0), "order must be 1, 2 or 3, not 0"),
        (lambda: UniPC(order=4), "order must be 1, 2 or 3, not 4: it is that of UniPC's predictor"),
        (lambda: DEIS(order=4), "order must be 0, 1, 2 or 3, not 4: it is the degree of DEIS's polynomial"),
        (lambda: PNDM(order=5), "order must be 1, 2, 3 or 4, not 5: it is how many estimates PNDM averages"),
        (lambda: DPMSolver(0), "steps must be at least 1, not 0"),
    ],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
