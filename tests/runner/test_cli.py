"""The command line answers, and one command leads to the next, from any folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from program import TINY, Program, entries, environment, started
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import genlab
from genlab.cli import COMMANDS, LISTS, main
from genlab.runner.configs import choices


def test_help_and_lists_need_neither_torch_nor_hydra(tmp_path: Path) -> None:
    questions = [["-h"], [], ["--version"], *([command, "-h"] for command in COMMANDS), *(["list", x] for x in LISTS)]
    code = f"""
import sys
from genlab.cli import main
assert [main(words) for words in {questions!r}] == [0] * {len(questions)}
assert not {{"torch", "hydra", "omegaconf", "lightning"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert not entries(tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_each_choice_and_option_is(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "-h"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Usage: genlab ")
    expected = {"train": ["ddpm", "digits", "seed: 0"], "sample": ["ddim", "n: null"], "eval": ["fid", "ckpt: null"]}
    expected["compare"] = ["RUN", "out: null", "metric: fid"]
    assert all(word in said for word in expected.get(command, LISTS))


@pytest.mark.parametrize("name", LISTS)
def test_lists_have_a_line_on_each_choice(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    there = choices(LISTS[name])
    assert [line.split(maxsplit=1)[0] for line in lines] == list(there)
    assert all(len(line.split(maxsplit=1)) == 2 and "@package" not in line for line in lines)


def test_lists_show_the_users_own(program: Program, here: Path) -> None:
    (here / "own" / "schedule").mkdir(parents=True)
    (here / "own" / "schedule" / "steep.yaml").write_text("# Falls steeply\n_target_: somewhere.Steep\n")
    lines = program("list", "schedules", "--config-dir", "own").out.splitlines()
    assert ["steep", "Falls", "steeply"] in [line.split() for line in lines]
    assert "steep" in program("list", "--config-dir=own", "schedules").out


def test_train_sample_and_eval_from_a_foreign_folder(tmp_path: Path) -> None:
    """Nothing that training knew is typed again, and the newest run is the one that is meant."""

    def done(*words: str) -> tuple[str, str]:
        process = started(*words, cwd=tmp_path)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        return out, err

    out, err = done("train", "model=ddpm", *TINY)
    (run,) = (tmp_path / "outputs").iterdir()
    assert "training ddpm on digits" in err
    assert str(run / "checkpoints" / "last.ckpt") in out

    out, err = done("sample", "n=5")
    assert f"outputs/{run.name}" in err
    grid = tmp_path / out.strip()
    assert Image.open(grid).size[0] > 100
    record = json.loads((grid.parent / "samples.json").read_text())
    assert record["step"] == 4
    assert record["nfe"] == 20
    assert record["weights"] == "ema"
    assert len(list(grid.parent.glob("0*.png"))) == 5

    out, err = done("eval", f"ckpt={run}", "metric=[nll]", "metric.data=4", "estimator.t=2")
    assert "bits/dim" in out
    assert "upper bound" in out
    assert (run / "evaluations.jsonl").read_text().count("\n") >= 1


def test_one_process_can_run_many_commands(program: Program, trained: Path) -> None:
    before = list(sys.argv), dict(os.environ)
    for n in (1, 2):
        assert program("sample", f"ckpt={trained}", f"n={n}", f"out=samples{n}").status == 0
        assert program("sample", f"ckpt={trained}", "n=0").status == 2
    assert (list(sys.argv), dict(os.environ)) == before


@pytest.mark.parametrize("quotes", ["", "'", '"'])
def test_checkpoints_may_lie_anywhere(program: Program, here: Path, trained: Path, quotes: str) -> None:
    place = here / "a b=c,[1] (x) {y} $z #1"
    (place / "checkpoints").mkdir(parents=True)
    (place / "checkpoints" / "last.ckpt").write_bytes((trained / "checkpoints" / "last.ckpt").read_bytes())
    for number, name in enumerate((place.name, f"{place}/checkpoints/last.ckpt")):
        ended = program("sample", f"ckpt={quotes}{name}{quotes}", "n=1", "sampler.steps=1", f"out='out {number}'")
        assert ended.status == 0, ended.err
        assert (here / f"out {number}" / "000000.png").exists()


def test_flags_may_stand_anywhere(program: Program, here: Path, trained: Path) -> None:
    assert program("sample", f"ckpt={trained}", "-m", "n=1", "out=one", "sampler.steps=1").status == 0
    assert (here / "one" / "000000.png").exists()
    assert not (here / "multirun.yaml").exists()


def test_config_is_shown_before_anything_is_run(program: Program, here: Path) -> None:
    ended = program("train", "--cfg", "job", "network.width=24", "trainer.max_steps=7")
    assert ended.status == 0
    assert "width: 24" in ended.out
    assert "max_steps: 7" in ended.out
    assert not entries(here)


def test_run_folder_is_complete(trained: Path) -> None:
    assert {"config.yaml", "metrics.jsonl", "checkpoints", "tensorboard", "samples"} == set(os.listdir(trained))
    assert {path.name for path in (trained / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}
    assert "${" not in (trained / "config.yaml").read_text()
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    losses = [row["step"] for row in rows if "train/loss" in row]
    assert losses == [1, 2, 3, 4]
    assert [row["step"] for row in rows if "val/nll/bits-per-dim" in row] == [2, 4]
    assert {"train/lr", "train/gradient_norm", "train/images_per_second"} <= set(rows[0])


def test_tensorboard_has_curves_and_sample_grids(trained: Path) -> None:
    events = EventAccumulator(str(trained / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    assert {"train/loss", "val/loss", "val/nll/nats"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4]
    assert [event.step for event in events.Images("samples")] == [2, 4]
    assert events.Images("samples")[0].encoded_image_string == (trained / "samples" / "step_0000002.png").read_bytes()


def test_load_gives_a_notebook_the_model(here: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = genlab.load(trained)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    monkeypatch.chdir(trained.parents[1])
    assert torch.equal(next(genlab.load().parameters()), next(model.parameters()))
