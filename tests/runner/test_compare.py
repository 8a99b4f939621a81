"""One table of what was measured: nothing left out, nothing mixed that was computed in several ways."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from program import Ended, Program, entries, environment, files

from genlab.runner.comparison import Comparison
from genlab.runner.evaluations import read
from genlab.runner.nfe_plot import lines
from genlab.runner.page import TextColumn, page

DRAWN = {"model": "ddpm", "step": 500, "weights": "ema", "trained_on": "digits", "seed": 0}
BY_SAMPLES = {"features": "classifier-digits", "n": 500, "reference": "digits train+validation", "reference_n": 1437}
BOUND = {"bound": "upper bound", "estimator": "variational bound", "n": 360, "data": "digits test"}


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    """A run of which these numbers were measured, in this order."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "evaluations.jsonl", "a", encoding="utf-8") as file:
        for row in rows:
            source = {"checkpoint": f"{folder}/checkpoints/last.ckpt"}
            file.write(
                json.dumps({"time": "2026-01-31T12:00:00+00:00", **source, "error": None, "unit": "", **row}) + "\n"
            )
    return folder


def fid(value: float, sampler: str = "ddim", nfe: float = 10, **how: Any) -> dict[str, Any]:
    speed = {"images_per_second": 1000 / nfe, "device": "cpu with 1 thread", "batch_size": 256}
    said = {**BY_SAMPLES, **DRAWN, "sampler": sampler, "steps": nfe, "nfe": nfe, **speed, **how}
    return {"name": f"fid/{said['features']}", "value": value, "how": said}


def nll(value: float, unit: str = "bits-per-dim", **how: Any) -> dict[str, Any]:
    return {"name": f"nll/{unit}", "value": value, "error": 0.1, "unit": unit, "how": {**BOUND, **DRAWN, **how}}


def table(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((out / "compare.csv").read_text())))


def assert_one_line(ended: Ended, *said: str) -> None:
    assert ended.status == 2, ended
    assert ended.err.count("\n") == 1, ended.err
    assert all(part in ended.err for part in said), ended.err
    assert not ended.out


