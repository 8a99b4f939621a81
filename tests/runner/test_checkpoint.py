"""Checkpoints are found, read without running anything, and written whole or not at all."""

import contextlib
import errno
import os
import pickle
import resource
import signal
import struct
import subprocess
import sys
import zipfile
import zlib
from collections import OrderedDict
from io import FileIO
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from genlab.core import files
from genlab.core.errors import UserError
from genlab.runner.checkpoint import load_checkpoint, load_model, load_weights, resolve, runs

PLUGIN = """
from torch import nn
from genlab.core.spec import Spec
from genlab.models.contract import Model

class Tiny(Model):
    def __init__(self, spec: Spec, width: int = 2) -> None:
        super().__init__(spec)
        self.layer = nn.Linear(spec["x"].shape[0], width)
        self.register_buffer("count", self.layer.weight.new_zeros(()))

class NotAModel:
    def __init__(self, spec: Spec) -> None:
        pass
"""
SPEC = {"x": {"shape": [3]}}


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A package of the user's own, trusted by name."""
    package = tmp_path / "packages" / "tinylab"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "models.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("GENLAB_PLUGINS", "another, tinylab")
    yield "tinylab.models"
    for name in [name for name in sys.modules if name.startswith("tinylab")]:
        del sys.modules[name]


def content(config=None, width=2, **changes):
    """What a run would save, for the plugin's model."""
    layer = nn.Linear(3, width)
    weights = {"layer.weight": layer.weight.detach(), "layer.bias": layer.bias.detach()}
    state = {f"model.{key}": value for key, value in weights.items()} | {"model.count": torch.tensor(7.0)}
    state |= {f"ema.{key}": value + 1 for key, value in weights.items()}
    model = {"_target_": "tinylab.models.Tiny", "width": width}
    return {
        "state_dict": state,
        "global_step": 4,
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-3}]}],
        "genlab_config": yaml.safe_dump(config or {"model": model, "spec": SPEC, "seed": 0}),
        "genlab_version": "0.1.0",
        "genlab_progress": {"micro_batches": 4},
    } | changes


def saved(path, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content(**changes), path)
    return path


