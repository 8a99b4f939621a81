"""Where this process stands among those that do one piece of work together.

Processes are started by `genlab.runner.processes`, which speaks torchrun's words (RANK, WORLD_SIZE, MASTER_ADDR, ...),
by torchrun itself, on one node or many, or by SLURM's srun. Whoever it was, the work is the same from here on.
"""

import os
from dataclasses import dataclass

# What this program's own processes are told in the place of torchrun's name of a job.
OURS = "genlab"


@dataclass(frozen=True)
class Place:
    """One process of several.

    Arguments:
        rank, world: which of how many.
        local_rank: which of those on its node.
        by: who started it: genlab, torchrun or srun.
    """

    rank: int
    world: int
    local_rank: int
    by: str


def place() -> Place | None:
    """This process's place, as its environment says; None where it is alone."""
    here = os.environ
    if "TORCHELASTIC_RUN_ID" in here:
        by = OURS if here["TORCHELASTIC_RUN_ID"] == OURS else "torchrun"
        found = Place(int(here["RANK"]), int(here["WORLD_SIZE"]), int(here["LOCAL_RANK"]), by)
    elif "SLURM_STEP_ID" in here and "SLURM_PROCID" in here:
        count = int(here.get("SLURM_STEP_NUM_TASKS") or here.get("SLURM_NTASKS") or 1)
        found = Place(int(here["SLURM_PROCID"]), count, int(here.get("SLURM_LOCALID", 0)), "srun")
    else:
        return None
    return found if found.world > 1 else None


def leads() -> bool:
    """Whether this process is alone, or the first of several: the one that is heard, and that writes."""
    here = place()
    return here is None or here.rank == 0
