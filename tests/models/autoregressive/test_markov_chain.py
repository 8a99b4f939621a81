"""Markov chains: fitted by counting, exact, and what follows from their matrices."""

import itertools

import pytest
import torch

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.core.units import from_levels, to_levels
from genlab.data.daily_states import MATRIX, STATIONARY, DailyStates
from genlab.models.autoregressive.chains import (
    distributions,
    limit,
    stationary_of,
    structure,
    total_variation,
    transition_matrix,
)
from genlab.models.autoregressive.markov_chain import MarkovChain
from genlab.models.autoregressive.sampler import Places
from genlab.tasks.analyze import Analyze

DAILY = torch.tensor(MATRIX, dtype=torch.float64)
# 0 and 1 lead to 2 or to the pair 3, 4, which take turns.
MIXED = transition_matrix([[0, 1, 0, 0, 0], [0.5, 0, 0.25, 0.25, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 1, 0]])


def field(length: int, levels: int = 3) -> dict[str, Field]:
    return {"x": Field((1, length), levels=levels)}


def sequences(*rows: str, levels: int = 3) -> torch.Tensor:
    return from_levels(torch.tensor([[int(v) for v in row] for row in rows]), levels)[:, None]


def test_the_stationary_distribution_has_the_eight_digits():
    expected = [0.39781591, 0.41341654, 0.18876755]
    assert [round(p, 8) for p in stationary_of(DAILY).tolist()] == expected
    assert [round(p, 8) for p in STATIONARY] == expected
    assert [round(p, 8) for p in distributions(DAILY, torch.eye(3).double()[2], 100)[-1].tolist()] == expected
    found = structure(DAILY)
    assert found.irreducible
    assert found.period.tolist() == [1, 1, 1]
    assert found.said == "irreducible, 1 closed, 0 transient of 3 states, period 1"


def test_classes_periods_and_limits():
    found = structure(MIXED)
    assert found.classes.tolist() == [0, 0, 1, 2, 2]
    assert found.recurrent.tolist() == [False, False, True, True, True]
    assert found.period.tolist() == [2, 2, 1, 2, 2]
    assert not found.irreducible
    torch.testing.assert_close(
        torch.stack(found.stationary), torch.tensor([[0, 0, 1, 0, 0], [0, 0, 0, 0.5, 0.5]]).double()
    )
    # From 0 each of both is as likely; the mean over time comes there, and the distribution itself does not.
    start = torch.eye(5, dtype=torch.float64)[0]
    end = limit(MIXED, start, found)
    torch.testing.assert_close(end, torch.tensor([0, 0, 0.5, 0.25, 0.25]).double())
    way = distributions(MIXED, start, 4000)
    torch.testing.assert_close(way.mean(0), end, atol=1e-3, rtol=0)
    assert total_variation(way[-1], end) < 0.3
    assert structure(torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])).period.tolist() == [3, 3, 3]
    lone = structure(torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
    assert lone.period.tolist() == [0, 1]
    assert lone.recurrent.tolist() == [False, True]


def test_counts_make_the_chain():
    chain = MarkovChain(field(4), order=1, smoothing=0.0)
    chain.finish([{"x": sequences("0101", "0120")}, {"x": sequences("1012")}])
    # After 0: 1 four times; after 1: 0 twice, 2 twice; after 2: 0 once.
    torch.testing.assert_close(chain.table(1), torch.tensor([[0, 4, 0], [2, 0, 2], [1, 0, 0]]).double())
    found = chain.nll({"x": sequences("0120", "2222")}, Rng(0, torch.arange(2)))
    assert found.bound == "exact"
    assert found.nats[0].exp() == pytest.approx(1 / (2 / 3 * 1 * 0.5 * 1))
    assert found.nats[1] == float("inf")
    chain.finish([{"x": sequences("0101")}])
    assert chain.table(1).sum() == 3


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_probabilities_of_all_sequences_sum_to_one_and_are_their_frequencies(order):
    chain = MarkovChain(field(4, 2), order=order, smoothing=0.3)
    chain.finish([{"x": sequences("0110", "0111", "1011", "0010", "0110", levels=2)}])
    kinds = torch.tensor(list(itertools.product(range(2), repeat=4)))
    p = chain.log_prob(from_levels(kinds, 2)[:, None]).exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)
    n = 20_000
    v = to_levels(chain.sample({}, Rng(0, torch.arange(n)))["x"][:, 0], 2)
    found = (v[:, None] == kinds).all(2).double().mean(0)
    assert ((found - p).abs() <= 5 * (p * (1 - p) / n).sqrt()).all()


