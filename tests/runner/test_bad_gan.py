"""What cannot be done with adversarial networks is said in one line, and a game that diverges leaves what was good."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from program import Ended, Program, entries, in_process

from genlab.runner.checkpoint import load_checkpoint

QUICK = ("trainer=debug", "trainer.preview_every=0", "trainer.validate_every=0")
SMALL = ("model=gan", "generator.hidden=[8]", "critic.hidden=[8]", "noise.size=4", *QUICK)


def assert_one_line(ended: Ended, *said: str) -> None:
    assert ended.status == 2, ended
    line = ended.err.splitlines()[-1]
    assert line.startswith("genlab: ")
    assert "Traceback" not in ended.err
    assert all(part in line for part in said), line


@pytest.fixture(scope="module")
def gan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny run without labels."""
    folder = tmp_path_factory.mktemp("gan")
    assert in_process("train", *SMALL, "hydra.run.dir=run", cwd=folder) == 0
    return folder / "run"


TRAINING = {
    "a batch of one, compared": (("critic.minibatch=4", "trainer.batch_size=1"), "trainer.batch_size=1: ", "2 or more"),
    "a batch of one, normalised": (("generator.norm=batch", "trainer.batch_size=1"), "trainer.batch_size=1: "),
    "a batch of one, of maps": (("model=dcgan", "trainer.batch_size=1"), "trainer.batch_size=1: ", "2 or more"),
    "labels": (
        ("data=toy2d", "data.name=swissroll", "conditioner=label"),
        "it needs labels, and the data have none; choose conditioner=none or labelled data",
    ),
    "no images": (("model=dcgan", "data=toy2d"), "generator: is for images", "take generator=mlp"),
    "pixels": (("model=stylegan2", "data=mnist"), "generator: cannot make 28x28 pixels", "data.pad=32"),
    "two penalties": (
        ("model=wgan", "penalty=[clipping,gradient_penalty]"),
        "penalty=[clipping,gradient_penalty]: one penalty is chosen and not several",
    ),
    "a limit of slopes": (("penalty=gradient_penalty", "+penalty.limit=0.01"), "has no such option; it has weight"),
    "no player": (("optim.players.critik.lr=4e-4",), "optim.players.critik: there is no such player", "critic, gener"),
    "no option of a player": (("optim.players.critic.rate=4e-4",), "optim.players.critic.rate: Adam has no such"),
    "a rate": (("optim.players.critic.lr=-1",), "optim.players.critic: Invalid learning rate"),
    "a player is no number": (("optim.players.critic=3",), "optim.players: must name options by player"),
    "both at once, of five": (("model.updates=simultaneous", "model.critic_steps=5"), "needs critic_steps=1"),
    "no steps": (("model.critic_steps=0",), "model.critic_steps=0 must be at least 1"),
    "styles": (("sampler=truncation",), "sampler=truncation: GAN has no styles"),
}


@pytest.mark.parametrize("case", TRAINING)
def test_training(program: Program, here: Path, case: str) -> None:
    words, *said = TRAINING[case]
    other = any(word.startswith("model=") for word in words)
    assert_one_line(program("train", *(QUICK if other else SMALL), *words), *said)
    assert not [name for name in entries(here) if name.endswith((".ckpt", "config.yaml"))]


def test_pixels_that_no_network_can_make(program: Program, here: Path) -> None:
    (here / "odd").mkdir()
    for number in range(20):
        pixels = np.full((9, 9, 3), number, dtype=np.uint8)
        Image.fromarray(pixels).save(here / "odd" / f"{number}.png")
    words = ("model=dcgan", "data=image_folder", "data.root=odd", "data.size=9", *QUICK)
    assert_one_line(program("train", *words), "generator: cannot make 9x9 pixels, which must be even and at least 8")


SAMPLING = {
    "label=3": "label=3: the model has no labels; train one by conditioner=label",
    "sampler=truncation": "sampler=truncation: GAN has no styles to bring to their mean",
    "sampler=ddim": "sampler: GAN takes Truncation or null",
    "task=reconstruct": "GAN has codes of its samples and not of data; give task.samples=[0,5]",
    "task=interpolate": "GAN has codes of its samples and not of data; give task.samples=[0,5]",
    "task=traverse": "task=traverse: GAN cannot encode",
    "gif=true": "gif=true: the model makes data at once",
}


