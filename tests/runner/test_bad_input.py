"""What cannot be done is said in one line that names the option, with status 2, and leaves everything as it was."""

import os
import pickle
import resource
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from program import TINY, Ended, Program, entries, environment, files


def assert_one_line(ended: Ended, *said: str) -> None:
    assert ended.status == 2, ended
    assert ended.err.startswith("genlab: ")
    assert ended.err.count("\n") == 1, ended.err
    assert all(part in ended.err for part in said), ended.err
    assert not ended.out


COMPOSING = {
    "model=ddmp": "model=ddmp: there is no such model; did you mean ddpm",
    "data=digit": "data=digit: there is no such data; did you mean digits?",
    "sampler=3": "sampler=3: there is no such sampler; there are analytic, ancestral",
    "experiment=nothing": "experiment=nothing: there is no such experiment; there are",
    "modle=ddpm": "modle: there is no such option; did you mean model",
    "network.widht=3": "network.widht: there is no such option; did you mean width",
    "model.network.width=3": "model.network.width: the network is chosen beside the model; write network.width=",
    "trainer.max_stepz=3": "trainer.max_stepz: there is no such option; did you mean max_steps?",
    "+trainer.max_stepz=3": "trainer.max_stepz: there is no such option; did you mean max_steps",
    "optim.optimiser.lr=1": "optim.optimiser: there is no such option; did you mean optimizer?",
    "+foo=1": "+foo=1: there is no such option",
    "++network.widht=3": "network.widht: UNet has no such option; did you mean width?",
    "+optim.decay=1": "+optim.decay=1: the optimizer never reads optim.decay",
    "spec.x=1": "spec",
    "trainer.max_steps=ten": "trainer.max_steps: must be a whole number, not ten",
    "trainer.compile=maybe": "trainer.compile: must be true or false, not maybe",
    "seed=${foo}": "seed: Interpolation key 'foo' not found",
    "--cfg=shop": "--cfg=shop: choose one of job, hydra, all",
    "trainer.validate=nll": "trainer.validate: must be a list",
    "network.width=wide": "network.width: must be int, not wide",
    "network.width=3": "network.width must be even",
    "optim.lr=fast": "optim.lr=fast: must be a number above 0",
    "model.prediction=noise": "model.prediction: must be one of eps, x0, v, score, velocity, edm, not noise",
    "model=ddpm,ddpm": "or -m to sweep",
    "a=b=c": "a=b=c: cannot be read as option=value",
    "network": "network: not an option; write option=value",
    "~network": "~network: not an option",
    "-q": "-q: there is no such flag",
    "--multirum": "--multirum: there is no such flag; did you mean --multirun?",
    "-m": "-m: there is nothing to sweep over",
    "--config-dir=nowhere": "--config-dir: there is no folder",
    "--config-name=test": "there is no config test",
    "optim.lr=-1": "optim.lr=-1: must be a number above 0",
    "optim.lr=nan": "optim.lr=NaN: must be a number above 0",
    "optim.ema_decay=2": "optim.ema_decay=2: must be a number at least 0 and below 1",
    "optim.gradient_clip=-1": "optim.gradient_clip=-1: must be a number above 0, or null",
    "optim.warmup_steps=1.5": "optim.warmup_steps=1.5: must be a whole number at least 0",
    "optim.optimizer.betas=[2,0]": "optim.optimizer: Invalid beta parameter",
    "seed=-1": "seed=-1: must be at least 0 and below 2^32",
    "seed=4294967296": "seed=4294967296: must be at least 0 and below 2^32",
    "trainer.max_steps=0": "trainer.max_steps=0: must be at least 1",
    "trainer.batch_size=0": "trainer.batch_size=0: must be at least 1",
    "trainer.precision=nonsense": "trainer.precision=nonsense: choose 32-true, bf16-mixed, 16-mixed",
    "trainer.accelerator=banana": "trainer.accelerator=banana: choose cpu, gpu",
    "trainer.devices=0": "trainer.devices=0: give a number of at least 1, or auto",
    "trainer.strategy=nonsense": "trainer.strategy=nonsense: choose auto, ddp, fsdp",
    "trainer.validate=[nonsense]": "trainer.validate: there is no metric nonsense",
    "sampler.steps=0": "sampler.steps must be at least 1, not 0",
    "sampler.steps=1001": "sampler.steps=1001: the model's schedule has 1000 steps",
    "schedule.stepz=3": "schedule.stepz: there is no such option; did you mean steps?",
    "estimator.t=0": "estimator.t must be at least 1 or all, not 0",
    "model._target_=os.system": "model._target_: os.system is refused and was not run",
    "network._target_=genlab.cli.os.system": "genlab.cli.os.system is refused and was not run",
    "data._target_=genlab.data.images.os.system": "is refused",
    "hydra.run.dir=/dev/null/run": "/dev/null/run: Not a directory",
    "resume=nothing": "resume=nothing: there is no such file or folder",
    "resume=": "resume is empty",
}


