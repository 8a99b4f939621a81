"""`genlab sample task=...` from outside: what each task leaves, and what is refused before it is written."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from program import TINY, Program, entries, files, in_process

from genlab.core.spec import Field
from genlab.core.units import from_levels
from genlab.data.digits import Digits
from genlab.runner.pictures import POINT_RANGE, panels, read_note, strips

QUICK = ("sampler=ddim", "sampler.steps=4")
# Words of each task, the keys that a picture shows, and the size of a strip of images of 8x8 pixels.
TASKS: dict[str, tuple[tuple[str, ...], dict[str, int], tuple[int, int]]] = {
    "generate": (QUICK, {"x": 1}, (8, 8)),
    "reconstruct": (QUICK, {"data": 1, "x": 1}, (8, 17)),
    "interpolate": ((*QUICK, "task.points=3"), {"start": 1, "x": 3, "end": 1}, (8, 44)),
    "inpaint": ((*QUICK, "task.box=[4,0,4,8]"), {"data": 1, "masked": 1, "x": 1}, (8, 26)),
    "denoise": ((*QUICK, "task.points=3"), {"forward": 3, "reverse": 3, "difference": 3}, (26, 26)),
    "compress": (("task.points=3",), {"x": 3, "data": 1}, (8, 35)),
}
ALL = pytest.mark.parametrize("task", TASKS)


def record(folder: Path) -> dict:
    return json.loads((folder / "samples.json").read_text())


def digits(n: int) -> np.ndarray:
    """The first test data as uint8 (n, H, W, 1)."""
    x = Digits().split("test").batch(torch.arange(n))["x"]
    return ((x + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


@ALL
def test_strips_and_a_record(program: Program, here: Path, trained: Path, task: str) -> None:
    words, shown, size = TASKS[task]
    ended = program("sample", f"ckpt={trained}", f"task={task}", "n=3", "out=out", *words)
    assert ended.status == 0, ended.err
    assert ended.out.endswith("out/grid.png\n")
    strip = np.asarray(Image.open(here / "out" / "000002.png"))
    assert strip.shape == size
    assert (here / "out" / "grid.png").exists()
    said = record(here / "out")
    assert said["complete"] is True
    assert [key for row in said["layout"] for key in row] == list(shown)
    assert said.get("data") == (None if task == "generate" else "digits test")
    if "data" in shown:
        at = 0 if task != "compress" else 27
        assert np.array_equal(strip[:, at : at + 8], digits(3)[2, ..., 0])


@ALL
def test_arrays_hold_every_key(program: Program, here: Path, trained: Path, task: str) -> None:
    words, shown, _ = TASKS[task]
    assert program("sample", f"ckpt={trained}", f"task={task}", "n=3", "format=npz", "out=out", *words).status == 0
    with np.load(here / "out" / "samples_000000.npz") as held:
        for key, count in shown.items():
            assert held[key].shape == ((3, 8, 8, 1) if count == 1 else (3, count, 8, 8, 1))
            assert held[key].dtype == np.uint8
        if "data" in shown:
            assert np.array_equal(held["data"], digits(3))
        if task == "inpaint":
            assert np.array_equal(held["x"][:, :4], held["data"][:, :4])
            assert (held["masked"][:, 4:] == 128).all()
    assert (here / "out" / "grid.png").exists()


@ALL
def test_what_was_stopped_goes_on_to_the_same_files(program: Program, here: Path, trained: Path, task: str) -> None:
    words = (f"ckpt={trained}", f"task={task}", "n=5", *TASKS[task][0])
    assert program("sample", *words, "out=whole").status == 0
    assert program("sample", *words, "out=again", "batch_size=2").status == 0
    for name in ("000001.png", "000004.png", "grid.png"):
        (here / "again" / name).unlink()
    (here / "again" / "samples.json").write_text(json.dumps({**record(here / "again"), "complete": False}))
    kept = (here / "again" / "000002.png").stat().st_mtime_ns
    assert program("sample", *words, "out=again", "batch_size=3").status == 0
    assert (here / "again" / "000002.png").stat().st_mtime_ns == kept
    whole, again = files(here / "whole"), files(here / "again")
    assert whole.keys() == again.keys()
    for name in (name for name in whole if name[0] == "0"):
        pictures = [np.asarray(Image.open(here / folder / name)).astype(int) for folder in ("whole", "again")]
        assert abs(pictures[0] - pictures[1]).max() <= 1
    assert record(here / "whole") == record(here / "again")


def test_errors_are_reported_one_by_one_and_as_a_mean(program: Program, here: Path, trained: Path) -> None:
    words = ("sample", f"ckpt={trained}", "task=reconstruct", "task.index=[7,2]", "n=4", *QUICK)
    ended = program(*words, "out=png")
    assert "reconstruct/mse" in ended.out
    assert "data digits test" in ended.out
    numbers = {row["name"]: row for row in json.loads((here / "png" / "numbers.json").read_text())}
    rows = list(csv.DictReader((here / "png" / "numbers.csv").open()))
    assert [row["datum"] for row in rows] == ["7", "2", "7", "2"]
    for name in ("mse", "psnr"):
        values = [float(row[name]) for row in rows]
        assert numbers[f"reconstruct/{name}"]["value"] == pytest.approx(sum(values) / 4)
    assert numbers["reconstruct/psnr"]["unit"] == "dB"
    assert json.loads(read_note(here / "png" / "000001.png"))["mse"] == pytest.approx(float(rows[1]["mse"]))
    assert program(*words, "out=npz", "format=npz").status == 0
    assert (here / "npz" / "numbers.csv").read_text() == (here / "png" / "numbers.csv").read_text()


def test_a_code_leaves_its_curve(program: Program, here: Path, trained: Path) -> None:
    ended = program("sample", f"ckpt={trained}", "task=compress", "n=3", "out=out")
    assert "rate distortion" in ended.out
    rows = list(csv.DictReader((here / "out" / "rate_distortion.csv").open()))
    assert len(rows) == 20
    rates = [float(row["rate (bits/dim)"]) for row in rows]
    assert rates == sorted(rates)
    numbers = {row["name"]: row["value"] for row in json.loads((here / "out" / "numbers.json").read_text())}
    assert rates[-1] == pytest.approx(numbers["compress/sent"])
    assert Image.open(here / "out" / "rate_distortion.png").size[0] > 600
    assert "sampler" not in record(here / "out")


def test_each_task_has_a_folder_of_its_own(program: Program, trained: Path, here: Path) -> None:
    shutil.copytree(trained / "checkpoints", here / "run" / "checkpoints")
    for words in (("task=reconstruct",), ("task=reconstruct", "task.split=train"), ("task=generate",)):
        assert program("sample", "ckpt=run", "n=2", *QUICK, *words).status == 0
    made = sorted(path.name for path in (here / "run" / "samples").iterdir())
    stem = "step_0000004_reconstruct_ddim_4_seed_0_n_2"
    assert made == ["step_0000004_ddim_4_seed_0_n_2", stem, f"{stem}_2"]


def test_data_may_lie_elsewhere_but_must_be_of_a_kind(program: Program, here: Path, trained: Path) -> None:
    words = ("sample", f"ckpt={trained}", "task=reconstruct", "n=2", *QUICK)
    assert program(*words, "data=digits", "out=out").status == 0
    ended = program(*words, "data=toy2d", "out=other")
    assert ended.status == 2
    assert "the model was trained on 1x8x8 of 17 levels" in ended.err
    assert "other" not in entries(here)


def test_a_mask_is_a_file_that_decides_the_samples(program: Program, here: Path, trained: Path) -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5, 1:7] = 255
    Image.fromarray(mask).save(here / "my mask=1.png")
    words = ("sample", f"ckpt={trained}", "task=inpaint", "task.mask=my mask=1.png", "n=2", *QUICK)
    ended = program(*words, "task.resample=2", "out=out")
    assert ended.status == 0, ended.err
    strip = np.asarray(Image.open(here / "out" / "000001.png"))
    assert np.array_equal(strip[:, 18:][mask == 0], digits(2)[1, ..., 0][mask == 0])
    Image.fromarray(255 - mask).save(here / "my mask=1.png")
    ended = program(*words, "task.resample=2", "out=out")
    assert ended.status == 2
    assert "it holds samples of task" in ended.err


def test_conditional_models_are_told_what_the_data_are(program: Program, here: Path, conditional: Path) -> None:
    words = ("sample", f"ckpt={conditional}", *QUICK, "n=3", "format=npz")
    labels = Digits().split("test").batch(torch.arange(3))["label"].tolist()
    told = {
        "own": (["task=inpaint", "task.box=[4,0,4,8]"], labels),
        "asked": (["task=inpaint", "task.box=[4,0,4,8]", "label=3"], [3, 3, 3]),
        "reconstruct": (["task=reconstruct"], labels),
        "denoise": (["task=denoise", "task.points=3"], labels),
    }
    for name, (task, wanted) in told.items():
        assert program(*words, *task, f"out={name}").status == 0
        with np.load(here / name / "samples_000000.npz") as held:
            assert held["label"].tolist() == wanted
    for task in (("task=interpolate", "task.points=3", *QUICK), ("task=compress", "task.points=2")):
        assert program(*words[:2], "n=2", *task, f"out={task[0]}").status == 0


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on points in the plane."""
    folder = tmp_path_factory.mktemp("points")
    words = [word for word in TINY if not word.startswith("network")]
    assert in_process("train", *words, "data=toy2d", "network.width=16", "hydra.run.dir=run", cwd=folder) == 0
    return folder / "run"


