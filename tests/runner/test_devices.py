"""Several processes make of a run what one would, and stand and fall together."""

import copy
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning import Trainer
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from genlab.cli import main
from genlab.core.collectives import world
from genlab.core.errors import Interrupted, UserError
from genlab.core.spec import Field
from genlab.models.contract import Model, Player
from genlab.networks.transformer import DiT
from genlab.networks.unet import UNet
from genlab.runner import processes
from genlab.runner.checkpoint import load_model
from genlab.runner.devices import count_devices, processes_asked, processes_of
from genlab.runner.fit import fit
from genlab.runner.lightning_module import Training
from genlab.runner.sharding import layers
from genlab.runner.strategy import environment, strategy_of
from genlab.runner.train import Plan

ROOT = Path(__file__).parents[2]
TINY = ("data=toy2d", "network.width=16", "network.layers=2", "optim.warmup_steps=2", "trainer.log_every=1")
QUIET = ("trainer.validate_every=0", "trainer.preview_every=0", "trainer.progress=false")
TWO = {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "batch_size": 4}


def genlab(*words: str, launcher: tuple[str, ...] = (sys.executable,), cwd: Path) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*launcher, "-m", "genlab", *words], cwd=cwd, env=env, capture_output=True, text=True, timeout=600
    )


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> dict:
    """That of a run of four steps."""
    run = tmp_path_factory.mktemp("devices") / "run"
    assert main(["train", *TINY, *QUIET, "trainer.max_steps=1", f"hydra.run.dir={run}"]) == 0
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["trainer"] |= {"batch_size": 8, "max_steps": 4}
    config["estimator"]["t"] = 4
    return config


def changed(config: dict, **trainer) -> dict:
    return {**config, "trainer": {**config["trainer"], **trainer}}


class TwoPlayers(Model):
    """Each player's loss passes through the weights of both."""

    counts = "generator"

    def __init__(self) -> None:
        super().__init__({"x": Field((2,))})
        self.generator, self.critic = nn.Linear(2, 2), nn.Linear(2, 1)

    def players(self) -> dict[str, Player]:
        return {
            "critic": Player(list(self.critic.parameters()), repeats=2),
            "generator": Player(list(self.generator.parameters())),
        }

    def loss(self, batch, rng, player, step):
        made = self.generator(rng.stage("z").normal(2, dtype=batch["x"].dtype))
        apart = self.critic(made).tanh().mean() - self.critic(batch["x"]).tanh().mean()
        return {"loss": apart if player == "critic" else -self.critic(made).tanh().mean()}


