"""Counts of codes, against numpy."""

import numpy as np
import pytest
import torch
from codes_of import VECTORS, Given
from scipy.stats import entropy

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.metrics.codebook import Codebook

SPEC = {"x": Field((2,))}


def test_each_codebook_is_counted_over_all_data() -> None:
    top = Rng(0, torch.arange(50)).integers(9, 2, 2)
    bottom = torch.full((50, 4, 4), 3)
    fields = {
        "z_top": Field((3, 2, 2)),
        "index_top": Field((2, 2), classes=16),
        "index_bottom": Field((4, 4), classes=5),
    }
    rows = {"z_top": torch.zeros(50, 3, 2, 2), "index_top": top, "index_bottom": bottom}
    numbers = Codebook().evaluate(Given({"test": rows}, SPEC, fields))  # type: ignore[arg-type]
    found = {n.name.removeprefix("codebook/"): n for n in numbers}
    values, counts = np.unique(top.numpy(), return_counts=True)
    assert found["top/used"].value == len(values)
    assert found["top/share"].value == pytest.approx(len(values) / 16)
    assert found["top/perplexity"].value == pytest.approx(np.exp(entropy(counts)))
    assert (found["bottom/used"].value, found["bottom/perplexity"].value) == (1, pytest.approx(1))
    assert found["bottom/share"].how == {
        "is": "those of all vectors",
        "n": 50,
        "data": "somewhere test",
        "codes": 5,
        "places": 800,
    }


def test_one_codebook_has_no_level_and_codes_without_any_are_refused() -> None:
    index = torch.arange(8)[:, None]
    given = Given({"test": {"index": index}}, SPEC, {"index": Field((1,), classes=8)})
    numbers = Codebook().evaluate(given)  # type: ignore[arg-type]
    assert [n.name for n in numbers] == ["codebook/used", "codebook/share", "codebook/perplexity"]
    assert [n.value for n in numbers] == pytest.approx([8, 1, 8])
    with pytest.raises(UserError, match="codes are z of 3, and it has no codebook"):
        Codebook().check(Given({}, SPEC, VECTORS))  # type: ignore[arg-type]
