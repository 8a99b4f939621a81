"""Processes that do one piece of work stand and fall together, and leave the one that started them as it was."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from genlab.core.collectives import Vote, all_sum, barrier, world
from genlab.core.errors import UserError
from genlab.runner import processes
from genlab.runner.meeting import agreed, in_turn
from genlab.runner.place import leads, place


def disagree(folder: str) -> None:
    """One finds a mistake while the other waits for it."""

    def made_before() -> bool:
        found = Path(folder, "made").exists()
        Path(folder, "made").touch()
        return found

    assert in_turn(made_before) == (world()[0] == 1)
    vote = Vote()
    said = [vote.any(world()[0] == 1 and step == 1) for step in range(4)]
    assert said == [False, False, True, False]
    with pytest.raises(UserError, match="the first found it"):
        agreed(lambda: find_mistake() if world()[0] == 0 else None)
    if world()[0] == 1:
        raise UserError("the second found it")
    barrier()


def find_mistake() -> None:
    raise UserError("the first found it")


def kill_one() -> None:
    if world()[0] == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    all_sum(torch.ones(1))
    barrier()


def wait_for_ever(folder: str) -> None:
    Path(folder, f"begun_{world()[0]}").write_text("")
    time.sleep(600)


def test_a_mistake_that_one_process_finds_ends_all(tmp_path):
    begun = time.monotonic()
    with pytest.raises(UserError, match="the second found it"):
        processes.run(disagree, (str(tmp_path),), 2)
    assert time.monotonic() - begun < 300
    assert not dist.is_initialized()
    assert "RANK" not in os.environ


def test_a_process_that_is_killed_ends_all():
    with pytest.raises(UserError, match="process 1 of 2 was killed"):
        processes.run(kill_one, (), 2)


def test_a_stop_reaches_all(tmp_path):
    def stop() -> None:
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        processes.run(wait_for_ever, (str(tmp_path),), 2)


def test_srun_tells_a_process_its_place(monkeypatch):
    words = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_TASKS": "8"}
    for name, value in words.items():
        monkeypatch.setenv(name, value)
    here = place()
    assert here is not None
    assert (here.rank, here.world, here.local_rank, here.by) == (5, 8, 1, "srun")
    assert not leads()
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert place() is None