class Touch:
    """A pickle of it runs a command when it is loaded by one who trusts it."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


# --- reading


def test_the_model_comes_back(plugin, tmp_path):
    path = saved(tmp_path / "run/checkpoints/last.ckpt")
    model, checkpoint = load_model(tmp_path / "run")
    state = checkpoint.raw["state_dict"]
    assert checkpoint.path == path
    assert checkpoint.step == 4
    assert checkpoint.config["seed"] == 0
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    torch.testing.assert_close(model.layer.weight, state["ema.layer.weight"], rtol=0, atol=0, check_device=False)
    assert model.count == 7, "what is not averaged comes from the raw weights"
    raw, _ = load_model(path, weights="raw")
    torch.testing.assert_close(raw.layer.weight.data, state["model.layer.weight"], rtol=0, atol=0)


def test_without_an_average_the_raw_weights_are_used(plugin, tmp_path):
    everything = content()
    state = {key: value for key, value in everything["state_dict"].items() if key.startswith("model.")}
    path = saved(tmp_path / "a.ckpt", state_dict=state)
    model, checkpoint = load_model(path)
    assert checkpoint.ema == {}
    torch.testing.assert_close(model.layer.weight.data, state["model.layer.weight"], rtol=0, atol=0)


def test_reading_needs_neither_lightning_nor_hydra(plugin, tmp_path):
    path = saved(tmp_path / "a.ckpt")
    code = (
        f"import sys; from genlab.runner.checkpoint import load_model; load_model({str(path)!r}); "
        "assert not {'lightning', 'hydra', 'omegaconf'} & set(sys.modules)"
    )
    folders = os.pathsep.join([str(tmp_path / "packages"), str(Path(__file__).parents[2])])
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": folders}, check=True)


# --- files that are no checkpoints


def refused(path, message):
    """Loading gives one line with this in it."""
    with pytest.raises(UserError, match=message) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_checkpoint_cut_short_anywhere(plugin, tmp_path):
    whole = saved(tmp_path / "whole.ckpt").read_bytes()
    path = tmp_path / "cut.ckpt"
    lengths = [0, 1, 2, 4, 10, 100, 1000, len(whole) // 2, *range(len(whole) - 60, len(whole), 7), len(whole) - 1]
    for length in lengths:
        path.write_bytes(whole[:length])
        refused(path, "is cut short" if length else "is empty")


def test_a_checkpoint_with_wrong_bytes(plugin, tmp_path):
    """A damaged file is refused, or what it holds is still tensors and a checked config; it never is an accident."""
    whole = saved(tmp_path / "whole.ckpt").read_bytes()
    path = tmp_path / "wrong.ckpt"
    for start in range(0, len(whole) - 64, len(whole) // 60):
        path.write_bytes(whole[:start] + b"\xa5" * 64 + whole[start + 64 :])
        with contextlib.suppress(UserError):
            load_model(path)


def png():
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


def test_files_of_other_kinds(tmp_path):
    kinds = {
        "a.png": png(),
        "a.txt": b"no checkpoint\n",
        "a.safetensors": struct.pack("<Q", 2) + b"{}",
        "a.pkl": pickle.dumps({"a": 1}),
        "P.txt": b"Plain text",
    }
    for name, data in kinds.items():
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name, "is not a checkpoint of genlab")
    with zipfile.ZipFile(tmp_path / "a.docx", "w") as archive:
        archive.writestr("document.xml", "<a/>")
    refused(tmp_path / "a.docx", "is damaged, or not a checkpoint of genlab")
    (tmp_path / "secret.ckpt").write_bytes(b"")
    refused(tmp_path / "secret.ckpt", "is empty")
    refused(tmp_path / "missing.ckpt", "there is no such file")


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_torch_files_of_other_programs(tmp_path):
    path = tmp_path / "a.ckpt"
    for foreign in (
        {"state_dict": {"a": torch.zeros(1)}, "pytorch-lightning_version": "2.6"},
        {"conv_in.weight": torch.zeros(1)},
        {},
    ):
        torch.save(foreign, path)
        refused(path, "is a checkpoint of another program")
    torch.save(torch.zeros(3), path)
    refused(path, "is not a checkpoint of genlab: it holds a Tensor")
    torch.save(nn.Linear(1, 1), path)
    refused(path, r"is refused and nothing in it was run: it asks for torch\.nn\.modules\.linear\.Linear")
    torch.jit.script(nn.Linear(1, 1)).save(path)
    refused(path, "not a checkpoint of genlab")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"genlab_config": {"a": 1}}, "its config is not a dictionary"),
        ({"genlab_config": "just text"}, "its config is not a dictionary"),
        ({"genlab_config": "a: [1"}, "its config is not plain YAML"),
        ({"genlab_config": "a: " + "[" * 2000}, "its config is not plain YAML"),
        ({"genlab_config": "a: &a [*a]"}, "nested more than"),
        ({"genlab_config": "a: 2024-01-01"}, "a: a date is refused"),
        ({"state_dict": [1]}, "it holds no weights"),
        ({"state_dict": {"model.a": 1}}, "it holds no weights"),
        ({"global_step": "4"}, "it does not say its step"),
    ],
)
def test_a_checkpoint_with_wrong_parts(tmp_path, changes, message):
    refused(saved(tmp_path / "a.ckpt", **changes), message)


# --- files that would run code


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("place", ["alone", "weights", "extra", "hook"])
def test_a_pickle_that_would_run_code(tmp_path, place, zipped):
    canary = tmp_path / "canary"
    everything = {
        "alone": Touch(canary),
        "weights": content(state_dict={"model.a": Touch(canary)}),
        "extra": content(callbacks={"a": [(Touch(canary),)]}),
        "hook": content(state_dict=OrderedDict({"model.a": Touch(canary)})),
    }[place]
    path = tmp_path / "a.ckpt"
    torch.save(everything, path, _use_new_zipfile_serialization=zipped)
    refused(path, r"nothing in it was run: it asks for \w+\.system" if zipped else "nothing in it was run")
    assert not canary.exists()
    torch.load(path, weights_only=False)
    assert canary.exists(), "the attack is real"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_bare_pickle_that_would_run_code(tmp_path, protocol):
    canary, path = tmp_path / "canary", tmp_path / "a.ckpt"
    path.write_bytes(pickle.dumps(Touch(canary), protocol=protocol))
    refused(path, "nothing in it was run")
    assert not canary.exists()


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "os.system", "command": "touch CANARY"},
        {"_target_": "genlab.cli.os.system", "command": "touch CANARY"},
        {"_target_": "genlab.core.rng.torch.os.system", "command": "touch CANARY"},
        {"_target_": "os.system", "_args_": ["touch CANARY"]},
        {"_target_": "os.system", "_partial_": True},
        [[{"_target_": "builtins.exec", "_args_": ["open('CANARY', 'w')"]}]],
        {"_target_": "shutil.copyfile", "src": "/etc/passwd", "dst": "CANARY"},
        "${oc.env:HOME}",
        "${oc.create:{_target_:os.system}}",
    ],
    ids=str,
)
@pytest.mark.parametrize("place", ["model", "option", "data", "list"])
def test_a_config_that_would_run_code(plugin, tmp_path, node, place):
    canary = tmp_path / "canary"
    tiny = {"_target_": "tinylab.models.Tiny"}
    config = {
        "model": {"model": node},
        "option": {"model": {**tiny, "width": node}},
        "data": {"model": tiny, "data": {"a": {"b": node}}},
        "list": {"model": tiny, "callbacks": [1, node]},
    }[place]
    text = yaml.safe_dump({**config, "spec": SPEC}).replace("CANARY", str(canary))
    path = saved(tmp_path / "a.ckpt", genlab_config=text)
    for load in (load_checkpoint, load_model):
        with pytest.raises(UserError, match="is refused and nothing in it was run: its config has ") as caught:
            load(path)
        assert "\n" not in str(caught.value)
    assert not canary.exists()


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['touch CANARY']",
        "!!python/object/new:os.system ['touch CANARY']",
        "a: !!python/name:os.system",
    ],
)
def test_yaml_that_would_run_code(tmp_path, text):
    canary = tmp_path / "canary"
    path = saved(tmp_path / "a.ckpt", genlab_config=text.replace("CANARY", str(canary)))
    refused(path, "is refused: its config is not plain YAML")
    assert not canary.exists()


def test_a_model_is_made_of_parts_of_models(plugin, tmp_path):
    def config(model):
        return {"model": model, "spec": SPEC}

    outside = {"_target_": "genlab.data.contract.Split"}
    with pytest.raises(UserError, match=r"model.width._target_: genlab\.data\.contract\.Split is refused"):
        load_model(saved(tmp_path / "a.ckpt", config=config({"_target_": "tinylab.models.Tiny", "width": outside})))
    for model in ({"_target_": "tinylab.models.NotAModel"}, {"_target_": "tinylab.models.Tiny", "_partial_": True}):
        with pytest.raises(UserError, match=r"is not a genlab\.models\.contract\.Model"):
            load_model(saved(tmp_path / "a.ckpt", config=config(model)))
    with pytest.raises(UserError, match="holds no spec"):
        load_model(saved(tmp_path / "a.ckpt", config={"model": {"_target_": "tinylab.models.Tiny"}}))
    for spec in ({"x": 1}, {"x": {}}, {"x": {"shape": 3}}, {"x": {"shape": ["a"]}}, {"x": {"size": 3}}):
        with pytest.raises(UserError, match="holds no valid spec"):
            load_model(saved(tmp_path / "a.ckpt", config={**config({"_target_": "tinylab.models.Tiny"}), "spec": spec}))


# --- architecture


def test_another_architecture_is_named(plugin, tmp_path):
    path = tmp_path / "a.ckpt"
    config = {"model": {"_target_": "tinylab.models.Tiny", "width": 5}, "spec": SPEC}
    saved(path, config=config, width=2)
    with pytest.raises(UserError) as caught:
        load_model(path)
    assert str(caught.value) == (
        f"{path} was trained with another architecture: "
        "layer.weight is (2, 3) in the checkpoint and (5, 3) in the model"
    )


def test_weights_are_loaded_all_or_none():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    other = {key: value + 1 for key, value in before.items()}
    missing = {key: value for key, value in other.items() if key != "1.bias"}
    with pytest.raises(UserError, match=r"1\.bias is missing in the checkpoint and \(2,\) in the model"):
        load_weights(model, missing, "a.ckpt")
    with pytest.raises(UserError, match=r"2\.bias is \(3,\) in the checkpoint and missing in the model"):
        load_weights(model, {**other, "2.bias": torch.zeros(3)}, "a.ckpt")
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    load_weights(model, other, "a.ckpt")
    torch.testing.assert_close(model.state_dict(), other, rtol=0, atol=0)


# --- which file is meant


def run(folder, *names, age=0):
    """A run folder with empty checkpoint files, `age` seconds old."""
    for name in names:
        path = folder / "checkpoints" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (1e9 - age, 1e9 - age))
    return folder


def test_a_run_stands_for_its_last_checkpoint(tmp_path):
    folder = run(tmp_path / "a", "step_0000500.ckpt", "step_0001000.ckpt", "step_12000000.ckpt", "best.ckpt")
    inside = folder / "checkpoints"
    (inside / ".last.ckpt.part").touch()
    assert resolve(folder) == resolve(str(folder) + "/") == inside / "step_12000000.ckpt"
    assert resolve(inside) == inside / "step_12000000.ckpt"
    assert resolve(inside / "best.ckpt") == inside / "best.ckpt"
    run(folder, "last.ckpt")
    assert resolve(folder) == inside / "last.ckpt"
    assert resolve(run(tmp_path / "b", "best.ckpt")) == tmp_path / "b/checkpoints/best.ckpt"


def test_the_newest_run_is_meant_where_none_is_named(tmp_path):
    outputs = tmp_path / "outputs"
    with pytest.raises(UserError, match="no run with a checkpoint under "):
        resolve(None, outputs)
    (outputs / "empty" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="no run with a checkpoint under "):
        resolve(None, outputs)
    run(outputs / "old", "last.ckpt", age=50)
    run(outputs / "day/time", "step_0000001.ckpt", age=40)
    assert resolve(None, outputs) == outputs / "day/time/checkpoints/step_0000001.ckpt"
    run(outputs / "sweep/day/2", "last.ckpt", age=30)
    run(outputs / "sweep/day/10", "last.ckpt", age=35)
    run(outputs / "far/too/deep/down", "last.ckpt")
    assert resolve(None, outputs) == outputs / "sweep/day/2/checkpoints/last.ckpt"
    assert runs(outputs) == [outputs / name for name in ("day/time", "old", "sweep/day/10", "sweep/day/2")]


def test_a_path_that_leads_nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(Path("outputs/ddpm_digits"), "last.ckpt")
    for i in range(2):
        run(Path(f"outputs/sweep/{i}"), "last.ckpt")
    Path("outputs/nothing").mkdir()

    def message(ckpt):
        with pytest.raises(UserError) as caught:
            resolve(ckpt)
        return str(caught.value)

    nowhere = "there is no such file or folder"
    assert message("outputs/ddpm_digit") == f"outputs/ddpm_digit: {nowhere}; did you mean outputs/ddpm_digits?"
    assert message("output/ddpm_digits") == f"output/ddpm_digits: {nowhere}; did you mean outputs/ddpm_digits?"
    assert message("ddpm_digits") == f"ddpm_digits: {nowhere}; did you mean outputs/ddpm_digits?"
    assert message("outputs/ddpm_digits/checkpoints/lst.ckpt").endswith(
        "did you mean outputs/ddpm_digits/checkpoints/last.ckpt?"
    )
    assert message("/zzz/qqq") == f"/zzz/qqq: {nowhere}"
    assert message("outputs/ddpm_digits/checkpoints/last.ckpt/x").startswith("outputs/ddpm_digits/checkpoints/last")
    assert message("") == "ckpt is empty: name a checkpoint file or a run folder"
    assert message("outputs/nothing") == "outputs/nothing is a folder without checkpoints"
    assert message("outputs/sweep") == (
        "outputs/sweep is a folder without checkpoints; name one of its runs: outputs/sweep/0, outputs/sweep/1"
    )
    assert nowhere in message("a\0b")
    assert message("x" * 1000).endswith(" cannot be read: File name too long")


# --- writing


@pytest.fixture(scope="module")
def io():
    from genlab.runner.checkpoint_io import AtomicCheckpointIO

    return AtomicCheckpointIO()


def test_what_is_written_is_read(io, tmp_path):
    path = tmp_path / "new/checkpoints/last.ckpt"
    io.save_checkpoint({"a": torch.arange(3), "step": 1}, path)
    io.save_checkpoint({"a": torch.arange(4), "step": 2}, str(path))
    back = io.load_checkpoint(path)
    assert back["step"] == 2
    assert back["a"].tolist() == [0, 1, 2, 3]
    assert os.listdir(path.parent) == ["last.ckpt"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()
    io.remove_checkpoint(path)
    io.remove_checkpoint(path)
    assert not path.exists()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_reading_for_training_runs_nothing_either(io, tmp_path):
    canary, path = tmp_path / "canary", tmp_path / "a.ckpt"
    torch.save({"a": Touch(canary)}, path)
    with pytest.raises(UserError, match="nothing in it was run"):
        io.load_checkpoint(path, weights_only=False)
    assert not canary.exists()


class Full:
    """A file on a disk with room for so many bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data)