@pytest.mark.parametrize("word", COMPOSING)
def test_training(program: Program, here: Path, word: str) -> None:
    assert_one_line(program("train", word), COMPOSING[word])
    assert not entries(here)


def test_without_a_gpu_a_gpu_is_refused(program: Program, here: Path) -> None:
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("there is a GPU")
    assert_one_line(
        program("train", "trainer=gpu"), "trainer.accelerator=gpu: there is no GPU here; choose trainer=cpu"
    )
    assert_one_line(program("train", "trainer.precision=16-mixed"), "trainer.precision=16-mixed: is for GPUs")
    assert not entries(here)


def test_labels_need_labelled_data(program: Program, here: Path) -> None:
    ended = program("train", "data=toy2d", "data.name=swissroll", "conditioner=label")
    assert_one_line(ended, "the data have none; choose conditioner=none or labelled data")
    assert not entries(here)


def test_commands_and_lists(program: Program, here: Path) -> None:
    assert_one_line(program("trian"), "no such command: trian; did you mean train?")
    assert_one_line(program("list"), "name one of models, data")
    assert_one_line(program("list", "modles"), "nothing called modles; did you mean models")
    assert_one_line(program("list", "models", "--config-dir", "nowhere"), "--config-dir: there is no folder")
    assert not entries(here)


SAMPLING = {
    "n=0": "n=0: must be at least 1",
    "n=many": "n: must be a whole number, not many",
    "batch_size=0": "batch_size=0: must be at least 1",
    "seed=-1": "seed=-1: must be at least 0 and below 2^32",
    "sampler.steps=0": "sampler.steps must be at least 1, not 0",
    "sampler.steps=21": "sampler.steps=21: the model's schedule has 20 steps; choose from 1 to 20",
    "sampler.stpes=5": "sampler.stpes: Ancestral has no such option; did you mean steps?",
    "sampler=dimm": "sampler=dimm: there is no such sampler; did you mean ddim",
    "label=3": "label=3: the model has no labels",
    "label=cat": "label: must be int or a list of int or null, not cat",
    "device=cuda:77": "device=cuda:77: there is no such device here; use auto or cpu",
    "device=banana": "device=banana: there is no such device here",
    "weights=best": "weights=best: choose ema or raw",
    "format=gif": "format=gif: choose png or npz",
    "task=draw": "task=draw: there is no such task; there are analyze, colorize, complete, compress",
    "network.width=3": "network.width=3: sample takes the network from the checkpoint",
    "data=mnist": "data: task=generate is given no data; leave it out",
    "+foo=3": "+foo=3: there is no such option",
    "ckpts=x": "ckpts: there is no such option; did you mean ckpt?",
    "out=full": "out=full: ",
    "out=file": "out=file: ",
    "out=/dev/null/out": "/dev/null/out",
    "ckpt=nothing": "ckpt=nothing: there is no such file or folder",
    "ckpt=ful": "ckpt=ful: there is no such file or folder; did you mean full?",
    "ckpt=full": "ckpt=full is a folder without checkpoints",
    "ckpt=": "ckpt is empty",
    "ckpt=[a,b]": "name one checkpoint",
    "ckpt=null": "no run with a checkpoint under outputs",
    "ckpt=file": "file is not a checkpoint of genlab; nothing in it was run",
}


@pytest.mark.parametrize("word", SAMPLING)
def test_sampling(program: Program, here: Path, trained: Path, word: str) -> None:
    (here / "full").mkdir()
    (here / "full" / "mine").write_text("mine")
    (here / "file").write_text("mine")
    before, names = files(trained), entries(here)
    assert_one_line(program("sample", f"ckpt={trained}", "n=2", word), SAMPLING[word])
    assert files(trained) == before
    assert entries(here) == names
    assert (here / "full" / "mine").read_text() == (here / "file").read_text() == "mine"


def test_labels_are_those_of_the_data(program: Program, here: Path, conditional: Path) -> None:
    assert_one_line(program("sample", f"ckpt={conditional}", "label=11"), "label=11: labels are 0 to 9")
    assert_one_line(program("sample", f"ckpt={conditional}", "label=[1,-1]"), "labels are 0 to 9")
    assert not entries(here)


