"""A linear probe finds what is there, and nothing where nothing is."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from genlab.core.rng import Rng
from genlab.core.spec import Batch, Field
from genlab.metrics.probe import Probe
from genlab.metrics.record import Number

from codes_of import Given  # isort: skip

SPEC = {"x": Field((2,)), "label": Field((), classes=4)}
SIZES = {"train": 400, "validation": 100, "test": 200}


def rows(first: int, n: int, told: bool) -> Batch:
    rng = Rng(0, torch.arange(first, first + n))
    label = rng.stage("label").integers(4)
    noise = rng.stage("noise").normal(2, 3)
    z = noise + 20 * F.one_hot(label, 6).view(-1, 2, 3) if told else noise
    return {"label": label, "z": z, "z_other": noise.flatten(1), "index": label}


def given(told: bool, split: str = "test") -> Given:
    starts = {"train": 0, "validation": 1000, "test": 2000}
    table = {name: rows(starts[name], n, told) for name, n in SIZES.items()}
    fields = {"z": Field((2, 3)), "z_other": Field((6,)), "index": Field((), classes=4)}
    return Given(table, SPEC, fields, split)


def accuracy(told: bool, **options: Any) -> Number:
    (number,) = Probe(**options).evaluate(given(told))  # type: ignore[arg-type]
    return number


def test_codes_that_contain_the_label_tell_it() -> None:
    number = accuracy(True, key="z", c=[10.0, 0.1, 1.0])
    assert (number.value, number.error) == (1, 0)
    assert number.how["dimension"] == 6
    assert [number.how[key] for key in ("n", "n_train", "n_validation")] == [200, 400, 100]
    assert number.how["C"] == 0.1
    both = accuracy(True, c=[1.0])
    assert both.how["dimension"] == 12
    assert both.value == 1


def test_noise_tells_nothing() -> None:
    number = accuracy(False)
    chance = 0.25
    assert number.value == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 200) ** 0.5)
    assert number.error == pytest.approx((number.value * (1 - number.value) / 200) ** 0.5)
    assert 0.25 <= number.how["chance"] < 0.4


def test_what_is_not_converged_says_so() -> None:
    assert "note" not in accuracy(True, c=[0.01]).how
    assert accuracy(False, c=[100.0], iterations=1).how["note"] == "not converged in 1 iterations"


def test_splits_are_asked_for_by_their_sizes() -> None:
    codes = given(True)
    Probe(n_train=300, c=[0.01]).evaluate(codes)  # type: ignore[arg-type]
    assert codes.asked == [("train", 300), ("validation", None)]


def test_what_cannot_be_probed_is_said() -> None:
    unlabelled, told = given(True), given(True)
    unlabelled.spec = {"x": Field((2,))}
    told.told = frozenset({"label"})
    for codes, options, message in (
        (unlabelled, {}, "somewhere test has no labels"),
        (given(True, "validation"), {}, "leave metric.split out"),
        (told, {}, "the model is told the label"),
        (given(True), {"key": "index"}, r"metric.probe.key=index: codes are .*; choose z or z_other, or null"),
    ):
        with pytest.raises(ValueError, match=message):
            Probe(**options).check(codes)  # type: ignore[arg-type]
    for options in ({"n_train": 1}, {"c": []}, {"c": [0.0]}, {"iterations": 0}, {"t": 0.0}, {"t": 1.5}):
        with pytest.raises(ValueError, match="must be"):
            Probe(**options)  # type: ignore[arg-type]
