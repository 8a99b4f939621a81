"""The step loop of every shipped sampler leaves the device alone: nothing moves to or from it, nothing waits for it.

It is run on the meta device, whose tensors have shapes and no values: who asks one for its value, as `.item()` and
`if tensor` do, or moves it elsewhere, gets an error. Of the rest, every tensor that an operation takes or makes has to
be there.
"""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from closed_form import ideal_denoiser, shipped
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from genlab.core.rng import Rng
from genlab.models.diffusion.samplers.annealed_langevin import AnnealedLangevin
from genlab.models.diffusion.samplers.deis import DEIS
from genlab.models.diffusion.samplers.dpm_solver import DPMSolver
from genlab.models.diffusion.samplers.pndm import PNDM
from genlab.models.diffusion.samplers.sampler import Clipped, Sampler, State
from genlab.models.diffusion.samplers.unipc import UniPC
from genlab.models.diffusion.schedule import LinearBeta, Schedule

STEPS = 5
MORE = {
    # Those that are shipped, which repeat more often.
    "annealed_langevin": AnnealedLangevin(repeats=2),
    "annealed_langevin_v2": AnnealedLangevin(repeats=2, size=None),
    "DPM-Solver-3S": DPMSolver(order=3, method="singlestep", integrand="noise"),
    "UniPC-3 from singlesteps": UniPC(order=3, warm_up="singlestep"),
    "rhoAB-DEIS": DEIS(variable="rho"),
    "PLMS": PNDM(warm_up="lower"),
}
# Without those that decide on their way how far to go next, and so have to look.
SAMPLERS = {
    name: sampler
    for name, sampler in {**shipped("sampler"), **MORE}.items()
    if isinstance(sampler, Sampler) and not sampler.needs_data and sampler.evaluations(LinearBeta()) is not None
}


class There(TorchDispatchMode):
    """Every tensor is on the device."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, kwargs, out)):
            assert not isinstance(tensor, Tensor) or tensor.is_meta, f"{operation} on {tensor.device}"
        return out


def run(sampler: Sampler, schedule: Schedule) -> Tensor:
    """A few steps and the last one, as the sampler's loop takes them."""
    schedule = schedule.to("meta")
    falling = torch.linspace(0.9, 0.1, STEPS + 1, dtype=torch.float64).to("meta").unbind()
    rng = Rng(0, torch.arange(2, device="meta")).stage("sampler")
    denoise = Clipped(ideal_denoiser(schedule)) if sampler.clips else ideal_denoiser(schedule)
    state = State(torch.empty(2, 1, 4, 4, device="meta"))
    with There(), torch.no_grad():
        for i, (t, s) in enumerate(pairwise(falling)):
            state = sampler.step(schedule, denoise, State(state.x, state.history, i, STEPS + 1), t, s, rng)
        state = State(state.x, state.history, STEPS, STEPS + 1)
        return sampler.finish(schedule, denoise, state, falling[-1], rng).x


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_nothing_moves_and_nothing_waits(sampler):
    x = run(sampler, LinearBeta())
    assert x.is_meta
    assert x.shape == (2, 1, 4, 4)


@pytest.mark.parametrize(
    "offend",
    [
        lambda x: x * x.amax().item(),
        lambda x: x if x.sum() > 0 else -x,
        lambda x: x.cpu().to("meta"),
        lambda x: x * torch.tensor([1.0, 0.5, 0.5, 1.0]),
        lambda x: x * torch.tensor(0.5, device="meta").tolist(),
    ],
    ids=["item", "if", "move", "made elsewhere", "list"],
)
def test_what_moves_or_waits_is_seen(offend: Callable[[Tensor], Tensor]):
    class Offends(DPMSolver):
        def step(self, schedule, denoise, state, t, s, rng):
            return State(offend(super().step(schedule, denoise, state, t, s, rng).x))

    with pytest.raises((AssertionError, RuntimeError, NotImplementedError)):
        run(Offends(), LinearBeta())