MEASURING = {
    "metric=nonsense": "metric=nonsense: there is no such metric; there are codebook, disentanglement, error_rate, fid",
    "metric=[nll,fod]": "metric=fod: there is no such metric; did you mean fid",
    "metric=fid,nll": "metric=fid,nll: write metric=[fid,nll] for a list",
    "metric=[]": "metric: name at least one",
    "metric.m=3": "metric.m: there is no such option",
    "metric.fid.m=3": "metric.fid.m: there is no such option",
    "metric.kid.subsets=3": "metric.kid: this metric is not asked for; write metric=[kid]",
    "+metric.foo=3": "metric.foo: there is no such option",
    "metric.n=0": "metric.n=0: must be a number of at least 1",
    "metric.n=many": "metric.n=many: must be a number",
    "metric.split=dev": "metric.split=dev: choose train, validation or test",
    "metric.features=clip": "metric.features=clip: choose classifier, inception or null",
    "estimator.q=1": "estimator.q: VariationalBound has no such option",
    "data=toy2d": "data: x of toy2d-moons-50000 is 2, and the model was trained on 1x8x8 of 17 levels",
    "n=3": "n: there is no such option",
    "seed=-1": "seed=-1: must be",
}


@pytest.mark.parametrize("word", MEASURING)
def test_evaluation(program: Program, here: Path, trained: Path, word: str) -> None:
    before = files(trained)
    metric = [] if word.startswith(("metric=", "metric.fid")) else ["metric=[nll]", "metric.data=2"]
    assert_one_line(program("eval", f"ckpt={trained}", *metric, word), MEASURING[word])
    assert files(trained) == before
    assert not entries(here)