def test_a_chain_finds_the_matrix_that_made_its_data():
    data = DailyStates()
    split = data.split("train")
    batch = split.batch(torch.arange(len(split)))
    chain = MarkovChain(data.spec, smoothing=0.0)
    chain.finish([batch])
    assert (chain.transitions() - DAILY).abs().max() < 0.01
    held = data.split("test").batch(torch.arange(500))
    truth = MarkovChain(data.spec, matrix=[list(row) for row in MATRIX], start=list(STATIONARY))
    ours, best = (model.nll(held, Rng(0, torch.arange(500))).nats.mean() for model in (chain, truth))
    assert abs(ours - best) < 0.1


def test_a_temperature_sharpens_each_step():
    n = 20_000
    chain = MarkovChain(field(2), matrix=[list(row) for row in MATRIX])
    v = to_levels(chain.sample({}, Rng(0, torch.arange(n)), Places(0.5))["x"][:, 0], 3)
    after = torch.bincount(v[v[:, 0] == 2][:, 1], minlength=3).double()
    expected = DAILY[2].square() / DAILY[2].square().sum()
    torch.testing.assert_close(after / after.sum(), expected, atol=0.03, rtol=0)


def test_completions_keep_what_is_given():
    chain, rng = MarkovChain(field(6), matrix=[[0, 1, 0], [0, 0, 1], [1, 0, 0]]), Rng(0, torch.arange(3))
    x = sequences("012000", "120111", "201222")
    given = torch.arange(6) < 2
    made = chain.completed(x, given, {}, rng)
    assert torch.equal(made, sequences("012012", "120120", "201201"))
    drawn = chain.sample({}, rng)["x"]
    assert torch.equal(chain.completed(drawn, given, {}, rng), drawn)


def test_the_states_of_a_longer_memory_are_runs_of_values():
    chain = MarkovChain(field(5, 2), order=2, smoothing=0.0)
    chain.finish([{"x": sequences("00110", "01100", levels=2)}])
    expected = [[0, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 0, 1, 0]]
    torch.testing.assert_close(chain.transitions(), torch.tensor(expected).double())


def test_what_follows_is_a_table_and_curves():
    chain, task = MarkovChain(field(5), matrix=[list(row) for row in MATRIX]), Analyze(start=1, steps=40)
    task.check(chain, None)
    assert task.count(64) == 3
    made = task(chain, torch.arange(3), 0, None)
    states, way = task.curves({key: made[key] for key in task.traces})
    assert "0.39781591, 0.41341654, 0.18876755" in states.how
    assert "irreducible" in states.how
    assert way.columns["p(1)"][:2] == [1, 0.05]
    assert way.columns["distance"][0] == pytest.approx(1 - STATIONARY[1])
    assert way.columns["distance"][-1] < 1e-4


WRONG = {
    r"matrix\[1\]=.* must sum to 1, and sums to 0.9": lambda: MarkovChain(
        field(4), matrix=[[0, 1, 0], [0.4, 0.5, 0], [1, 0, 0]]
    ),
    r"matrix\[0\]=.* must be probabilities": lambda: MarkovChain(field(4), matrix=[[2, -1, 0], [1, 0, 0], [1, 0, 0]]),
    "matrix must have as many numbers in each row as rows": lambda: MarkovChain(field(4), matrix=[[1.0], [1.0], [1.0]]),
    "matrix has 2 rows, and data have 3": lambda: MarkovChain(field(4), matrix=[[0, 1], [1, 0]]),
    "start=.* sums to 0.5": lambda: MarkovChain(field(4), matrix=[list(r) for r in MATRIX], start=[0.5, 0, 0]),
    "start is of a given chain": lambda: MarkovChain(field(4), start=[1, 0, 0]),
    "order=2: a given matrix is of order 1": lambda: MarkovChain(field(4), order=2, matrix=[list(r) for r in MATRIX]),
    "order=9 of 100 values": lambda: MarkovChain(field(4, 100), order=9),
    "smoothing must be at least 0": lambda: MarkovChain(field(4), smoothing=-1.0),
    "is for sequences": lambda: MarkovChain({"x": Field((1, 4, 4), levels=2)}),
    "was not fitted": lambda: MarkovChain(field(4)).sample({}, Rng(0, torch.arange(1))),
    "order=0": lambda: Analyze().check(MarkovChain(field(4), order=0), None),
    "task.start=3": lambda: Analyze(start=3).check(MarkovChain(field(4)), None),
    r"start=\[0.5\].* must sum to 1": lambda: Analyze(start=[0.5]),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_makes_no_chain_is_said(said):
    with pytest.raises((UserError, ValueError), match=said):
        WRONG[said]()
