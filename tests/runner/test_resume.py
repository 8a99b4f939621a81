"""A run that was stopped, anywhere and in any way, ends as the run that never was; samples depend on nothing else."""

import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from program import TINY, Program, entries, files, in_process, started

# Everything that could be lost on the way: half a warm-up, half an epoch, gradients of micro-batches, masks of dropout.
SUBTLE = (
    *TINY,
    "conditioner=label",
    "conditioner.dropout=0.3",
    "network.dropout=0.3",
    "optim.lr=1e-3",
    "optim.warmup_steps=3",
    "trainer.accumulate=2",
    "trainer.batch_size=300",
    "network.multipliers=[1]",
    "network.attention=[]",
)
STATES = ("state_dict", "optimizer_states", "genlab_progress", "global_step", "genlab_config")


def last(run: Path) -> dict:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def same(a: object, b: object) -> bool:
    """Bit for bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def assert_same_end(run: Path, other: Path) -> None:
    for key in STATES:
        assert same(last(run)[key], last(other)[key]), key


def rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same_curves(run: Path, other: Path) -> None:
    curves = [[(row["step"], row["train/loss"], row["train/lr"]) for row in rows(r)] for r in (run, other)]
    assert curves[0] == curves[1]
    assert [step for step, *_ in curves[0]] == list(range(1, len(curves[0]) + 1))


def test_four_steps_are_two_and_two(program: Program, here: Path) -> None:
    assert program("train", *SUBTLE, "hydra.run.dir=whole").status == 0
    for part in ("trainer.max_steps=2", "trainer.max_steps=3", "trainer.max_steps=4"):
        first = not (here / "parts").exists()
        words = (*SUBTLE, "hydra.run.dir=parts") if first else ("resume=parts",)
        assert program("train", *words, part).status == 0
    assert last(here / "whole")["genlab_progress"] == {"micro_batches": 8}
    assert_same_end(here / "whole", here / "parts")
    assert_same_curves(here / "whole", here / "parts")
    assert {path.name for path in here.iterdir()} == {"whole", "parts"}


def test_seeds_make_runs(program: Program, here: Path) -> None:
    for run, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert program("train", *TINY, f"hydra.run.dir={run}", f"seed={seed}").status == 0
    assert_same_end(here / "a", here / "b")
    a, c = (last(here / run)["state_dict"] for run in "ac")
    assert not any(torch.equal(a[key], c[key]) for key in a if a[key].numel() > 100 and key.startswith("model."))


def test_watching_changes_nothing(program: Program, here: Path) -> None:
    """Nor does stopping between two looks."""
    watched = ("trainer.validate_every=1", "trainer.preview_every=2", "trainer.preview_n=4", "estimator.t=1")
    assert program("train", *TINY, "hydra.run.dir=plain").status == 0
    assert program("train", *TINY, *watched, "trainer.max_steps=3", "hydra.run.dir=watched").status == 0
    assert program("train", "resume=watched", "trainer.max_steps=4").status == 0
    for key in ("state_dict", "optimizer_states", "genlab_progress"):
        assert same(last(here / "plain")[key], last(here / "watched")[key]), key
    assert [row["step"] for row in rows(here / "watched") if "val/loss" in row] == [1, 2, 3, 4]
    assert [path.name for path in sorted((here / "watched" / "samples").iterdir())] == [
        "step_0000002.png",
        "step_0000004.png",
    ]


LONG = (*TINY, "trainer.max_steps=100000", "trainer.checkpoint_every=3", "hydra.run.dir=run")


def wait_for_step(run: Path, step: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 240
    while time.monotonic() < end and process.poll() is None:
        if (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text().count("\n") >= step:
            return
        time.sleep(0.05)
    raise AssertionError(process.communicate())


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str, str]:
    """A run that was interrupted, its exit status, and what it said."""
    folder = tmp_path_factory.mktemp("stopped")
    process = started("train", *LONG, cwd=folder)
    wait_for_step(folder / "run", 4, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    return folder / "run", process.returncode, out, err


def test_ctrl_c_finishes_the_step_and_says_how_to_go_on(stopped: tuple[Path, int, str, str]) -> None:
    run, status, out, err = stopped
    assert status == 130, err
    assert "Traceback" not in err
    step = last(run)["global_step"]
    assert step == rows(run)[-1]["step"] >= 4
    assert err.splitlines()[-1] == f"genlab: stopped at step {step}; go on with: genlab train resume={run}"
    assert not out


def test_what_was_stopped_goes_on_as_if_it_never_was(
    stopped: tuple[Path, int, str, str], program: Program, here: Path
) -> None:
    run = stopped[0]
    end = last(run)["global_step"] + 2
    assert program("train", f"resume={run}", f"trainer.max_steps={end}").status == 0
    whole = (*LONG[:-1], f"trainer.max_steps={end}", "hydra.run.dir=whole")
    assert program("train", *whole).status == 0
    assert_same_end(run, here / "whole")
    assert_same_curves(run, here / "whole")


def test_what_was_killed_goes_on_from_its_last_checkpoint(program: Program, here: Path) -> None:
    process = started("train", *LONG, cwd=here)
    wait_for_step(here / "run", 5, process)
    process.kill()
    process.communicate()
    step = last(here / "run")["global_step"]
    assert step % 3 == 0
    end = step + 5
    assert program("train", "resume=run/checkpoints/last.ckpt", f"trainer.max_steps={end}").status == 0
    assert program("train", *LONG[:-1], f"trainer.max_steps={end}", "hydra.run.dir=whole").status == 0
    assert_same_end(here / "run", here / "whole")
    assert_same_curves(here / "run", here / "whole")


def test_a_changed_option_holds_from_there_on(program: Program, here: Path) -> None:
    """Also those that a checkpoint's optimizer state remembers."""
    assert program("train", *TINY, "optim.warmup_steps=0", "trainer.max_steps=1", "hydra.run.dir=run").status == 0
    assert program("train", "resume=run", "optim.lr=0.125", "optim.ema_decay=0", "trainer.max_steps=2").status == 0
    assert [row["train/lr"] for row in rows(here / "run")] == [2e-4, 0.125]
    assert last(here / "run")["optimizer_states"][0]["param_groups"][0]["lr"] == 0.125
    assert "ema_decay: 0\n" in (here / "run" / "config.yaml").read_text()
    state = last(here / "run")["state_dict"]
    assert all(torch.equal(state[key], state[f"ema.{key[6:]}"]) for key in state if key.startswith("model."))