@pytest.fixture
def plugin(here: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """A user's own model, with neither network, schedule, sampler nor likelihood: the words that choose it."""
    (here / "lab").mkdir()
    (here / "lab" / "__init__.py").touch()
    (here / "lab" / "mean.py").write_text(
        textwrap.dedent("""
            import torch
            from genlab.models.contract import Model

            class Mean(Model):
                can = frozenset({"sample"})

                def __init__(self, spec, scale: float = 0.1):
                    super().__init__(spec)
                    self.mean, self.scale = torch.nn.Parameter(torch.zeros(spec["x"].shape)), scale

                def loss(self, batch, rng, player, step):
                    return {"loss": (batch["x"] - self.mean).square().mean()}

                @torch.no_grad()
                def sample(self, conditions, rng, sampler: None = None, watch=None):
                    return {"x": self.mean + self.scale * rng.normal(*self.spec["x"].shape)}
        """)
    )
    (here / "own" / "model").mkdir(parents=True)
    (here / "own" / "model" / "mean.yaml").write_text("# A mean\n_target_: lab.mean.Mean\nscale: 0.1\n")
    monkeypatch.setenv("GENLAB_PLUGINS", "lab")
    monkeypatch.syspath_prepend(here)
    yield "--config-dir", "own", "model=mean", "trainer=debug", "trainer.validate_every=0", "trainer.preview_every=0"
    for name in [name for name in sys.modules if name.partition(".")[0] == "lab"]:
        del sys.modules[name]


def test_a_model_says_what_it_never_reads(program: Program, here: Path, plugin: tuple[str, ...]) -> None:
    unread = ("network=dit", "network.width=8", "schedule=cosine", "conditioner=label")
    for word in unread:
        ended = program("train", *plugin, word)
        assert_one_line(ended, f"{word}: model=mean never reads {word.partition('=')[0]}")
    assert_one_line(program("train", *plugin, "schedule.steps=3"), "schedule.steps: no schedule is chosen")
    assert_one_line(program("train", *plugin, "sampler=ddim"), "sampler: Mean has no choice of sampler")
    assert_one_line(program("train", *plugin, "sampler.steps=3"), "sampler.steps: no sampler is chosen")
    assert_one_line(program("train", *plugin, "estimator=vlb"), "estimator: Mean has no choice of estimator")
    assert not (here / "outputs").exists()

    assert program("train", *plugin, "model.scale=0.2", "hydra.run.dir=run").status == 0
    before = files(here / "run")
    assert_one_line(program("eval", "ckpt=run", "metric=nll"), "metric=nll: model=mean cannot have it", "ddpm")
    assert_one_line(program("sample", "ckpt=run", "sampler=ddim"), "sampler: Mean has no choice of sampler")
    assert_one_line(program("sample", "ckpt=run", "sampler.steps=3"), "sampler: Mean has no choice of sampler")
    assert files(here / "run") == before
    assert program("sample", "ckpt=run", "n=2").status == 0


def test_options_that_the_model_reads_are_taken(program: Program) -> None:
    """Through the whole of composition, up to the data set that is not there."""
    words = ("network=dit_digits", "schedule=cosine", "schedule.steps=50", "conditioner=label", "conditioner.vector=8")
    more = (
        "network.width=16",
        "sampler=ddim",
        "sampler.steps=10",
        "estimator.t=all",
        "optim=adamw",
        "model.prediction=v",
    )
    ended = program("train", *words, *more, "trainer.validate=[nonsense]")
    assert_one_line(ended, "trainer.validate: there is no metric nonsense")


def test_shipped_configs_are_not_replaced(program: Program, here: Path) -> None:
    (here / "own" / "model").mkdir(parents=True)
    (here / "own" / "model" / "ddpm.yaml").write_text("_target_: mine\n")
    assert_one_line(program("train", "--config-dir", "own"), "model/ddpm.yaml has the name of a shipped config")
    (here / "own" / "model" / "ddpm.yaml").rename(here / "own" / "model" / "mine.yaml")
    (here / "own" / "model" / "mine.yaml").write_text("a: [1\n")
    assert program("train", "--config-dir", "own", "model=mine").status == 2
    assert not (here / "outputs").exists()


class Runs:
    """A pickle that makes a file when it is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch ran",)


TARGETS = ("os.system", "genlab.cli.sys.exit", "genlab.runner.files.os.system", "builtins.eval", "torch.load")


def test_checkpoints_that_would_run_code_are_not_read(program: Program, here: Path, trained: Path) -> None:
    whole = (trained / "checkpoints" / "last.ckpt").read_bytes()
    raw = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    said: dict[str, str] = {}

    def checkpoint(name: str, content: object, message: str) -> None:
        torch.save(content, here / name)
        said[name] = message

    checkpoint("pickle.ckpt", {**raw, "more": Runs()}, "is refused and nothing in it was run: it asks for")
    checkpoint("nested.ckpt", {**raw, "state_dict": {"x": [Runs()]}}, "is refused and nothing in it was run")
    for number, target in enumerate(TARGETS):
        call = f"{{_target_: {target}, command: touch ran}}"
        for place, text in (
            ("", call),
            ("list", f"[[{call}]]"),
            ("partial", call.replace("command", "_partial_: true, a")),
        ):
            config = raw["genlab_config"].replace("prediction: eps", f"prediction: {text}")
            assert config != raw["genlab_config"]
            checkpoint(f"{number}{place}.ckpt", {**raw, "genlab_config": config}, target)
    config = raw["genlab_config"].replace("prediction: eps", "prediction: ${oc.env:HOME}")
    checkpoint("interpolation.ckpt", {**raw, "genlab_config": config}, "is refused")
    checkpoint("foreign.ckpt", {"model": raw["state_dict"]}, "is a checkpoint of another program")
    (here / "raw.ckpt").write_bytes(pickle.dumps(Runs()))
    (here / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    (here / "empty.ckpt").touch()
    said |= {"raw.ckpt": "is not a checkpoint", "cut.ckpt": "is cut short", "empty.ckpt": "is empty"}

    names = entries(here)
    for name, message in said.items():
        assert_one_line(program("sample", f"ckpt={name}", "n=1"), name, message)
    for name in ("pickle.ckpt", "0.ckpt", "cut.ckpt"):
        assert_one_line(program("eval", f"ckpt={name}", "metric=nll"), name)
        assert_one_line(program("train", f"resume={name}", "trainer.max_steps=9"), name)
    assert entries(here) == names
    assert "ran" not in names


def test_distances_say_how_many_samples_they_need(program: Program, here: Path, trained: Path) -> None:
    """Before any is drawn, or any data looked at."""
    before = files(trained)
    ended = program("eval", f"ckpt={trained}", "metric=fid", "metric.n=10")
    assert ended.status == 2
    assert "FID needs at least 65 samples, not 10" in ended.err.splitlines()[-1]
    ended = program("train", *TINY, "trainer.validate_every=2", "trainer.validate=[fid]", "trainer.validate_data=10")
    assert_one_line(ended, "trainer.validate_data=10: fid needs at least 65 samples")
    assert files(trained) == before
    assert not entries(here)


def test_a_folder_is_of_one_run(program: Program, here: Path) -> None:
    words = ("train", *TINY, "trainer.max_steps=1", "hydra.run.dir=run")
    assert program(*words).status == 0
    before = files(here)
    assert_one_line(program(*words), "there is a run in this folder already; continue it with resume=")
    (here / "mine").mkdir()
    (here / "mine" / "config.yaml").write_text("mine")
    assert_one_line(program(*words[:-1], "hydra.run.dir=mine"), "there is a run in this folder already; name another")
    assert files(here) == {**before, "mine/config.yaml": b"mine"}


def test_runs_that_begin_in_the_same_second_have_a_folder_each(program: Program, here: Path) -> None:
    name = "hydra.sweep.dir=outputs/same"
    for _ in range(2):
        assert program("train", "-m", *TINY, "trainer.max_steps=1", "seed=0", name).status == 0
    assert sorted(path.name for path in (here / "outputs" / "same").iterdir()) == ["0", "0_2", "multirun.yaml"]


def test_outputs_may_be_no_folder(program: Program, here: Path) -> None:
    (here / "outputs").write_text("mine")
    assert_one_line(program("train"), "outputs/", "Not a directory")
    assert_one_line(program("train", "-m", "seed=0,1"), "outputs/", "Not a directory")
    assert (here / "outputs").read_text() == "mine"


@contextmanager
def small_disk(megabytes: float) -> Iterator[None]:
    """No file can grow beyond this size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(megabytes * 2**20), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_leaves_the_last_checkpoint(program: Program, here: Path) -> None:
    assert program("train", *TINY, "trainer.max_steps=2", "hydra.run.dir=run").status == 0
    before = (here / "run" / "checkpoints" / "last.ckpt").read_bytes()
    with small_disk(0.5):
        ended = program("train", "resume=run", "trainer.max_steps=4")
    assert ended.status == 2
    assert "last.ckpt could not be saved: " in ended.err.splitlines()[-1]
    assert "the one saved before is kept" in ended.err.splitlines()[-1]
    assert "Traceback" not in ended.err
    assert (here / "run" / "checkpoints" / "last.ckpt").read_bytes() == before
    assert os.listdir(here / "run" / "checkpoints") == ["last.ckpt"]
    assert program("train", "resume=run", "trainer.max_steps=4").status == 0


def test_a_disk_too_full_for_anything(program: Program, here: Path, trained: Path) -> None:
    code = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64)); import genlab.__main__"
    for words in (("train", *TINY), ("sample", f"ckpt={trained}", "n=1", "out=out")):
        line = [sys.executable, "-B", "-c", code, *words]
        done = subprocess.run(line, cwd=here, env=environment(), capture_output=True, text=True)
        assert_one_line(Ended(done.returncode, done.stdout, done.stderr), "could not be saved: File too large")
    assert not [path for path in here.rglob("*") if path.is_file()]


