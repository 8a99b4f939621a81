"""Laws of conditioners: what is dropped is decided by the rng alone, and what cannot be asked for is refused."""

import pytest
import torch

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.conditioning import ClassLabel, Unconditional


def rng(rows: int, step: int = 0) -> Rng:
    return Rng(0, torch.arange(rows), step=step)


def nulls(conditioner: ClassLabel, vector: torch.Tensor) -> torch.Tensor:
    """Which rows hold the null label's vector."""
    return (vector == conditioner.embedding.weight[-1]).all(1)


def test_no_condition_is_none():
    conditioner = Unconditional()
    assert conditioner.vector == 0
    assert conditioner({"x": torch.zeros(2, 1)}) is None
    assert conditioner.null({"x": torch.zeros(2, 1)}) is None
    with pytest.raises(UserError, match=r"conditioner.vector=3"):
        Unconditional(3)


def test_equal_labels_have_equal_vectors_and_minus_one_is_null():
    conditioner = ClassLabel(10, vector=6, dropout=0.1).eval()
    label = torch.tensor([4, 4, 9, -1])
    vector = conditioner({"label": label}).vector
    assert vector.shape == (4, 6)
    assert torch.equal(vector[0], vector[1])
    assert not torch.equal(vector[0], vector[2])
    assert nulls(conditioner, vector).tolist() == [False, False, False, True]


@pytest.mark.parametrize(("batch", "rows"), [({"x": torch.zeros(3, 1)}, 3), ({}, 2)], ids=["batch", "rng"])
def test_without_a_label_all_rows_are_null(batch, rows):
    conditioner = ClassLabel(10, dropout=0.1).eval()
    for condition in (conditioner(batch, rng(2)), conditioner.null(batch, rng(2))):
        assert len(condition.vector) == rows
        assert nulls(conditioner, condition.vector).all()


def test_training_drops_as_many_labels_as_it_says_whatever_the_batch():
    conditioner = ClassLabel(10, vector=4, dropout=0.25)
    label = torch.arange(4000) % 10
    dropped = nulls(conditioner, conditioner({"label": label}, rng(4000)).vector)
    assert dropped.float().mean().item() == pytest.approx(0.25, abs=0.03)
    half = conditioner({"label": label[2000:]}, rng(4000).rows(slice(2000, None))).vector
    assert torch.equal(nulls(conditioner, half), dropped[2000:])
    later = nulls(conditioner, conditioner({"label": label}, rng(4000, step=1)).vector)
    assert not torch.equal(later, dropped)
    assert not nulls(conditioner.eval(), conditioner({"label": label}, rng(4000)).vector).any()


@pytest.mark.parametrize("label", [10, -2, 99])
def test_labels_out_of_range_are_refused(label):
    with pytest.raises(UserError, match=rf"label={label} is not one of the 10 classes 0..9"):
        ClassLabel(10, dropout=0.1).eval()({"label": torch.tensor([3, label])})


def test_the_null_label_is_refused_where_it_was_never_trained():
    conditioner = ClassLabel(10).eval()
    for batch in ({"label": torch.tensor([-1])}, {"x": torch.zeros(1, 2)}):
        with pytest.raises(UserError, match=r"conditioner.dropout=0.* label=0..9"):
            conditioner(batch)


def test_a_dropout_that_is_no_probability_is_refused():
    with pytest.raises(UserError, match=r"conditioner.dropout=1.5"):
        ClassLabel(10, dropout=1.5)