@pytest.mark.parametrize("room", [0, 100, 5000])
def test_a_full_disk_keeps_the_old_file(io, tmp_path, monkeypatch, room):
    path = tmp_path / "last.ckpt"
    io.save_checkpoint({"step": 1}, path)
    before = path.read_bytes()
    monkeypatch.setattr(files, "open", lambda path, mode: Full(FileIO(path, mode), room), raising=False)
    with pytest.raises(UserError) as caught:
        io.save_checkpoint({"step": 2, "a": torch.zeros(10_000)}, path)
    message = str(caught.value)
    assert message.startswith(f"{path} could not be saved: the disk is full (")
    assert message.endswith("the one saved before is kept; free some space or let runs go to another disk")
    assert "\n" not in message
    assert os.listdir(tmp_path) == ["last.ckpt"]
    assert path.read_bytes() == before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_device_that_is_full(tmp_path, monkeypatch, io):
    monkeypatch.setattr(files, "open", lambda path, mode: FileIO("/dev/full", mode), raising=False)
    with pytest.raises(UserError, match="the disk is full"):
        io.save_checkpoint({"a": torch.zeros(10_000)}, tmp_path / "last.ckpt")


def test_a_real_limit_on_the_size_of_files(tmp_path, io):
    """The kernel refuses the write in the middle of a tensor."""
    path = tmp_path / "last.ckpt"
    io.save_checkpoint({"step": 1}, path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        with pytest.raises(UserError, match="could not be saved: File too large; the one saved before is kept"):
            io.save_checkpoint({"a": torch.zeros(1_000_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == ["last.ckpt"]
    assert io.load_checkpoint(path) == {"step": 1}


def test_a_folder_that_cannot_be_made(tmp_path, io):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/last\.ckpt could not be saved: "):
        io.save_checkpoint({"step": 1}, tmp_path / "file/last.ckpt")


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_save_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def save():
        with files.replacing(path) as file:
            file.write(b"ne")
            assert path.read_text() == "old"
            raise error

    with pytest.raises(error):
        save()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_killed_save_leaves_the_old_file(tmp_path):
    """A process that is killed while it writes, and the next one that saves in the same place."""
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = (
        "import os, signal; from genlab.core.files import replacing\n"
        f"with replacing({str(path)!r}) as file:\n"
        "    file.write(b'ne'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    with files.replacing(path) as file:
        file.write(b"new")
    assert os.listdir(tmp_path) == ["a.txt"]
    assert path.read_text() == "new"