@pytest.mark.parametrize("word", SAMPLING)
def test_sampling(program: Program, here: Path, gan: Path, word: str) -> None:
    assert_one_line(program("sample", f"ckpt={gan}", word, "n=2", "out=out"), SAMPLING[word])


PROJECTING = {
    "task.steps=0": "task.steps=0 must be at least 1",
    "task.lr=0": "task.lr=0 must be a number above 0",
    "task.restarts=0": "task.restarts=0 must be at least 1",
    "task.distance=far": "task.distance: must be one of pixel, perceptual, not far",
    "task.distance=perceptual": "perceptual.network: ",
    "sampler=truncation": "sampler: task=project draws no samples",
}


@pytest.mark.parametrize("word", PROJECTING)
def test_projecting(program: Program, here: Path, gan: Path, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    assert_one_line(program("sample", f"ckpt={gan}", "task=project", "task.lr=0.1", "n=2", word), PROJECTING[word])
    assert not entries(here)


def unreachable(*_: object, **__: object) -> None:
    raise OSError("no network")


def test_there_is_no_likelihood(program: Program, gan: Path) -> None:
    ended = program("eval", f"ckpt={gan}", "metric=nll")
    assert_one_line(ended, "metric=nll: model=gan cannot have it; models that can: ", "ddpm")
    assert "dcgan" not in ended.err


def test_a_player_has_options_of_its_own(program: Program, here: Path) -> None:
    """Two time scales; and another rate where the run goes on."""
    own = ("optim.lr=1e-4", "optim.players.critic.lr=4e-4")
    assert program("train", *SMALL, *own, "trainer.max_steps=2", "hydra.run.dir=run").status == 0
    assert rates(here / "run") == [4e-4, 1e-4]
    resumed = program("train", "resume=run", "optim.players.generator.lr=2e-4", "trainer.max_steps=4")
    assert resumed.status == 0, resumed.err
    assert rates(here / "run") == [4e-4, 2e-4]


def rates(run: Path) -> list[float]:
    """Of each player's optimizer, in their order of turns."""
    states = load_checkpoint(run).raw["optimizer_states"]
    return [state["param_groups"][0]["lr"] for state in states]


def test_a_loss_that_diverges_names_the_last_good_checkpoint(program: Program, here: Path) -> None:
    assert program("train", *SMALL, "trainer.max_steps=2", "hydra.run.dir=run").status == 0
    last = here / "run" / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    ended = program("train", "resume=run", "trainer.max_steps=9", "optim.players.critic.lr=1e30")
    assert_one_line(ended, "the loss is not a finite number at step", "the last good checkpoint is", str(last))
    assert last.read_bytes() == before


def test_weights_that_diverge_are_seen_where_the_loss_does_not_show_them(program: Program, here: Path) -> None:
    """Those that the last step leaves."""
    words = ("optim.players.generator.lr=1e39", "trainer.max_steps=1", "trainer.log_every=0", "hydra.run.dir=run")
    ended = program("train", *SMALL, *words)
    assert_one_line(ended, "weights are not finite numbers after step 1, and the run stops: no checkpoint was written")
    assert not list(here.rglob("*.ckpt"))


def rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_the_best_of_a_game_is_by_what_is_measured(
    program: Program, here: Path, seen_little: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENLAB_CACHE", str(seen_little))
    watched = ("trainer.validate_every=2", "trainer.max_steps=6")
    assert program("train", *SMALL, *watched, "hydra.run.dir=unmeasured").status == 0
    assert not (here / "unmeasured" / "checkpoints" / "best.ckpt").exists()
    assert not any(name.startswith("val/") for row in rows(here / "unmeasured") for name in row)

    measured = (*watched, "trainer.validate=[nll,is,fid]", "trainer.validate_data=140", "optim.lr=0.02")
    ended = program("train", *SMALL, *measured, "hydra.run.dir=run")
    assert ended.status == 0, ended.err
    scores = {row["step"]: score for row in rows(here / "run") for name, score in row.items() if name[:6] == "val/is"}
    assert len(scores) == 3
    assert not any(name == "val/loss" for row in rows(here / "run") for name in row)
    assert load_checkpoint(here / "run" / "checkpoints" / "best.ckpt").step == max(
        scores, key=lambda step: scores[step]
    )
