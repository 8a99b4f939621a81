"""Where this process stands among those that do one piece of work together, and how they meet and part.

Processes are started by `genlab.runner.processes`, which speaks torchrun's words (RANK, WORLD_SIZE, MASTER_ADDR, ...),
by torchrun itself, on one node or many, or by SLURM's srun. Whoever it was, the work is the same from here on.
"""

import datetime
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

from genlab.core.collectives import barrier, of_first, world
from genlab.core.errors import UserError

T = TypeVar("T")

# Of the longest wait for another process: while the first downloads data, or trains the classifier of a metric.
PATIENCE = datetime.timedelta(hours=2)

_meetings = itertools.count()


@dataclass(frozen=True)
class Place:
    """One process of several.

    Arguments:
        rank, world: which of how many.
        local_rank: which of those on its node.
        by: who started it, as an error may say.
    """

    rank: int
    world: int
    local_rank: int
    by: str


def place() -> Place | None:
    """This process's place, as its environment says; None where it is alone."""
    here = os.environ
    if "TORCHELASTIC_RUN_ID" in here:
        found = Place(int(here["RANK"]), int(here["WORLD_SIZE"]), int(here["LOCAL_RANK"]), "torchrun")
    elif "SLURM_STEP_ID" in here and "SLURM_PROCID" in here:
        count = int(here.get("SLURM_STEP_NUM_TASKS") or here.get("SLURM_NTASKS") or 1)
        found = Place(int(here["SLURM_PROCID"]), count, int(here.get("SLURM_LOCALID", 0)), "srun")
    else:
        return None
    return found if found.world > 1 else None


@contextmanager
def joined() -> Iterator[None]:
    """The processes that were started together meet, and part when the block ends; only the first is heard.

    A process that is alone, or that has met the others before, is as it was.
    """
    here = place()
    if here is None or dist.is_initialized():
        yield
        return
    if here.by == "srun":
        # Sets MASTER_ADDR and MASTER_PORT, from the list of nodes and the number of the job.
        from lightning.fabric.plugins.environments import SLURMEnvironment

        slurm = SLURMEnvironment(auto_requeue=False)
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = slurm.main_address, str(slurm.main_port)
    store, rank, count = next(iter(dist.rendezvous("env://", here.rank, here.world, timeout=PATIENCE)))
    # The jobs of a sweep meet one after the other, each under a name of its own. Where there are GPUs, tensors on them
    # go by NCCL, and those on the CPU by gloo.
    store = dist.PrefixStore(f"genlab{next(_meetings)}", store)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=PATIENCE)
    with _unheard() if rank > 0 else nullcontext():
        yield
    # Not where the block failed: there the others wait for this process, and it must not wait for them.
    dist.destroy_process_group()


@contextmanager
def _unheard() -> Iterator[None]:
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def agreed(work: Callable[[], T]) -> T:
    """What the first process decides; a mistake of the user's that it finds is everyone's.

    Raises:
        UserError: in each process.
    """

    def attempt() -> tuple[T | None, UserError | None]:
        try:
            return work(), None
        except UserError as error:
            return None, error

    if world()[1] == 1:
        return work()
    made, error = of_first(attempt)
    if error is not None:
        raise error
    return made  # type: ignore[return-value]


def in_turn(work: Callable[[], T]) -> T:
    """What each process makes, the first of each node before the others, so that nothing is downloaded twice."""
    here = place()
    if here is None or world()[1] == 1:
        return work()
    if here.local_rank == 0:
        made = work()
        barrier()
        return made
    barrier()
    return work()