def test_a_checkpoint_alone_is_continued_in_a_new_folder(program: Program, here: Path, trained: Path) -> None:
    """What lies beside a file that someone sent is not written over."""
    (here / "sent").mkdir()
    (here / "sent" / "x.ckpt").write_bytes((trained / "checkpoints" / "last.ckpt").read_bytes())
    (here / "sent" / "config.yaml").write_text("mine")
    ended = program("train", "resume=sent/x.ckpt", "trainer.max_steps=5", "trainer.validate_every=0")
    assert ended.status == 0, ended.err
    assert entries(here / "sent") == ["config.yaml", "x.ckpt"]
    assert (here / "sent" / "config.yaml").read_text() == "mine"
    (run,) = (here / "outputs").iterdir()
    assert last(run)["global_step"] == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "the run has 4 steps already"),
        (("trainer.max_steps=3",), "the run has 4 steps already"),
        (("trainer.max_steps=5", "data=toy2d"), "data=toy2d: resume continues a run as it was"),
        (("trainer.max_steps=5", "model=ddpm"), "model=ddpm: resume"),
        (("trainer.max_steps=5", "network.width=32"), "network.width=32: resume"),
        (("trainer.max_steps=5", "seed=1"), "seed=1: resume"),
        (("trainer.max_steps=5", "optim=adamw"), "optim=adamw: resume"),
        (("trainer.max_steps=5", "optim.optimizer._target_=torch.optim.SGD"), "resume"),
        (("trainer.max_steps=5", "trainer.max_stepz=5"), "trainer.max_stepz: there is no such option; did you mean"),
        (("trainer.max_steps=5", "optim.lr=-1"), "optim.lr=-1: must be a number above 0"),
        (("trainer.max_steps=5", "data.root=x"), "data.root"),
        (("-m", "trainer.max_steps=5,6"), "one run is continued at a time"),
    ],
)
def test_what_cannot_be_continued_is_left_as_it_is(
    program: Program, here: Path, trained: Path, words: tuple[str, ...], said: str
) -> None:
    before = files(trained)
    ended = program("train", f"resume={trained}", *words)
    assert ended.status == 2
    assert ended.err.startswith("genlab: ")
    assert ended.err.count("\n") == 1, ended.err
    assert said in ended.err
    assert files(trained) == before
    assert not entries(here)


