"""A sweep runs every combination into a place of its own, and one bad job does not take the others with it."""

import json
from pathlib import Path

from program import TINY, Program, entries, files

FEW = (*TINY, "trainer.max_steps=1")


def test_training_sweeps_into_numbered_folders(program: Program, here: Path) -> None:
    ended = program("train", "-m", "model=ddpm", *FEW, "seed=0,1")
    assert ended.status == 0, ended.err
    (sweep,) = (here / "outputs").iterdir()
    assert {path.name for path in sweep.iterdir()} == {"0", "1", "multirun.yaml"}
    for number in (0, 1):
        assert (sweep / f"{number}" / "checkpoints" / "last.ckpt").exists()
        assert f"seed: {number}\n" in (sweep / f"{number}" / "config.yaml").read_text()
        (line,) = [line for line in ended.err.splitlines() if line.startswith(f"job {number}: ")]
        assert f"seed={number}" in line
        assert line.endswith(str(sweep / f"{number}"))
    assert ended.err.splitlines()[-1] == f"sweep: 2 of 2 jobs done, in outputs/{sweep.name}"


def test_a_bad_job_leaves_the_others_alone(program: Program, here: Path) -> None:
    ended = program("train", "-m", *FEW, "optim.lr=-1,0.1,null")
    assert ended.status == 2
    mistakes = [line for line in ended.err.splitlines() if line.startswith("genlab: ")]
    assert len(mistakes) == 2
    assert all("optim.lr" in line for line in mistakes)
    assert "Traceback" not in ended.err
    assert "sweep: 1 of 3 jobs done" in ended.err
    (sweep,) = (here / "outputs").iterdir()
    assert {path.name for path in sweep.iterdir()} == {"1", "multirun.yaml"}


def test_a_sweep_that_does_not_compose_leaves_nothing(program: Program, here: Path) -> None:
    for bad in ("seed=0,zero", "network.widht=3,4", "model=ddpm,dppm"):
        ended = program("train", "-m", *FEW, bad)
        assert ended.status == 2
        assert ended.err.count("\n") == 1, ended.err
    assert not entries(here)


def test_a_sweep_of_nothing_but_bad_jobs_leaves_nothing(program: Program, here: Path) -> None:
    assert program("train", "-m", *FEW, "seed=-1,-2").status == 2
    assert not entries(here)


def test_sampling_and_evaluation_sweep(program: Program, here: Path, trained: Path) -> None:
    before = files(trained)
    ended = program("sample", "-m", f"ckpt={trained}", "n=2", "sampler=ancestral,ddim", "sampler.steps=5,10")
    assert ended.status == 0, ended.err
    grids = [Path(line) for line in ended.out.splitlines()]
    assert len(set(grids)) == 4
    records = [json.loads((grid.parent / "samples.json").read_text()) for grid in grids]
    assert [(r["sampler"], r["nfe"]) for r in records] == [(s, k) for s in ("ancestral", "ddim") for k in (5, 10)]
    assert len({(grid.parent / "000000.png").read_bytes() for grid in grids}) == 4

    swept = ("sampler=ancestral,ddim", "sampler.steps=5,50", "metric=[nll]", "metric.data=4", "estimator.t=1,2")
    ended = program("eval", "-m", f"ckpt={trained}", *swept)
    assert ended.status == 0, ended.err
    assert ended.err.count("job ") == 8
    after = files(trained)
    assert all(after[name] == content for name, content in before.items())
    assert not entries(here)
    for grid in grids:
        for path in grid.parent.iterdir():
            path.unlink()
        grid.parent.rmdir()
    (trained / "evaluations.jsonl").unlink()