@pytest.mark.parametrize("task", [task for task in TASKS if task != "inpaint"])
def test_points_are_shown_as_clouds(program: Program, here: Path, points: Path, task: str) -> None:
    ended = program("sample", f"ckpt={points}", f"task={task}", "n=6", "out=out", *TASKS[task][0])
    assert ended.status == 0, ended.err
    assert Image.open(here / "out" / "grid.png").size[0] >= 400
    with np.load(here / "out" / "samples_000000.npz") as held:
        assert held["x"].dtype == np.float32
        assert held["x"].shape[-1] == 2


def test_a_cloud_for_each_thing_that_is_shown() -> None:
    x = torch.full((4, 2), POINT_RANGE / 2)
    picture = panels({"x": x, "path": torch.stack([x, -x], 1)}, (("x",), ("path",)), Field((2,)))
    assert picture.shape == (3, 401, 401)
    halves = (picture[:, :200, :200], picture[:, 201:, :200], picture[:, 201:, 201:])
    dark = [(half.float().mean(0) < 200)[10:-10, 10:-10].nonzero().float().mean(0) for half in halves]
    assert torch.allclose(dark[0], dark[1])
    assert dark[1][0] < 100 < dark[2][0]


def test_sequences_of_levels_are_lines_of_pixels() -> None:
    field = Field((6,), levels=2)
    x = from_levels(torch.tensor([[0, 1, 0, 0, 1, 1], [1, 1, 1, 0, 0, 0]]), 2)
    picture = panels({"x": x}, (("x",),), field)
    assert picture.shape[0] == 3
    scale = 512 // 6
    assert torch.equal(picture[0, ::scale, ::scale] == 255, x > 0)