class Rows(torch.utils.data.Dataset):
    """Micro-batches of this process, cut from the same global ones."""

    def __init__(self, rank: int, processes: int) -> None:
        self.rank, self.processes = rank, processes

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        whole = torch.randn(8, 2, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
        return {"x": whole.chunk(self.processes)[self.rank]}


def two_players() -> dict[str, torch.Tensor]:
    """The weights after two rounds."""
    torch.manual_seed(0)
    model = TwoPlayers()
    optimizers = dict.fromkeys(model.players(), lambda parameters: torch.optim.SGD(parameters, 0.1))
    module = Training(model, optimizers, 0, 1, 0, None, 0.5, "", "")
    rank, count = world()
    trainer = Trainer(
        accelerator="cpu",
        devices=count,
        strategy=strategy_of({"strategy": "auto"}, count, model),
        precision="64-true",
        max_steps=2,
        plugins=[environment()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, DataLoader(Rows(rank, count), batch_size=None))
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def together(plans: dict[str, Plan], folder: Path) -> None:
    """All that is tried in two processes, one thing after the other."""
    for name in ("ddp", "ddp_accumulated", "fsdp", "ddp_watched", "fsdp_watched"):
        fit(plans[name])
    fit(replace(plans["fsdp_resumed"], checkpoint=plans["ddp"].run / "checkpoints" / "last.ckpt"))
    players = two_players()
    if world()[0] == 0:
        torch.save(players, folder / "players.pt")
    # One process alone is asked to stop, in the middle of things.
    if world()[0] == 1:
        log = plans["stopped"].run / "metrics.jsonl"
        threading.Thread(target=ask_to_stop, args=(log,), daemon=True).start()
    try:
        fit(plans["stopped"])
    except Interrupted as error:
        (folder / f"stopped_{world()[0]}").write_text(str(error))


def ask_to_stop(log: Path) -> None:
    while not log.exists() or len(log.read_text().splitlines()) < 5:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def runs(config, tmp_path_factory) -> Path:
    """The same runs by one process with a batch of 8, and by two with batches of 4."""
    folder = tmp_path_factory.mktemp("runs")
    # What two processes sum in another order than one is told from what they do wrong by double precision.
    exact = {"precision": "64-true"}
    watched = {"validate_every": 2, "validate_data": 7, "preview_every": 2, "preview_steps": 3, "preview_n": 9}
    fsdp = {**TWO, "strategy": "fsdp"}

    def plan(name: str, **trainer) -> Plan:
        return Plan(changed(config, **trainer), folder / name, None)

    plans = {
        "ddp": plan("ddp", **exact, **TWO),
        "ddp_accumulated": plan("ddp_accumulated", **exact, **TWO, accumulate=2),
        "fsdp": plan("fsdp", **exact, **fsdp),
        "fsdp_resumed": plan("fsdp_resumed", **exact, **fsdp, max_steps=6),
        "ddp_watched": plan("ddp_watched", **TWO, **watched),
        "fsdp_watched": plan("fsdp_watched", **fsdp, **watched),
        "stopped": plan("stopped", **TWO, max_steps=10**6),
    }
    fit(plan("one", **exact))
    fit(plan("one_accumulated", **exact, accumulate=2))
    fit(plan("one_watched", **watched))
    last = folder / "one" / "checkpoints" / "last.ckpt"
    fit(replace(plan("one_resumed", **exact, max_steps=6), checkpoint=last))
    torch.save(two_players(), folder / "players_alone.pt")
    processes.run(together, (plans, folder), 2)
    return folder


def checkpoint(run: Path) -> dict:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


PAIRS = [
    ("one", "ddp"),
    ("one", "fsdp"),
    ("one_accumulated", "ddp_accumulated"),
    ("one_resumed", "fsdp_resumed"),
]


@pytest.mark.parametrize(("one", "two"), PAIRS, ids=[two for _, two in PAIRS])
def test_two_processes_train_as_one_with_the_doubled_batch(runs, one, two):
    """Weights, their average and the optimizer's state, in one file of whole tensors under the same names."""
    one, two = checkpoint(runs / one), checkpoint(runs / two)
    assert one["global_step"] == two["global_step"]
    assert list(one["state_dict"]) == list(two["state_dict"])
    assert type(next(iter(two["state_dict"].values()))) is torch.Tensor
    torch.testing.assert_close(two["state_dict"], one["state_dict"], rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(two["optimizer_states"], one["optimizer_states"], strict=True):
        assert ours["param_groups"] == theirs["param_groups"]
        torch.testing.assert_close(ours["state"], theirs["state"], rtol=1e-6, atol=1e-15)
    first = torch.load(runs / "one" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    moved = [name for name in first if name.startswith("model.") and first[name].is_floating_point()]
    assert any(not torch.equal(first[name], first[name.replace("model.", "ema.", 1)]) for name in moved)


def rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("two", ["ddp", "fsdp"])
def test_two_processes_measure_and_draw_as_one(runs, two):
    """Each number once, and equal; the pictures of samples within one grey level."""
    ours, theirs = rows(runs / f"{two}_watched"), rows(runs / "one_watched")
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for name in a.keys() - {"train/images_per_second"}:
            assert a[name] == pytest.approx(b[name], rel=1e-4), name
    assert any("val/nll/nats" in row for row in ours)
    looked_at = (f"{two}_watched", "one_watched")
    for name in ("step_0000002.png", "step_0000004.png"):
        pictures = [np.asarray(Image.open(runs / run / "samples" / name)).astype(int) for run in looked_at]
        assert abs(pictures[0] - pictures[1]).max() <= 1


def test_a_divided_model_is_loaded_as_any_other(runs):
    config = yaml.safe_load((runs / "fsdp" / "config.yaml").read_text())
    assert config["trainer"]["strategy"] == "fsdp"
    model, found = load_model(runs / "fsdp")
    assert found.step == 4
    assert sum(parameter.numel() for parameter in model.parameters()) > 0


def test_players_that_take_turns_are_averaged_each_in_its_turn(runs):
    alone = torch.load(runs / "players_alone.pt", weights_only=True)
    together = torch.load(runs / "players.pt", weights_only=True)
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-14)


def test_all_stop_at_the_same_step_whichever_is_asked(runs):
    said = [(runs / f"stopped_{rank}").read_text() for rank in range(2)]
    assert said[0] == said[1]
    assert checkpoint(runs / "stopped")["global_step"] == rows(runs / "stopped")[-1]["step"]


def test_each_job_of_a_sweep_has_its_processes(tmp_path):
    told = ("train", "-m", "trainer=ddp_cpu", "seed=0,1", *TINY, *QUIET, "trainer.max_steps=2", "trainer.batch_size=4")
    done = genlab(*told, "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for number in range(2):
        run = tmp_path / "sweep" / str(number)
        assert yaml.safe_load((run / "config.yaml").read_text())["seed"] == number
        assert [row["step"] for row in rows(run)] == [1, 2]
        assert checkpoint(run)["global_step"] == 2
        assert done.stdout.count(f"sweep/{number}: 2 steps done") == 1
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in (tmp_path / "sweep").iterdir()) == ["0", "1", "multirun.yaml"]


def test_torchrun_may_start_the_processes(tmp_path):
    launcher = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
    told = ("train", "trainer=ddp_cpu", *TINY, *QUIET, "trainer.max_steps=2", "trainer.batch_size=4")
    done = genlab(*told, launcher=launcher, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "outputs").iterdir()
    assert checkpoint(run)["global_step"] == 2
    assert [row["step"] for row in rows(run)] == [1, 2]
    assert done.stdout.count("steps done") == 1


MISTAKES = {
    "trainer=ddp_cpu trainer.devices=1": "trainer.strategy=ddp is for several devices, and there is one",
    "trainer.devices=0": "trainer.devices=0: give a number of at least 1, or auto",
    "trainer.devices=all": "trainer.devices=all: give a number of at least 1, or auto",
    "trainer.devices=[0,1]": "trainer.devices=[0, 1]: a list holds the numbers of GPUs",
    "trainer.devices=4096": "trainer.devices=4096: there",
    "trainer=ddp_cpu trainer.num_nodes=2": "give the command on every node by torchrun or srun",
    "trainer.strategy=deepspeed": "trainer.strategy=deepspeed: choose auto, ddp, fsdp",
    "trainer.accelerator=tpu": "trainer.accelerator=tpu: choose cpu",
}


@pytest.mark.parametrize("told", MISTAKES)
def test_what_there_is_not_is_refused_in_one_line(told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *TINY, *told.split()]) == 2
    said = capsys.readouterr().err.strip()
    assert MISTAKES[told] in said
    assert len(said.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("trainer", ["gpu", "ddp", "fsdp"])
def test_trainers_of_gpus_need_one(trainer, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *TINY, f"trainer={trainer}"]) == 2
    assert "there is no GPU here; choose trainer=cpu" in capsys.readouterr().err


def test_gpus_are_counted(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert count_devices("auto", "cuda", "devices") == 4
    assert count_devices([0, 3], "cuda", "devices") == 2
    assert count_devices("auto", "cpu", "devices") == 1
    for wrong in (5, [4], [0, "a"], True, 1.0, None):
        with pytest.raises(UserError, match="devices="):
            count_devices(wrong, "cuda", "devices")


def test_processes_of_others_are_as_many_as_the_options_say(config, monkeypatch):
    words = {"TORCHELASTIC_RUN_ID": "job", "RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"}
    for name, value in words.items():
        monkeypatch.setenv(name, value)
    nodes = changed(config, **TWO, num_nodes=2)["trainer"]
    assert processes_of(nodes) == 2
    with pytest.raises(UserError, match="torchrun started 4 processes"):
        processes_of(changed(config, **TWO)["trainer"])
    assert processes_asked(1, "cpu") == 4
    with pytest.raises(UserError, match="torchrun started 4 processes"):
        processes_asked(2, "cpu")


def test_players_need_copies_of_all_weights():
    with pytest.raises(UserError, match="need trainer=ddp"):
        strategy_of({"strategy": "fsdp"}, 2, copy.deepcopy(TwoPlayers()))


@pytest.mark.parametrize("network", [UNet((1, 8, 8), 16, (1, 2), 1, (4,), groups=8), DiT((1, 8, 8), 2, 32, 3, 4)])
def test_divided_weights_are_gathered_layer_by_layer(network):
    """No layer holds another, none is a large part of the whole, and little is left beside them."""
    sizes = [sum(weight.numel() for weight in layer.parameters()) for layer in layers(network)]
    parts = [id(weight) for layer in layers(network) for weight in layer.parameters()]
    whole = sum(weight.numel() for weight in network.parameters())
    assert len(set(parts)) == len(parts)
    assert sum(sizes) > 0.6 * whole
    assert max(sizes) < 0.4 * whole