def test_it_needs_neither_torch_nor_hydra(here: Path) -> None:
    written(here / "run", fid(7.5, nfe=5), fid(5.5, nfe=20))
    code = """
import sys
from genlab.cli import main
assert main(["compare", "run"]) == 0
assert not {"torch", "hydra", "omegaconf", "lightning"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=here, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert {path.name for path in (here / "run").iterdir()} == {
        "evaluations.jsonl",
        "compare.txt",
        "compare.csv",
        "compare.png",
    }
    assert Image.open(here / "run" / "compare.png").size[0] > 500
    shown = done.stdout.splitlines()
    assert shown[-3:] == ["run/compare.txt", "run/compare.csv", "run/compare.png"]
    assert (here / "run" / "compare.txt").read_text().splitlines() == shown[:-3]


def test_a_row_says_all_that_was_measured(program: Program, here: Path) -> None:
    measured = fid(7.5), {**fid(8.25), "name": "is/classifier-digits", "error": 0.25}, nll(2.5), nll(110.0, "nats")
    written(here / "run", *measured)
    ended = program("compare", "run")
    assert ended.status == 0, ended.err
    (row,) = table(here / "run")
    assert (row["run"], row["model"], row["data"], row["sampler"]) == ("run", "ddpm", "digits", "ddim")
    assert (row["nfe"], row["images_per_second"], row["step"], row["weights"]) == ("10", "100.0", "500", "ema")
    assert (row["fid/classifier-digits"], row["is/classifier-digits"]) == ("7.5", "8.25")
    assert (row["nll/bits-per-dim"], row["nll/nats"], row["nll/nats error"]) == ("2.5", "110.0", "0.1")
    (line,) = [line for line in ended.out.splitlines() if line.startswith("run  ddpm")]
    assert " ".join(line.split()) == "run ddpm digits ddim 10 7.500 8.250 ± 0.25 2.500 ± 0.1 110.0 ± 0.1 100.0"
    notes = " ".join(ended.out.split())
    for part in ("step 500", "weights ema", "n 500", "reference digits train+validation", "upper bound", "digits test"):
        assert part in notes


def test_the_newest_value_counts(program: Program, here: Path) -> None:
    written(here / "run", fid(9.0), fid(8.0, nfe=20), fid(7.0), nll(3.0), nll(2.0))
    assert program("compare", "run").status == 0
    assert [row["fid/classifier-digits"] for row in table(here / "run")] == ["7.0", "8.0"]
    assert [row["nll/bits-per-dim"] for row in table(here / "run")] == ["2.0", "2.0"]


@pytest.mark.parametrize("changed", [{"step": 600}, {"weights": "raw"}, {"eta": 0.5}, {"seed": 1}, {"guidance": "x"}])
def test_other_weights_and_other_settings_are_other_rows(program: Program, here: Path, changed: dict[str, Any]) -> None:
    written(here / "run", fid(9.0, eta=0.0), fid(8.0, **{"eta": 0.0, **changed}))
    ended = program("compare", "run")
    assert sorted(row["fid/classifier-digits"] for row in table(here / "run")) == ["8.0", "9.0"]
    ((key, value),) = changed.items()
    said = [line for line in ended.out.splitlines() if f"{key} {value}" in line]
    assert len(said) == 1
    assert "8.000" in said[0]


@pytest.mark.parametrize(
    "changed", [{"n": 1000}, {"reference": "digits test", "reference_n": 360}, {"classifier_weights": "other"}]
)
def test_values_computed_otherwise_are_marked(program: Program, here: Path, changed: dict[str, Any]) -> None:
    weights = {"classifier_weights": "first"}
    written(here / "run", fid(9.0, **weights), fid(8.0, **{**weights, **changed}), fid(4.0, nfe=20, **weights))
    ended = program("compare", "run")
    shown = ended.out.splitlines()
    assert sum("9.000 [a]" in line for line in shown) == 1
    assert sum("8.000 [b]" in line for line in shown) == 1
    assert sum("4.000 [a]" in line for line in shown) == 1
    notes = " ".join(ended.out.split())
    for key, value in changed.items():
        assert f"{key} {value}" in notes[notes.index("[b] ", notes.index("FID classifier-digits:")) :]
    first, second = table(here / "run")
    assert (first["fid/classifier-digits [a]"], first["fid/classifier-digits [b]"]) == ("9.0", "8.0")
    assert (second["fid/classifier-digits [a]"], second["fid/classifier-digits [b]"]) == ("4.0", "")


def test_other_features_are_another_column(program: Program, here: Path) -> None:
    written(here / "run", fid(9.0), fid(30.0, features="inception-2015"))
    ended = program("compare", "run")
    (row,) = table(here / "run")
    assert (row["fid/classifier-digits"], row["fid/inception-2015"]) == ("9.0", "30.0")
    assert "FID inception-2015: n 500" in ended.out
    assert "[a]" not in ended.out


def test_likelihoods_of_several_kinds_are_told_apart(program: Program, here: Path) -> None:
    written(here / "one", nll(2.5))
    written(here / "other", nll(2.4, bound="estimate", estimator="ode", model="edm"))
    ended = program("compare", "one", "other", "out=out")
    assert ended.status == 0
    assert "2.500 ± 0.1 [a]" in ended.out
    assert "2.400 ± 0.1 [b]" in ended.out
    assert "no fid of these runs has an NFE" in ended.err
    assert {path.name for path in (here / "out").iterdir()} == {"compare.txt", "compare.csv"}


def test_runs_of_any_family_stand_together(program: Program, here: Path) -> None:
    """With a sampler or without, with a likelihood alone, pictures of any program, and of one that lies in a sweep."""
    written(here / "outputs" / "diffusion", fid(7.0))
    gan = {key: value for key, value in fid(20.0)["how"].items() if key not in ("sampler", "steps", "nfe")}
    written(
        here / "outputs" / "sweep" / "0",
        {"name": "fid/classifier-digits", "value": 20.0, "how": {**gan, "model": "gan"}},
    )
    written(here / "outputs" / "sweep" / "1", nll(1.5, model="flow", weights="raw", estimator="closed form"))
    pictures = {
        "name": "fid/classifier-digits",
        "value": 3.0,
        "how": {**BY_SAMPLES, "samples": "anywhere"},
        "samples": "a",
    }
    written(here / "outputs" / "diffusion" / "samples" / "drawn", {**pictures, "checkpoint": ""})
    halves = {"name": "fid-halves/classifier-digits", "value": 5.25, "how": {**BY_SAMPLES, "n": 718}}
    written(here / "outputs" / "diffusion", halves)
    ended = program("compare")
    assert ended.status == 0, ended.err
    (out,) = (here / "outputs").glob("*_compare")
    rows = {row["run"]: row for row in table(out)}
    assert set(rows) == {"diffusion", "drawn", "sweep/0", "sweep/1"}
    assert [rows[run]["fid/classifier-digits"] for run in ("diffusion", "drawn", "sweep/0", "sweep/1")] == [
        "7.0",
        "3.0",
        "20.0",
        "",
    ]
    assert (rows["sweep/1"]["model"], rows["sweep/1"]["nll/bits-per-dim"]) == ("flow", "1.5")
    assert "fid-halves/classifier-digits 5.250: " in ended.out
    assert len(rows) == 4


def test_files_and_checkpoints_that_lie_together_are_told_apart(program: Program, here: Path) -> None:
    for name, value in (("a", 1.0), ("b", 2.0)):
        how = {**BY_SAMPLES, "samples": f"{name}.npz"}
        written(
            here / "arrays", {"name": "fid/f", "value": value, "how": how, "samples": f"{name}.npz", "checkpoint": ""}
        )
        written(here / "alone", {**fid(value), "checkpoint": f"there/{name}.ckpt"})
    assert program("compare", "arrays", "alone", "out=out").status == 0
    assert [row["run"] for row in table(here / "out")] == ["a.npz", "b.npz", "a.ckpt", "b.ckpt"]


def test_runs_of_one_name_are_told_apart(program: Program, here: Path) -> None:
    written(here / "one" / "run", fid(1.0))
    written(here / "other" / "run", fid(2.0))
    assert program("compare", "one", "other/run", "one/run/evaluations.jsonl", "out=out").status == 0
    rows = [(row["run"], row["fid/classifier-digits"]) for row in table(here / "out")]
    assert rows == [("one/run", "1.0"), ("other/run", "2.0")]


def test_records_of_before_steps_were_told_are_the_same_setting(program: Program, here: Path) -> None:
    old = fid(9.0)
    del old["how"]["steps"], old["how"]["trained_on"], old["how"]["images_per_second"]
    written(here / "run", old, fid(7.0))
    assert program("compare", "run").status == 0
    (row,) = table(here / "run")
    assert (row["fid/classifier-digits"], row["data"], row["images_per_second"]) == ("7.0", "digits", "100.0")


def test_the_best_come_first_where_that_is_asked_for(program: Program, here: Path) -> None:
    scores = [{**fid(value, nfe=nfe), "name": "is/f"} for value, nfe in ((3.0, 5), (9.0, 10))]
    written(here / "run", fid(7.0, nfe=5), fid(5.0, nfe=10), fid(6.0, nfe=20), fid(float("nan"), nfe=2), *scores)
    for by, expected in (
        ("fid", ["10", "20", "5", "2"]),
        ("is", ["10", "5", "2", "20"]),
        ("nfe", ["2", "5", "10", "20"]),
        ("images_per_second", ["2", "5", "10", "20"]),
    ):
        assert program("compare", "run", f"sort={by}").status == 0
        assert [row["nfe"] for row in table(here / "run")] == expected, by


def test_evaluations_that_an_adaptive_sampler_took_are_no_setting(program: Program, here: Path) -> None:
    first, second = fid(9.0, "rk45", 86.5, rtol=1e-3), fid(7.0, "rk45", 88, rtol=1e-3)
    for row in (first, second):
        del row["how"]["steps"]
    written(here / "run", first, second)
    assert program("compare", "run").status == 0
    assert [(row["nfe"], row["fid/classifier-digits"]) for row in table(here / "run")] == [("88", "7.0")]


def test_pictures_of_another_metric(program: Program, here: Path) -> None:
    written(here / "run", *({**fid(value), "name": "kid/f"} for value in (0.5, 0.25)))
    assert program("compare", "run", "metric=kid").status == 0
    assert (here / "run" / "compare.png").exists()
    assert_one_line(program("compare", "run", "metric=precision"), "metric=precision: it was not measured", "kid")


def test_a_line_is_a_sampler_with_its_settings(program: Program, here: Path) -> None:
    """By run, settings and way of computing; its points by NFE, which only those have that were drawn by a sampler."""
    twice = [fid(value, "unipc", nfe, order=order) for order in (2, 3) for value, nfe in ((4.0, 20), (6.0 + order, 5))]
    other = {key: value for key, value in fid(9.0)["how"].items() if key not in ("nfe", "steps", "sampler")}
    unseen = {"name": "fid/classifier-digits", "value": 9.0, "how": other}
    written(
        here / "one", fid(3.0, nfe=1000), fid(7.0, nfe=5), fid(5.0, nfe=20), fid(8.0, nfe=5, n=1000), *twice, unseen
    )
    written(here / "other", fid(2.0, nfe=10, step=900), nll(3.0, step=900))
    comparison = Comparison([m for run in ("one", "other") for m in read(here / run / "evaluations.jsonl")])
    column = next(column for column in comparison.columns if column.metric == "fid")
    found = {(line.run, line.name): [point[:2] for point in line.points] for line in lines(comparison, column)}
    assert found == {
        ("one", "ddim (n 500)"): [(5, 7.0), (20, 5.0), (1000, 3.0)],
        ("one", "ddim (n 1000)"): [(5, 8.0)],
        ("one", "unipc order 2 (n 500)"): [(5, 8.0), (20, 4.0)],
        ("one", "unipc order 3 (n 500)"): [(5, 9.0), (20, 4.0)],
        ("other", "ddim (n 500)"): [(10, 2.0)],
    }


MISTAKES = {
    "nowhere": "nowhere: there is no such run",
    "rum": "rum: there is no such run; did you mean run?",
    "empty": "empty: nothing was measured there; measure a run by genlab eval",
    "notes.txt": "notes.txt: name a run folder",
    "broken": "evaluations.jsonl: line 2 is broken: it is not JSON",
    "cut": "evaluations.jsonl: line 1 is broken: it is not JSON",
    "foreign": "evaluations.jsonl: line 1 is broken: it has no name",
    "nested": "evaluations.jsonl: line 3 is broken: its how.n is list",
    "words": "evaluations.jsonl: line 1 is broken: its value is str",
    "nothing": "there is no number of a run in it",
    "out=notes.txt": "out=notes.txt: there is a file of this name; name a folder",
    "out=notes.txt/out": "could not be saved",
    "metric=fit": "metric=fit: choose fid, kid, is, precision, recall",
    "sort=speed": "sort=speed: choose fid",
    "sort=kid": "sort=kid: it was not measured of these runs; there are fid",
    "mtric=kid": "mtric=kid: there is no such option; did you mean metric?",
    "-m": "-m: compare has no flags",
}


@pytest.mark.parametrize("word", MISTAKES)
def test_what_cannot_be_compared_is_said_in_one_line(program: Program, here: Path, word: str) -> None:
    (here / "notes.txt").write_text("mine")
    written(here / "run", fid(7.0))
    whole = json.dumps(fid(7.0) | {"error": None, "unit": ""})
    nested = json.loads(whole)
    nested["how"]["n"] = [3]
    for name, text in {
        "empty": None,
        "broken": f"{whole}\n{whole[:-9]}\n{whole}\n",
        "cut": whole[:40],
        "foreign": '{"loss": 3}\n',
        "nested": f"{whole}\n\n{json.dumps(nested)}\n",
        "words": whole.replace("7.0", '"seven"') + "\n",
        "nothing": "\n",
    }.items():
        (here / name).mkdir()
        if text is not None:
            (here / name / "evaluations.jsonl").write_text(text)
    before = files(here)
    assert_one_line(program("compare", *(() if word == "nothing" else ("run",)), word), MISTAKES[word])
    assert files(here) == before


def test_without_runs_it_says_so(program: Program, here: Path) -> None:
    assert_one_line(program("compare"), "there are no evaluations under outputs")
    assert not entries(here)


def test_debugging_shows_where(program: Program, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENLAB_DEBUG", "1")
    ended = program("compare", "nowhere")
    assert ended.status == 2
    assert ended.err.startswith("Traceback")
    assert ended.err.splitlines()[-1] == "genlab: nowhere: there is no such run"


def test_a_run_may_have_a_name_like_an_option(program: Program, here: Path) -> None:
    written(here / "lr=0.1 [x]", fid(7.0))
    ended = program("compare", "lr=0.1 [x]")
    assert ended.status == 0, ended.err
    assert "lr=0.1 [x]" in ended.out


def test_a_tiny_run_is_compared(program: Program, here: Path, trained: Path) -> None:
    (here / "run" / "checkpoints").mkdir(parents=True)
    (here / "run" / "checkpoints" / "last.ckpt").write_bytes((trained / "checkpoints" / "last.ckpt").read_bytes())
    assert program("eval", "ckpt=run", "metric=[nll]", "metric.data=4", "estimator.t=2").status == 0
    ended = program("compare", "run")
    assert ended.status == 0, ended.err
    (row,) = table(here / "run")
    assert (row["run"], row["model"], row["data"], row["step"]) == ("run", "ddpm", "digits", "4")
    assert float(row["nll/bits-per-dim"]) > 0


COLUMNS = [
    TextColumn("run", ["a long name of a run", ""], least=8, leads=True),
    TextColumn("value", ["1.5", "12.25"], right=True),
    TextColumn("notes", ["said at some length", "short"], least=10),
]


@pytest.mark.parametrize("width", [24, 26, 30, 40, 100, None])
def test_a_page_holds_every_word_in_its_width(width: int | None) -> None:
    shown = page(COLUMNS, width)
    assert width is None or max(map(len, shown)) <= width
    words = " ".join(shown).split()
    for column in COLUMNS:
        for cell in (column.title, *column.cells):
            assert all(word in words for word in cell.split())


def test_a_page_that_is_too_narrow_has_the_columns_below_one_another() -> None:
    whole, narrow = page(COLUMNS, 100), page(COLUMNS, 20)
    assert len(whole) == 4
    assert len(whole) < len(narrow)
    assert sum(line.startswith("run  ") for line in narrow) == 2
    assert sum(line.startswith("a long") for line in narrow) == 2
    assert max(map(len, narrow)) <= 20