def test_a_strip_has_lines_between_its_images() -> None:
    field = Field((1, 2, 2), levels=2)
    x = torch.full((3, 1, 2, 2), 0.5)
    strip = strips({"x": x, "path": torch.stack([x, -x], 1)}, (("x", "path"), ("x",)), field)
    assert strip.shape == (3, 1, 5, 8)
    # A sample is rounded to its levels, black and white here; what leads to it is not.
    high, low = round(1.5 * 127.5), round(0.5 * 127.5)
    assert strip[0, 0, 0].tolist() == [255, 255, 128, high, high, 128, low, low]
    assert strip[0, 0, 2].tolist() == [128] * 8
    assert strip[0, 0, 4].tolist() == [255, 255, *[128] * 6]


REFUSED = {
    ("task=inpaint",): "task: either mask, a file, or box, [top,left,height,width], must be given",
    ("task=inpaint", "task.mask=nowhere.png"): "task.mask=nowhere.png: there is no such file",
    ("task=inpaint", "task.mask=text"): "task.mask=text: it cannot be read as a picture",
    ("task=inpaint", "task.mask=large.png"): "task.mask: it has 9x8 pixels, and the images have 8x8",
    (
        "task=inpaint",
        "task.box=[4,0,5,8]",
    ): "task.box=[4, 0, 5, 8]: it ends at row 9 and column 8",
    ("task=inpaint", "task.box=[4,0]"): "task.box=[4, 0]: must be [top,left,height,width]",
    ("task=inpaint", "task.box=low"): "task.box: must be a list of int or null, not low",
    ("task=inpaint", "task.box=[0,0,1,1]", "sampler=rk45", "task.resample=2"): "sampler=rk45 chooses its own steps",
    ("task=reconstruct", "n=361"): "datum 360 is asked for, and the test split of digits has 360 data",
    ("task=reconstruct", "task.index=[3,400]"): "datum 400 is asked for",
    ("task=reconstruct", "task.index=-1"): "task.index=-1: data are numbered from 0",
    ("task=reconstruct", "task.split=dev"): "task.split: must be one of train, validation, test, not dev",
    ("task=reconstruct", "sampler=ancestral"): "sampler=ancestral: it cannot be run backwards",
    ("task=reconstruct", "label=3"): "label=3: task=reconstruct takes the labels of its data",
    ("task=interpolate", "task.images=[3,400]"): "datum 400 is asked for",
    ("task=interpolate", "task.images=[3]"): "task.images=[3]: name two numbers",
    ("task=interpolate", "task.path=curved"): "task.path: must be one of spherical, straight, not curved",
    ("task=interpolate", "sampler=ancestral"): "sampler=ancestral: it cannot be run backwards",
    ("task=colorize",): "task=colorize: it is for images in colour, and the data are grey already",
    ("task=denoise", "task.points=30"): "task.points=30: the sampler has 4 steps; choose at most 5",
    ("task=denoise", "sampler=rk45"): "sampler=rk45 chooses its own times",
    ("task=compress",): "sampler: task=compress draws no samples; leave it out",
    ("task=generate", "data=digits"): "data: task=generate is given no data; leave it out",
    ("task=generate", "task.split=test"): "task.split: there is no such option",
    ("task=paint",): "task=paint: there is no such task; did you mean inpaint",
}


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_what_cannot_be_done_is_a_line(program: Program, here: Path, trained: Path, words: tuple[str, ...]) -> None:
    (here / "text").write_text("mine")
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(here / "large.png")
    before, names = files(trained), entries(here)
    told = [] if any(word.startswith("sampler=") for word in words) else QUICK
    ended = program("sample", f"ckpt={trained}", *told, *words)
    assert ended.status == 2, ended
    assert ended.err.startswith("genlab: ")
    assert ended.err.count("\n") == 1, ended.err
    assert REFUSED[words] in ended.err
    assert files(trained) == before
    assert entries(here) == names


def test_an_animation_needs_a_way_from_noise(program: Program, here: Path, trained: Path) -> None:
    ended = program("sample", f"ckpt={trained}", "task=compress", "gif=true", "n=2", "out=out")
    assert ended.status == 2
    assert "gif=true: task=compress draws no samples" in ended.err
    words = (f"ckpt={trained}", "task=interpolate", "task.points=3", "gif=true", "n=2", *QUICK, "out=out")
    assert program("sample", *words).status == 0
    assert Image.open(here / "out" / "path.gif").n_frames > 2


def test_strips_are_not_judged_as_samples(program: Program, here: Path, trained: Path) -> None:
    words = ("sample", f"ckpt={trained}", "task=inpaint", "task.box=[4,0,4,8]", "n=2", *QUICK)
    assert program(*words, "out=strips").status == 0
    ended = program("eval", "samples=strips", "metric=fid")
    assert ended.status == 2
    assert "draw them with format=npz" in ended.err