def test_another_architecture_is_refused(program: Program, here: Path, trained: Path) -> None:
    """Such as that of a checkpoint whose config and weights do not belong together."""
    raw = last(trained)
    raw["genlab_config"] = raw["genlab_config"].replace("width: 16", "width: 24")
    (here / "run" / "checkpoints").mkdir(parents=True)
    torch.save(raw, here / "run" / "checkpoints" / "last.ckpt")
    before = files(here)
    ended = program("train", "resume=run", "trainer.max_steps=5")
    assert ended.status == 2
    assert "run/checkpoints/last.ckpt was trained with another architecture: " in ended.err
    assert "is (64, 16) in the checkpoint and (96, 24) in the model" in ended.err
    assert ended.err.count("\n") == 1
    assert files(here) == before


def pixels(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(path)).astype(int) for path in sorted(folder.glob("0*.png"))]


@pytest.fixture(scope="module")
def sixteen(conditional: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sixteen")
    words = (f"ckpt={conditional}", "n=16", "batch_size=16", "out=samples")
    assert in_process("sample", *words, cwd=folder) == 0
    return folder / "samples"


@pytest.mark.parametrize("words", [("n=16", "batch_size=5"), ("n=8", "batch_size=64"), ("n=8", "batch_size=1")])
def test_a_sample_depends_on_its_number_alone(
    program: Program, here: Path, conditional: Path, sixteen: Path, words: tuple[str, ...]
) -> None:
    assert program("sample", f"ckpt={conditional}", "out=other", *words).status == 0
    these, those = pixels(here / "other"), pixels(sixteen)
    assert len(these) in (8, 16)
    assert max(np.abs(x - y).max() for x, y in zip(these, those[: len(these)], strict=True)) <= 1


def test_other_seeds_give_other_samples(program: Program, here: Path, conditional: Path, sixteen: Path) -> None:
    for out, seed in (("a", 1), ("b", 1)):
        assert program("sample", f"ckpt={conditional}", "n=4", f"seed={seed}", f"out={out}").status == 0
    names = [f"{i:06d}.png" for i in range(4)]
    assert all((here / "a" / x).read_bytes() == (here / "b" / x).read_bytes() for x in names)
    assert not any(np.array_equal(x, y) for x, y in zip(pixels(here / "a"), pixels(sixteen)[:4], strict=True))


def test_sampling_goes_on_where_it_was_stopped(program: Program, here: Path, conditional: Path) -> None:
    """Ctrl-C while samples are drawn one by one; what is there already is not drawn again."""
    command = (f"ckpt={conditional}", "n=400", "batch_size=1", "out=samples", "sampler.steps=2")
    process = started("sample", *command, cwd=here)
    end = time.monotonic() + 120
    while len(list((here / "samples").glob("0*.png"))) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.count("\n") == 1, err
    assert err.startswith("genlab: stopped: ")
    assert err.endswith(" of 400 samples are in samples; the same command goes on\n")
    assert not out
    there = {path: path.stat().st_mtime_ns for path in (here / "samples").glob("0*.png")}
    assert 3 <= len(there) < 400
    assert not json.loads((here / "samples" / "samples.json").read_text())["complete"]

    command = (*command[:2], "batch_size=64", *command[3:])
    ended = program("sample", *command)
    assert ended.status == 0, ended.err
    assert f"{len(there)} samples are there already" in ended.err
    assert all(path.stat().st_mtime_ns == when for path, when in there.items())
    assert len(list((here / "samples").glob("0*.png"))) == 400
    record = json.loads((here / "samples" / "samples.json").read_text())
    assert record["complete"]
    assert program("sample", *command, "out=whole").status == 0
    assert max(np.abs(x - y).max() for x, y in zip(pixels(here / "samples"), pixels(here / "whole"), strict=True)) <= 1
