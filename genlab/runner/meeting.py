"""How processes that were started together meet, agree, and part."""

import datetime
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from typing import TypeVar

import torch
import torch.distributed as dist

from genlab.core.collectives import barrier, of_first, world
from genlab.core.errors import UserError
from genlab.runner.place import OURS, Place, place

T = TypeVar("T")

# Of the longest wait for another process: while the first downloads data, or trains the classifier of a metric.
PATIENCE = datetime.timedelta(hours=2)

_meetings = itertools.count()


@contextmanager
def joined() -> Iterator[None]:
    """The processes that were started together meet, and part when the block ends; only the first is heard.

    A process that is alone, or that has met the others before, is as it was.

    Raises:
        SystemExit: of the user's mistake another process has told already.
    """
    here = place()
    if here is None or dist.is_initialized():
        yield
        return
    store = _meet(here)
    try:
        with _unheard() if here.rank > 0 else nullcontext():
            yield
    except UserError as error:
        # It is not waited for the others, which may be waiting for this process.
        if here.by != OURS and store.add("mistakes", 1) > 1:
            raise SystemExit(2) from error
        raise
    dist.destroy_process_group()


def _meet(here: Place) -> dist.Store:
    if here.by == "srun":
        # Knows the address of the first node from the list of nodes, and a port from the number of the job.
        from lightning.fabric.plugins.environments import SLURMEnvironment

        slurm = SLURMEnvironment(auto_requeue=False)
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = slurm.main_address, str(slurm.main_port)
    store, rank, count = next(iter(dist.rendezvous("env://", here.rank, here.world, timeout=PATIENCE)))
    # The jobs of a sweep meet one after the other, each under a name of its own. Where there are GPUs, tensors on them
    # go by NCCL, and those on the CPU by gloo.
    store = dist.PrefixStore(f"genlab{next(_meetings)}", store)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=PATIENCE)
    return store


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