def test_a_loss_that_is_no_number_stops_the_run(program: Program, here: Path) -> None:
    bad = ("optim.lr=1e30", "optim.gradient_clip=null", "trainer.max_steps=40")
    ended = program("train", *TINY, *bad, "hydra.run.dir=never")
    assert ended.status == 2
    assert "the loss is not a finite number at step 2" in ended.err.splitlines()[-1]
    assert "no checkpoint was written before" in ended.err
    assert not list(here.rglob("*.ckpt"))

    assert program("train", *TINY, "trainer.max_steps=2", "hydra.run.dir=run").status == 0
    before = (here / "run" / "checkpoints" / "last.ckpt").read_bytes()
    ended = program("train", "resume=run", *bad)
    assert ended.status == 2
    assert "not a finite number at step 4, and the run stops: the last good checkpoint is" in ended.err
    assert str(here / "run" / "checkpoints" / "last.ckpt") in ended.err
    assert (here / "run" / "checkpoints" / "last.ckpt").read_bytes() == before


def test_a_batch_may_be_larger_than_the_data(program: Program) -> None:
    """The stream has no end."""
    words = ("data=toy2d", "network.width=4", "data.size=10", "trainer.batch_size=64", "trainer.max_steps=1")
    assert program("train", *TINY, *words).status == 0


def test_debugging_shows_where(program: Program, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENLAB_DEBUG", "1")
    for ended in (program("sample", f"ckpt={trained}", "n=0"), program("train", "model=ddmp")):
        assert ended.status == 2
        assert ended.err.startswith("Traceback")
        assert ended.err.splitlines()[-1].startswith("genlab: ")


def test_a_bug_keeps_its_traceback_and_is_no_mistake_of_the_users(here: Path, trained: Path) -> None:
    (here / "sitecustomize.py").write_text(
        "import genlab.runner.sample\ngenlab.runner.sample.sample = lambda c: 1 / 0\n"
    )
    words = [sys.executable, "-m", "genlab", "sample", f"ckpt={trained}"]
    env = environment(PYTHONPATH=f"{here}:{environment()['PYTHONPATH']}")
    done = subprocess.run(words, cwd=here, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError" in done.stderr
