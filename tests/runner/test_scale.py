"""Many samples: on as many devices as there are, stopped and continued, and judged from any folder."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genlab.cli import main
from genlab.core.spec import Field
from genlab.data.digits import Digits
from genlab.metrics import classifier
from genlab.runner.forms import Pngs, Shards, cut
from genlab.runner.judged import pictures_in

ROOT = Path(__file__).parents[2]
FEW = ("sampler=ddim", "sampler.steps=2")
N = 90


def environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GENLAB_CACHE": str(cache)}


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """A cache with a classifier of the digits that saw little."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENLAB_CACHE", str(folder))
        patch.setattr(classifier, "IMAGES", 3000)
        classifier.classifier_features(Digits())
    return folder


@pytest.fixture(autouse=True)
def at_home(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("GENLAB_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A model of the digits that knows next to nothing."""
    folder = tmp_path_factory.mktemp("scale") / "run"
    told = (
        "trainer=debug",
        "trainer.validate_every=0",
        "trainer.preview_every=0",
        "network.width=16",
        "network.groups=8",
    )
    assert main(["train", *told, f"hydra.run.dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def drawn(run, tmp_path_factory) -> Path:
    """N samples, drawn by one process in batches of 40."""
    folder = tmp_path_factory.mktemp("drawn") / "samples"
    assert main(["sample", f"ckpt={run}", f"n={N}", *FEW, "batch_size=40", f"out={folder}"]) == 0
    return folder


def images(folder: Path, n: int = N) -> np.ndarray:
    """(N, H, W) in the order of their numbers, of either form."""
    shards = sorted(folder.glob("*.npz"))
    if shards:
        return np.concatenate([np.load(path)["x"][..., 0] for path in shards]).astype(int)
    return np.stack([np.asarray(Image.open(folder / f"{i:06d}.png")) for i in range(n)]).astype(int)


def numbers(file: Path) -> dict[str, float]:
    """The newest of each name."""
    return {row["name"]: row["value"] for row in map(json.loads, file.read_text().splitlines())}


def refused(capsys, *words: str) -> str:
    """The one line that a command is refused with."""
    capsys.readouterr()
    assert main(list(words)) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1, said
    return said


def test_two_processes_draw_what_one_does(run, drawn, tmp_path):
    """Every number once, none twice, each within one grey level."""
    out = tmp_path / "two"
    assert main(["sample", f"ckpt={run}", f"n={N}", *FEW, "batch_size=16", "devices=2", f"out={out}"]) == 0
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in drawn.iterdir())
    assert abs(images(out) - images(drawn)).max() <= 1
    records = [json.loads((folder / "samples.json").read_text()) for folder in (out, drawn)]
    assert records[0] == records[1]
    assert records[0]["complete"] is True


def test_what_is_killed_goes_on_where_it_stopped(run, tmp_path):
    """Killed with two devices; continued with one, in other batches; not one sample is drawn again."""
    n, out = 2500, tmp_path / "out"
    told = [f"ckpt={run}", f"n={n}", *FEW, f"out={out}"]
    env = environment(Path(os.environ["GENLAB_CACHE"]))
    command = [sys.executable, "-m", "genlab", "sample", *told, "devices=2", "batch_size=10"]
    program = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while len(list(out.glob("0*.png"))) < 40:
        assert program.poll() is None, program.stderr.read()
        time.sleep(0.01)
    program.kill()
    program.wait()
    # Its processes end with it, and let go of the pipe.
    program.stderr.read()
    there = {path: path.stat().st_mtime_ns for path in out.glob("0*.png")}
    assert 0 < len(there) < n
    assert json.loads((out / "samples.json").read_text())["complete"] is False

    assert main(["sample", *told, "batch_size=500"]) == 0
    assert {path: path.stat().st_mtime_ns for path in there} == there
    whole = tmp_path / "whole"
    assert main(["sample", *told[:-1], "format=npz", "batch_size=333", f"out={whole}"]) == 0
    assert sorted(p.name for p in whole.glob("*.npz")) == [f"samples_{i:06d}.npz" for i in range(0, n, 1024)]
    assert abs(images(out, n) - images(whole)).max() <= 1


def test_ctrl_c_says_how_to_go_on(run, tmp_path):
    out = tmp_path / "out"
    told = ["sample", f"ckpt={run}", "n=20000", "format=npz", *FEW, "batch_size=64", f"out={out}"]
    env = environment(Path(os.environ["GENLAB_CACHE"]))
    program = subprocess.Popen(
        [sys.executable, "-m", "genlab", *told],
        cwd=tmp_path,
        env=env,
        stderr=subprocess.PIPE,
        text=True,
        # Also where the tests run in the background of a shell, which ignores SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )
    while not list(out.glob("*.npz")):
        assert program.poll() is None
        time.sleep(0.01)
    program.send_signal(signal.SIGINT)
    said = program.communicate(timeout=120)[1]
    assert program.returncode == 130
    assert "of 20000 samples are in" in said
    assert "the same command goes on" in said
    assert "Traceback" not in said


def test_a_folder_belongs_to_one_command(run, drawn, tmp_path, capsys):
    told = ["sample", f"ckpt={run}", *FEW]
    before = {path: path.stat().st_mtime_ns for path in drawn.iterdir()}
    assert main([*told, f"n={N}", f"out={drawn}", "batch_size=7"]) == 0
    assert "nothing is left to draw" in capsys.readouterr().out
    assert "seed 0, not 1" in refused(capsys, *told, f"n={N}", "seed=1", f"out={drawn}")
    assert f"n {N}, not {N + 1}" in refused(capsys, *told, f"n={N + 1}", f"out={drawn}")
    assert "nfe 2, not 3" in refused(capsys, *told, f"n={N}", "sampler.steps=3", f"out={drawn}")

    other = tmp_path / "other"
    shutil.copytree(run, other)
    held = torch.load(other / "checkpoints" / "last.ckpt", weights_only=True)
    name = next(name for name in held["state_dict"] if name.startswith("ema."))
    held["state_dict"][name] += 1
    torch.save(held, other / "checkpoints" / "last.ckpt")
    said = refused(capsys, "sample", f"ckpt={other}", *FEW, f"n={N}", f"out={drawn}")
    assert "holds samples of another checkpoint" in said

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    assert "holds other files" in refused(capsys, *told, "out=mine")
    assert "there is a file of this name" in refused(capsys, *told, "out=mine/thesis.txt")
    assert {path: path.stat().st_mtime_ns for path in drawn.iterdir()} == before


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("devices=4096", "devices=4096: there"),
        ("devices=0", "devices=0: give a number of at least 1, or auto"),
        ("devices=[0,1]", "devices=[0, 1]: give a number"),
        ("device=cpu:0 devices=2", "device=cpu:0 is one device"),
    ],
)
def test_devices_that_are_not_there_are_refused(run, told, message, tmp_path, capsys):
    for command in ("sample", "eval"):
        assert message in refused(capsys, command, f"ckpt={run}", *told.split())
    assert list(tmp_path.iterdir()) == []


def test_two_processes_measure_what_one_does(run, drawn):
    file = run / "evaluations.jsonl"
    told = [f"ckpt={run}", *FEW, "metric=[fid,kid,is,nll]", f"metric.n={N}", "metric.data=21", "estimator.t=3"]
    assert main(["eval", *told, "batch_size=50"]) == 0
    alone = numbers(file)
    file.unlink()
    assert main(["eval", *told, "devices=2", "batch_size=16"]) == 0
    together = numbers(file)
    assert len(file.read_text().splitlines()) == len(alone)
    assert alone.keys() == together.keys()
    assert {name.split("/")[0] for name in alone} == {"fid", "kid", "is", "nll"}
    assert together == pytest.approx(alone, rel=1e-4)

    # The files that were drawn are judged as the samples were, which never were files.
    assert main(["eval", f"samples={drawn}", "metric=[fid,kid,is]"]) == 0
    judged = numbers(drawn / "evaluations.jsonl")
    assert judged == pytest.approx({name: alone[name] for name in judged}, rel=1e-3)
    (drawn / "evaluations.jsonl").unlink()


def test_pictures_of_any_program_are_judged(drawn, tmp_path):
    """Nested folders, JPEG beside PNG, .npz files under other names, in several files or compressed: one answer."""
    x = images(drawn).astype(np.uint8)
    nested, arrays = tmp_path / "nested", tmp_path / "arrays"
    for i, picture in enumerate(x):
        folder = nested / str(i % 3)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{i}.png")
    (nested / "notes.txt").write_text("")
    arrays.mkdir()
    np.savez(arrays / "a.npz", x[:50, ..., None])
    np.savez_compressed(arrays / "b.npz", np.repeat(x[50:, ..., None], 3, axis=-1), np.zeros(3))
    values = []
    np.savez(tmp_path / "one.npz", x=x)
    for samples in (nested, arrays, tmp_path / "one.npz"):
        file = (samples if samples.is_dir() else tmp_path) / "evaluations.jsonl"
        assert main(["eval", f"samples={samples}", "data=digits", "metric=fid", "batch_size=32"]) == 0
        values.append(numbers(file)["fid/classifier-digits"])
    assert values == pytest.approx([values[0]] * 3, rel=1e-6)

    main(["eval", "samples=nested", "data=digits", "metric=fid", "metric.write_reference=reference.npz"])
    told = ["samples=nested", "data=digits", "metric=fid", "metric.reference=reference.npz"]
    assert main(["eval", *told]) == 0
    assert numbers(nested / "evaluations.jsonl")["fid/classifier-digits"] == pytest.approx(values[0], rel=1e-6)


def bad_samples(folder: Path) -> None:
    """Folders and files that cannot be judged, by name."""
    for name in ("empty", "text", "damaged", "mixed", "both", "points", "wrong", "truncated", "begun"):
        (folder / name).mkdir()
    grey = Image.fromarray(np.zeros((8, 8), np.uint8))
    (folder / "text" / "a.txt").write_text("a")
    (folder / "damaged" / "a.png").write_bytes(b"\x89PNG nothing")
    for i in range(80):
        grey.save(folder / "mixed" / f"{i:02d}.png")
    grey.resize((8, 9)).save(folder / "mixed" / "79.png")
    grey.save(folder / "both" / "a.png")
    np.savez(folder / "both" / "a.npz", x=np.zeros((4, 8, 8), np.uint8))
    np.savez(folder / "points" / "a.npz", x=np.zeros((4, 2), np.float32))
    np.savez(folder / "wrong" / "a.npz", mu=np.zeros(3))
    np.savez(folder / "whole.npz", x=np.zeros((400, 8, 8, 1), np.uint8))
    (folder / "truncated" / "a.npz").write_bytes((folder / "whole.npz").read_bytes()[:2000])
    np.savez(folder / "colour.npz", x=np.arange(80 * 192, dtype=np.uint8).reshape(80, 8, 8, 3))
    (folder / "begun" / "samples.json").write_text('{"complete": false}')
    (folder / "words.txt").write_text("a")


BAD = {
    "nowhere": "there is no such file or folder",
    "empty": "the folder is empty",
    "text": "the folder holds no pictures and no .npz files",
    "damaged": "a.png cannot be read",
    "mixed": "pictures of different sizes, 8x8 (00.png) and 8x9 (79.png)",
    "both": "it holds both pictures (a.png) and arrays (a.npz)",
    "points": "holds float32 (4, 2) under x; pictures are uint8",
    "wrong": "holds mu; pictures must stand under x or arr_0",
    "truncated": "is damaged or not an .npz file",
    "colour.npz": "holds pictures in colour, and the data are grey",
    "words.txt": "name a folder of pictures, or an .npz file",
    "begun": "not all samples are there",
}


def test_pictures_that_cannot_be_judged_are_named(tmp_path, capsys):
    bad_samples(tmp_path)
    for name, message in BAD.items():
        assert message in refused(capsys, "eval", f"samples={name}", "data=digits", "metric=fid"), name
    told = ("eval", "samples=whole.npz")
    assert "say what they are compared with" in refused(capsys, *told, "metric=fid")
    assert "metric=nll" in refused(capsys, *told, "data=digits", "metric=nll")
    assert "name one of them" in refused(capsys, *told, "data=digits", "ckpt=here")
    assert "there are 400 pictures" in refused(capsys, *told, "data=digits", "metric.n=401")
    assert "FID needs at least 65 samples" in refused(capsys, *told, "data=digits", "metric.n=64")
    assert "sampler" in refused(capsys, *told, "data=digits", "sampler=ddim")


class Counting:
    """A drawing of n points, which tells how many have been drawn."""

    def __init__(self, size: int) -> None:
        self.size, self.made = size, 0

    def __call__(self, indices):
        for start in range(0, len(indices), self.size):
            index = torch.tensor(indices[start : start + self.size])
            self.made += len(index)
            yield index, {"x": index[:, None].float().expand(-1, 2)}


@pytest.mark.parametrize("size", [100, 1024, 3000])
def test_samples_are_written_as_soon_as_a_file_is_full(tmp_path, size, monkeypatch):
    """So memory is bounded: by a file and a batch, however many samples there are."""
    form, drawing = Shards(tmp_path, Field((2,)), 50_000), Counting(size)
    held = []
    write = form.write

    def watched(first, samples):
        held.append(drawing.made - first)
        write(first, samples)

    monkeypatch.setattr(form, "write", watched)
    form.draw(drawing)
    assert max(held) <= 1024 + size
    x = np.concatenate([np.load(path)["x"] for path in sorted(tmp_path.glob("*.npz"))])
    assert (x[:, 0] == np.arange(50_000)).all()
    assert form.missing() == []


def test_files_that_are_missing_are_drawn_alone(tmp_path):
    form, drawing = Shards(tmp_path, Field((2,)), 5000), Counting(1000)
    form.draw(drawing)
    for first in (1024, 4096):
        form.path(first).unlink()
    assert form.missing() == [1024, 4096]
    assert form.done() == 5000 - 1024 - (5000 - 4096)
    drawing.made = 0
    form.draw(drawing)
    assert drawing.made == 1024 + (5000 - 4096)
    assert np.load(form.path(4096))["x"][:, 0].tolist() == list(range(4096, 5000))
    assert Pngs(tmp_path, Field((1, 4, 4), levels=256), 3).missing() == [0, 1, 2]


def test_batches_are_cut_to_the_sizes_wanted():
    batches = iter([{"x": torch.arange(0, 3)}, {"x": torch.arange(3, 4)}, {"x": torch.arange(4, 9)}])
    assert [part["x"].tolist() for part in cut(batches, [2, 4, 1])] == [[0, 1], [2, 3, 4, 5], [6]]


def test_a_part_of_an_archive_is_read_as_a_stream(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (30, 5, 4, 3), dtype=np.uint8)
    np.savez_compressed(tmp_path / "a.npz", arr_0=x[:13])
    np.savez(tmp_path / "b.npz", x=x[13:])
    pictures = pictures_in(tmp_path, 3)
    assert len(pictures) == 30
    parts = list(pictures.batches(range(4, 27), 6))
    assert max(map(len, parts)) <= 6
    assert torch.equal(torch.cat(parts), torch.from_numpy(x[4:27]).permute(0, 3, 1, 2))
