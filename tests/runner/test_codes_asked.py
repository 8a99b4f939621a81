"""What can be asked of codes, from the command line."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from program import TINY, Program, entries, in_process

from genlab.core.rng import Rng
from genlab.data.digits import Digits
from genlab.runner.load import load

SHORT = ("trainer=debug", "trainer.max_steps=2", "trainer.preview_every=0", "trainer.validate_every=0")
TEST = Digits().split("test")


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vae")
    words = ("model=vae", "output=gaussian", "encoder.hidden=[16]", "decoder.hidden=[16]", "bottleneck.size=3")
    assert in_process("train", *SHORT, *words, "data=digits", "hydra.run.dir=run", cwd=folder) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def vq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vq")
    words = ("model=vq_vae", "encoder.width=8", "decoder.width=8", "bottleneck.codes=16", "bottleneck.size=4")
    assert in_process("train", *SHORT, *words, "data=digits", "hydra.run.dir=run", cwd=folder) == 0
    return folder / "run"


def record(folder: Path) -> dict:
    return json.loads((folder / "samples.json").read_text())


def numbers(folder: Path) -> dict[str, dict]:
    return {row["name"]: row for row in map(json.loads, (folder / "evaluations.jsonl").read_text().splitlines())}


def test_the_codes_of_a_split_are_one_table(program: Program, here: Path, vq: Path) -> None:
    ended = program("sample", f"ckpt={vq}", "task=embed", "out=out", "batch_size=100")
    assert ended.status == 0, ended.err
    assert ended.out.splitlines()[-2:] == ["out/codes.npz", "out/scatter.png"]
    model, batch = load(str(vq)), TEST.batch(torch.arange(360))
    with np.load(here / "out" / "codes.npz") as held:
        for key, value in model.encode(batch).items():
            assert np.allclose(held[key], value.numpy(), atol=1e-6)
        assert held["index"].dtype == np.int64
        assert held["label"].tolist() == batch["label"].tolist()
        assert held["datum"].tolist() == list(range(360))
    assert record(here / "out")["n"] == 360
    assert not list((here / "out").glob("codes_*.npz"))
    assert Image.open(here / "out" / "scatter.png").size[0] > 400
    projector = here / "out" / "projector" / "00000" / "codes"
    lines = (projector / "metadata.tsv").read_text().splitlines()
    assert lines[0] == "datum\tlabel"
    assert lines[3].split("\t") == ["2", str(int(batch["label"][2]))]
    vectors = np.loadtxt(projector / "tensors.tsv")
    assert np.allclose(vectors, model.encode(batch)["z"].flatten(1), atol=1e-4)
    assert Image.open(projector / "sprite.png").size == (19 * 8, 19 * 8)
    assert "nothing is left to draw" in program("sample", f"ckpt={vq}", "task=embed", "out=out").out


def test_a_table_that_was_stopped_goes_on(program: Program, here: Path, vae: Path, monkeypatch) -> None:
    from genlab.runner import forms

    monkeypatch.setattr(forms, "SHARD", 20)
    monkeypatch.setattr(forms.Rows, "size", 20)
    words = ("sample", f"ckpt={vae}", "task=embed", "n=50", "out=out")
    with monkeypatch.context() as patch:
        patch.setattr(forms.Rows, "join", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        assert program(*words).status != 0
    (here / "out" / "codes_000020.npz").unlink()
    assert program(*words).status == 0
    with np.load(here / "out" / "codes.npz") as held:
        assert held["datum"].tolist() == list(range(50))
        assert np.allclose(held["z"], load(str(vae)).encode(TEST.batch(torch.arange(50)))["z"], atol=1e-6)


def test_a_traversal_is_a_grid_and_its_weights(program: Program, here: Path, vae: Path) -> None:
    words = ("sample", f"ckpt={vae}", "task=traverse", "task.points=5")
    ended = program(*words, "task.index=[3,1]", "out=out")
    assert ended.status == 0, ended.err
    strip = np.asarray(Image.open(here / "out" / "000001.png"))
    assert strip.shape == (4 * 9 - 1, 5 * 9 - 1)
    x = ((TEST.batch(torch.tensor([1]))["x"][0, 0] + 1) * 127.5).round()
    assert np.array_equal(strip[:8, :8], x)
    assert not (here / "out" / "000002.png").exists()
    rows = list(csv.DictReader((here / "out" / "latent_numbers.csv").open()))
    assert [f"z_{float(row['number']):.0f}" for row in rows] == [keys[0] for keys in record(here / "out")["layout"][1:]]
    assert program(*words, "task.origin=prior", "out=prior").status == 0
    assert record(here / "prior")["n"] == 1
    for more, said in (
        ("sampler=ddim", "draws no samples"),
        ("gif=true", "draws no samples"),
        ("label=3", "no labels"),
    ):
        ended = program(*words, more, "out=refused")
        assert ended.status == 2
        assert said in ended.err
    assert "refused" not in entries(here)


def test_means_between_levels_are_shown_as_they_are(program: Program, here: Path, vae: Path) -> None:
    """The digits have 17 levels, and a mean lies between them."""
    assert program("sample", f"ckpt={vae}", "task=reconstruct", "n=2", "out=out").status == 0
    strip = np.asarray(Image.open(here / "out" / "000000.png"))
    model, batch = load(str(vae)), TEST.batch(torch.tensor([0]))
    expected = ((model.decode(model.encode(batch))["x"][0, 0] + 1) * 127.5).round().clamp(0, 255)
    assert abs(strip[:, 9:].astype(int) - expected.numpy()).max() <= 1


def test_an_animation_needs_steps(program: Program, here: Path, vae: Path) -> None:
    ended = program("sample", f"ckpt={vae}", "n=2", "gif=true", "out=out")
    assert ended.status == 2
    assert "gif=true: the model makes data at once" in ended.err


def test_metrics_of_codes(program: Program, vq: Path) -> None:
    quick = ("metric.probe.c=[0.01]", "metric.probe.n_train=300")
    ended = program("eval", f"ckpt={vq}", "metric=[reconstruction,codebook,probe]", "batch_size=64", *quick)
    assert ended.status == 0, ended.err
    found, model = numbers(vq), load(str(vq))
    batch = TEST.batch(torch.arange(360))
    codes = model.encode(batch)
    mse = (model.decode(codes)["x"] - batch["x"]).square().flatten(1).mean(1)
    assert found["reconstruction/mse"]["value"] == pytest.approx(float(mse.mean()), rel=1e-5)
    assert found["reconstruction/psnr"]["how"]["data"] == "digits test"
    assert "reconstruction/ssim" not in found
    assert found["codebook/used"]["value"] == len(codes["index"].unique())
    assert found["codebook/share"]["how"]["places"] == codes["index"].numel()
    assert 0 < found["probe/accuracy"]["value"] <= 1
    assert found["probe/accuracy"]["how"]["n_train"] == 300


def test_reconstructions_are_judged_as_samples_are(program: Program, vq: Path, seen_little: Path, monkeypatch) -> None:
    monkeypatch.setenv("GENLAB_CACHE", str(seen_little))
    ended = program("eval", f"ckpt={vq}", "metric=reconstruction", "metric.reconstruction.fid=true")
    assert ended.status == 0, ended.err
    (name,) = (name for name in numbers(vq) if name.startswith("reconstruction/fid/"))
    assert numbers(vq)[name]["value"] > 0
    assert numbers(vq)[name]["how"]["n"] == 360


def test_a_diffusion_model_is_probed_by_its_features(program: Program, trained: Path, here: Path) -> None:
    import shutil

    shutil.copytree(trained, here / "run")
    quick = ("metric.probe.c=[0.1]", "metric.probe.n_train=100", "metric.probe.n_validation=50", "metric.data=40")
    assert program("eval", "ckpt=run", "metric=probe", *quick).status == 0
    how = numbers(here / "run")["probe/accuracy"]["how"]
    assert (how["t"], how["n"], how["n_train"], how["model"]) == (0.05, 40, 100, "ddpm")
    model, batch = load(str(here / "run")), TEST.batch(torch.arange(40))
    rng = Rng(0, torch.arange(40)).stage("features")
    assert model.features(batch, rng, 0.05).shape[1] == how["dimension"]
    ended = program("eval", "ckpt=run", "metric=probe", "metric.probe.layer=sideways")
    assert ended.status == 2
    assert "metric.probe: layer=sideways: UNet has no such layer" in ended.err


def test_what_codes_cannot_be_asked_is_a_line(program: Program, here: Path, trained: Path, vae: Path, vq: Path) -> None:
    assert program("train", *TINY, "conditioner=label", "trainer.max_steps=1", "hydra.run.dir=told").status == 0
    for words, said in (
        (("eval", f"ckpt={vae}", "metric=codebook"), "it has no codebook"),
        (("eval", f"ckpt={trained}", "metric=reconstruction"), "model=ddpm cannot have it; models that can: "),
        (("eval", "ckpt=told", "metric=probe"), "conditioner.dropout=0"),
        (("eval", f"ckpt={vae}", "metric=probe", "metric.split=validation"), "leave metric.split out"),
        (("sample", f"ckpt={vq}", "task=traverse"), "task=traverse: it is for codes that are vectors"),
        (("sample", f"ckpt={trained}", "task=embed"), "GaussianDiffusion cannot encode"),
        (("sample", f"ckpt={vae}", "task=denoise"), "was not trained to take noise away"),
        (("sample", f"ckpt={vae}", "task=embed", "n=400"), "datum 399 is asked for"),
        (("sample", f"ckpt={vae}", "task=embed", "n=0"), "n=0: must be at least 1"),
    ):
        ended = program(*words)
        assert ended.status == 2, words
        assert ended.err.count("\n") == 1, ended.err
        assert said in ended.err
