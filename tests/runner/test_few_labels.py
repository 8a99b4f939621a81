"""Semi-supervised training from the command line: measured while it lasts and after, refused in one line."""

import json
from pathlib import Path

import pytest
import torch
from program import Program, in_process
from test_bad_input import assert_one_line

from genlab.data.digits import Digits
from genlab.runner.checkpoint import load_checkpoint
from genlab.runner.load import load

TINY = (
    *("model=ssgan", "data=digits_few_labels", "critic.hidden=[16,16]", "generator.hidden=[16]", "optim.lr=3e-3"),
    *("trainer=debug", "trainer.batch_size=50", "trainer.max_steps=40", "trainer.preview_every=0"),
    *("trainer.validate=[error_rate]", "trainer.validate_every=20", "trainer.validate_data=180"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few_labels")
    assert in_process("train", *TINY, "hydra.run.dir=run", cwd=folder) == 0
    return folder / "run"


def measured(run: Path) -> dict:
    return json.loads((run / "evaluations.jsonl").read_text().splitlines()[-1])


def test_the_error_falls_while_training_and_is_measured_after(program: Program, run: Path) -> None:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    errors = [row["val/error_rate"] for row in rows if "val/error_rate" in row]
    assert len(errors) == 2
    assert errors[-1] < 60
    assert program("eval", f"ckpt={run}", "metric=error_rate").status == 0
    row, batch = measured(run), Digits().split("test").batch(torch.arange(360))
    with torch.no_grad():
        wrong = load(str(run)).classify(batch).argmax(1) != batch["label"]
    assert row["value"] == pytest.approx(100 * float(wrong.double().mean()))
    assert (row["how"]["wrong"], row["how"]["n"]) == (int(wrong.sum()), 360)
    assert row["how"]["data"] == "digits-50_labels_drawn_by_0 test"


def test_the_answer_does_not_depend_on_the_batch_or_on_how_labels_were_lost(program: Program, run: Path) -> None:
    values = []
    for more in ((), ("batch_size=7",), ("data=digits",)):
        assert program("eval", f"ckpt={run}", "metric=error_rate", *more).status == 0
        values.append(measured(run)["value"])
    assert len(set(values)) == 1


def test_a_classifier_of_noisy_data_is_asked_without_noise(program: Program, here: Path) -> None:
    words = ("model=classifier", "network=encoder_digits", "network.width=8", "schedule.steps=30", "trainer=debug")
    assert program("train", *words, "trainer.validate=[error_rate]", "hydra.run.dir=run").status == 0
    assert program("eval", "ckpt=run", "metric=error_rate", "metric.split=validation").status == 0
    batch = Digits().split("validation").batch(torch.arange(180))
    model = load("run")
    with torch.no_grad():
        answer = model.classify(batch)
        at_0 = model.log_prob(batch["x"], torch.zeros(180, dtype=torch.float64))
    torch.testing.assert_close(answer, at_0)
    assert measured(here / "run")["value"] == pytest.approx(
        100 * float((answer.argmax(1) != batch["label"]).double().mean())
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("data.labelled=1500",), ("data.labelled=1500", "most is")),
        (("data.labelled=51",), ("data.labelled=51", "multiple of 10")),
        (("data=digits",), ("few labels",)),
        (("conditioner=label",), ("needs labels",)),
        (("data.of._target_=genlab.data.toy2d.Toy2D", "+data.of.name=swissroll"), ("data.of", "has no labels")),
    ],
    ids=["too many", "unequal", "all labelled", "told", "unlabelled"],
)
def test_bad_input_is_a_line(program: Program, words: tuple[str, ...], said: tuple[str, ...]) -> None:
    assert_one_line(program("train", *TINY, *words, "hydra.run.dir=bad"), *said)


def test_models_that_do_not_classify_say_which_do(program: Program, trained: Path) -> None:
    ended = program("eval", f"ckpt={trained}", "metric=error_rate")
    assert_one_line(ended, "metric=error_rate: model=ddpm cannot have it", "classifier, ssgan")
    words = ("trainer=debug", "network.width=8", "trainer.validate=[error_rate]", "trainer.validate_every=1")
    ended = program("train", *words)
    assert ended.status == 2
    assert "trainer.validate: error_rate is of classes, and this model has none" in ended.err.splitlines()[-1]


def test_a_run_that_goes_on_is_the_run_that_never_stopped(program: Program, run: Path) -> None:
    few = ("trainer.max_steps=7", "trainer.checkpoint_every=7", "hydra.run.dir=half")
    assert program("train", *TINY, *few).status == 0
    assert program("train", "resume=half", "trainer.max_steps=40").status == 0
    whole, half = (load_checkpoint(path).state for path in (run, Path("half")))
    assert whole.keys() == half.keys()
    assert all(whole[key].equal(half[key]) for key in whole)


def test_samples_are_drawn_and_have_codes(program: Program, here: Path, run: Path) -> None:
    assert program("sample", f"ckpt={run}", "n=4", "format=npz", "out=drawn").status == 0
    assert any((here / "drawn").iterdir())
    between = ("task=interpolate", "task.samples=[0,1]", "n=1", "out=between")
    ended = program("sample", f"ckpt={run}", *between)
    assert ended.status == 0, ended.err
    assert_one_line(program("sample", f"ckpt={run}", "label=3", "out=told"), "label")
