"""Guidance from the command line: chosen, recorded, and refused in one line where it cannot be."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from program import TINY, Program, entries, files, in_process
from test_bad_input import assert_one_line

from genlab.runner.checkpoint import load_checkpoint

# Steps so long that labels make a difference after two of them.
LONG = ("optim.warmup_steps=0", "optim.lr=0.01", "trainer.max_steps=2")
LABELS = ("conditioner=label", "conditioner.dropout=0.1", *LONG)
CLASSIFIER = ("trainer=debug", "trainer.validate_every=0", "model=classifier", *LONG)
DIGITS = ("network=encoder_digits", "network.width=8", "schedule=cosine", "schedule.steps=20")
CLASSIFIERS = {
    "good": DIGITS,
    "other_noise": (*DIGITS, "schedule=linear", "schedule.steps=30"),
    "other_data": ("data=toy2d", "network=mlp_classes", "network.width=8", "schedule=cosine", "schedule.steps=20"),
}


@pytest.fixture(scope="module")
def dropping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny run with labels and without, guided in its previews and validation."""
    folder = tmp_path_factory.mktemp("dropping")
    words = (*LABELS, "guidance=classifier_free", "guidance.scale=4", "trainer.preview_every=2", "trainer.preview_n=4")
    assert in_process("train", *TINY, *words, "hydra.run.dir=run", cwd=folder) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of tiny runs of classifiers, by their names."""
    folder = tmp_path_factory.mktemp("classifiers")
    for name, words in CLASSIFIERS.items():
        assert in_process("train", *CLASSIFIER, *words, f"hydra.run.dir={name}", cwd=folder) == 0
    return folder


def record(folder: Path) -> dict[str, object]:
    return json.loads((folder / "samples.json").read_text())


def pictures(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in files(folder).items() if name.startswith("0")}


def test_what_training_chose_is_what_sampling_takes(program: Program, here: Path, dropping: Path) -> None:
    assert load_checkpoint(dropping).config["guidance"]["scale"] == 4
    asked = {
        "stored": (),
        "typed": ("guidance=classifier_free", "guidance.scale=4"),
        "changed": ("guidance.scale=1",),
        "off": ("guidance=null",),
        "none": ("guidance=none",),
    }
    for out, words in asked.items():
        assert program("sample", f"ckpt={dropping}", "n=4", "batch_size=3", f"out={out}", *words).status == 0
    assert pictures(here / "stored") == pictures(here / "typed") != pictures(here / "none")
    assert pictures(here / "changed") == pictures(here / "off") == pictures(here / "none")
    said = {name: record(here / name).get("guidance_scale") for name in asked}
    assert said == {"stored": 4, "typed": 4, "changed": 1, "off": None, "none": None}
    assert record(here / "stored")["guidance"] == "classifier_free"
    assert record(here / "stored")["network_batch"] == "x2"
    assert record(here / "changed")["network_batch"] == "x1"
    assert record(here / "stored")["nfe"] == record(here / "none")["nfe"] == 20


def test_a_label_may_be_named(program: Program, here: Path, dropping: Path) -> None:
    for out, words in {"threes": ("label=3",), "turns": ()}.items():
        assert program("sample", f"ckpt={dropping}", "n=4", "seed=1", f"out={out}", *words).status == 0
    threes, turns = pictures(here / "threes"), pictures(here / "turns")
    assert threes["000003.png"] == turns["000003.png"]
    assert threes["000001.png"] != turns["000001.png"]


def test_previews_are_guided(dropping: Path, program: Program, here: Path) -> None:
    words = (*LABELS, "trainer.preview_every=2", "trainer.preview_n=4", "hydra.run.dir=run")
    assert program("train", *TINY, *words).status == 0
    grids = [(run / "samples" / "step_0000002.png").read_bytes() for run in (dropping, here / "run")]
    assert grids[0] != grids[1]


def test_a_classifier_guides_a_model_that_knows_no_labels(
    program: Program, here: Path, trained: Path, classifiers: Path
) -> None:
    good = classifiers / "good"
    rows = [json.loads(line) for line in (good / "metrics.jsonl").read_text().splitlines()]
    assert all(0 <= row["train/accuracy"] <= 1 for row in rows)
    guided = ("guidance=classifier", f"guidance.ckpt={good}")
    for out, words in {
        "one": ("label=1", *guided, "guidance.scale=100"),
        "none": ("label=1", *guided, "guidance.scale=0"),
        "all": (*guided, "guidance.scale=100"),
        "free": (),
    }.items():
        assert program("sample", f"ckpt={trained}", "n=4", f"out={out}", *words).status == 0
    assert pictures(here / "none") == pictures(here / "free") != pictures(here / "one")
    assert pictures(here / "all")["000001.png"] == pictures(here / "one")["000001.png"]
    assert pictures(here / "all")["000002.png"] != pictures(here / "one")["000002.png"]
    said = record(here / "all")
    assert (said["guidance"], said["guidance_scale"]) == ("classifier", 100)
    assert said["guidance_ckpt"] == str(good / "checkpoints" / "last.ckpt")
    assert len(str(said["guidance_weights"])) == 12
    assert_one_line(program("sample", f"ckpt={trained}", "label=1"), "label=1: the model has no labels")


def test_a_run_remembers_where_its_classifier_is(program: Program, here: Path, classifiers: Path) -> None:
    (here / "a").symlink_to(classifiers)
    words = ("trainer.max_steps=1", "guidance=classifier", "guidance.ckpt=a/good", "hydra.run.dir=run")
    assert program("train", *TINY, *words).status == 0
    config = yaml.safe_load((here / "run" / "config.yaml").read_text())
    assert config["guidance"]["ckpt"] == str(here / "a" / "good")
    assert program("sample", "ckpt=run", "n=2", "out=out", "label=2").status == 0
    assert record(here / "out")["guidance"] == "classifier"


REFUSED = {
    "unlabelled": (("guidance=classifier_free",), "needs conditions", "conditioner=label conditioner.dropout=0.1"),
    "negative": (("guidance=classifier_free", "guidance.scale=-1"), "guidance.scale must be a number of at least 0"),
    "infinite": (("guidance=classifier_free", "guidance.scale=inf"), "guidance.scale must be a number of at least 0"),
    "no_number": (("guidance=classifier_free", "guidance.scale=big"), "guidance.scale: must be float, not big"),
    "misspelled": (("guidance=classifier_free", "guidance.sacle=1"), "guidance.sacle: ", "did you mean scale?"),
    "not_chosen": (("guidance.scale=2",), "guidance.scale: no guidance is chosen; write guidance=classifier_free"),
    "no_such": (("guidance=clasifier_free",), "there is no such guidance; did you mean classifier_free"),
    "number": (("guidance=3",), "guidance=3: there is no such guidance; there are classifier"),
    "no_ckpt": (("guidance=classifier",), "guidance.ckpt: name the run of a classifier"),
    "null_ckpt": (("guidance=classifier", "guidance.ckpt=null"), "guidance.ckpt: name the run of a classifier"),
    "missing": (("guidance=classifier", "guidance.ckpt=nothing"), "guidance.ckpt=nothing: there is no such file"),
    "empty": (("guidance=classifier", "guidance.ckpt="), "guidance.ckpt: name the run of a classifier"),
    "file": (
        ("guidance=classifier", "guidance.ckpt=file"),
        "file is not a checkpoint of genlab; nothing in it was run",
    ),
    "no_classifier": (("guidance=classifier", "guidance.ckpt=RUN"), "it holds a GaussianDiffusion", "model=classifier"),
    "other_noise": (("guidance=classifier", "guidance.ckpt=OTHERS/other_noise"), "noise of another schedule"),
    "other_data": (("guidance=classifier", "guidance.ckpt=OTHERS/other_data"), "of data of shape (2,)", "(1, 8, 8)"),
    "too_much": (("guidance=classifier_free", "guidance.ckpt=OTHERS/good"), "ClassifierFree takes no classifier"),
    "foreign": (("guidance._target_=os.system",), "os.system is refused and was not run"),
    "no_guidance": (
        ("guidance._target_=genlab.models.diffusion.weighting.Simple",),
        "guidance._target_: Simple is not a guidance",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_sampling(program: Program, here: Path, trained: Path, classifiers: Path, name: str) -> None:
    (here / "file").write_text("mine")
    words, *said = REFUSED[name]
    before, there = files(trained), entries(here)
    words = tuple(word.replace("RUN", str(trained)).replace("OTHERS", str(classifiers)) for word in words)
    assert_one_line(program("sample", f"ckpt={trained}", "n=2", *words), *said)
    assert files(trained) == before
    assert entries(here) == there


def test_a_model_trained_without_dropout(program: Program, here: Path, conditional: Path) -> None:
    ended = program("sample", f"ckpt={conditional}", "n=2", "guidance=classifier_free", "out=out")
    assert_one_line(ended, "guidance.scale=2.0: ", "conditioner.dropout=0;", "train with conditioner.dropout=0.1")
    assert not entries(here)
    same = ("guidance=classifier_free", "guidance.scale=1")
    for out, words in {"guided": same, "plain": ()}.items():
        assert program("sample", f"ckpt={conditional}", "n=2", f"out={out}", *words).status == 0
    assert pictures(here / "guided") == pictures(here / "plain")


def test_measuring(program: Program, here: Path, trained: Path) -> None:
    before = files(trained)
    ended = program("eval", f"ckpt={trained}", "metric=[fid]", "guidance=classifier_free")
    assert_one_line(ended, "guidance: it needs conditions and the model has none")
    assert files(trained) == before
    (here / "pictures").mkdir()
    ended = program("eval", "samples=pictures", "metric=[fid]", "guidance=classifier_free")
    assert_one_line(ended, "guidance: samples= names pictures that are drawn already")


TRAINING = {
    "unlabelled": (("guidance=classifier_free",), "needs conditions", "conditioner=label conditioner.dropout=0.1"),
    "no_dropout": (("guidance=classifier_free", "conditioner=label"), "trained with conditioner.dropout=0"),
    "not_chosen": (("guidance.scale=2",), "guidance.scale: no guidance is chosen"),
    "no_ckpt": (("guidance=classifier",), "guidance.ckpt: name the run of a classifier"),
    "missing": (("guidance=classifier", "guidance.ckpt=nothing"), "nothing: there is no such file or folder"),
    "other_noise": (("guidance=classifier", "guidance.ckpt=OTHERS/other_noise"), "noise of another schedule"),
    "of_a_classifier": (
        ("model=classifier", "network=encoder_digits", "guidance=classifier_free"),
        "Classifier has none",
    ),
}


@pytest.mark.parametrize("name", TRAINING)
def test_training(program: Program, here: Path, classifiers: Path, name: str) -> None:
    words, *said = TRAINING[name]
    words = tuple(word.replace("OTHERS", str(classifiers)) for word in words)
    assert_one_line(program("train", *TINY, *words), *said)
    assert not entries(here)


UNTRAINABLE = {
    ("network=unet_digits",): "a classifier of 10 classes needs one for each; choose network=encoder",
    ("network=mlp_classes",): "makes 10x8x8 numbers of a datum",
    ("data=toy2d",): "an encoder needs data of shape (channels, height, width), not (2,): try network=mlp_classes",
    ("data=toy2d", "data.name=swissroll"): "it needs labels, and the data have none",
    ("schedule=learned_beta",): "schedule: a classifier is given its noise",
    ("sampler=ddim",): "sampler: Classifier has no choice of sampler",
    ("estimator=vlb",): "estimator: Classifier has no choice of estimator",
    ("conditioner=label",): "conditioner=label: model=classifier never reads conditioner",
}


@pytest.mark.parametrize("words", UNTRAINABLE, ids=" ".join)
def test_classifiers_that_cannot_be_trained(program: Program, here: Path, words: tuple[str, ...]) -> None:
    assert_one_line(program("train", "model=classifier", "trainer=debug", *words), UNTRAINABLE[words])
    assert not entries(here)


def test_a_classifier_can_be_asked_for_nothing(program: Program, here: Path, classifiers: Path) -> None:
    good, before = classifiers / "good", files(classifiers)
    assert_one_line(program("sample", f"ckpt={good}", "n=2"), "Classifier cannot sample")
    assert_one_line(program("eval", f"ckpt={good}", "metric=nll"), "metric=nll: model=classifier cannot have it")
    assert_one_line(program("sample", f"ckpt={good}", "guidance=classifier_free"), "guidance: Classifier has none")
    assert files(classifiers) == before
    assert not entries(here)


def test_validation_counts_what_a_classifier_gets_right(program: Program, here: Path) -> None:
    words = (*CLASSIFIER, *DIGITS, "trainer.validate_every=2", "hydra.run.dir=run")
    assert program("train", *words).status == 0
    rows = [json.loads(line) for line in (here / "run" / "metrics.jsonl").read_text().splitlines()]
    (last,) = [row for row in rows if "val/loss" in row]
    assert 0 <= last["val/accuracy"] <= 1
    assert (here / "run" / "checkpoints" / "best.ckpt").exists()


def test_a_classifier_that_would_run_code_is_not_read(
    program: Program, here: Path, trained: Path, classifiers: Path
) -> None:
    raw = torch.load(classifiers / "good" / "checkpoints" / "last.ckpt", weights_only=True)
    config = yaml.safe_load(raw["genlab_config"])
    config["model"]["network"] = {"_target_": "os.system", "command": "touch ran"}
    torch.save({**raw, "genlab_config": yaml.safe_dump(config)}, here / "bad.ckpt")
    ended = program("sample", f"ckpt={trained}", "n=1", "guidance=classifier", "guidance.ckpt=bad.ckpt")
    assert_one_line(ended, "bad.ckpt is refused and nothing in it was run", "os.system")
    assert entries(here) == ["bad.ckpt"]
