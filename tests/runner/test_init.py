"""A new run that starts from the weights of another, from the command line."""

from pathlib import Path

import torch
from program import TINY, Program

import genlab


def test_a_run_starts_from_the_average_of_another_and_may_have_another_objective(program: Program, here: Path) -> None:
    assert program("train", *TINY, "hydra.run.dir=first").status == 0
    words = ("init=first", "optim.lr=1e-30", "weighting=v", "trainer.max_steps=1", "hydra.run.dir=second")
    ended = program("train", *TINY, *words)
    assert ended.status == 0, ended.err
    first, second = genlab.load("first").state_dict(), genlab.load("second", weights="raw").state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert str(here / "first" / "checkpoints") in (here / "second" / "config.yaml").read_text()


def test_what_cannot_be_started_from_is_said_in_a_line(program: Program) -> None:
    assert program("train", *TINY, "hydra.run.dir=first").status == 0
    other = program("train", *TINY, "network.width=8", "init=first", "hydra.run.dir=second")
    assert other.status == 2
    assert "was trained with another architecture: " in other.err.splitlines()[-1]
    absent = program("train", *TINY, "init=absent", "hydra.run.dir=second")
    assert absent.status == 2
    assert absent.err.splitlines()[-1].startswith("genlab: init=absent: there is no such file or folder")
