"""What every causal network promises, of all that causal_cases.py lists."""

import itertools

import pytest
import torch
from causal_cases import CASES, Case
from torch import Tensor

from genlab.core.rng import Rng
from genlab.core.units import from_levels
from genlab.models.autoregressive.drawing import draw
from genlab.networks.causal.causal import Naive
from genlab.networks.condition import Condition

every = pytest.mark.parametrize("name", CASES)
ROWS = 6
# Data of at most so many kinds are all gone through.
MOST = 4096


def made(name: str) -> Case:
    """The case in double precision, its weights moved from where they start, which often is zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        case = CASES[name]()
        case.network.double().eval()
        case.output.double().eval()
        with torch.no_grad():
            for parameter in [*case.network.parameters(), *case.output.parameters()]:
                parameter += 0.3 * torch.randn_like(parameter)
    return case


def data(case: Case, rows: int = ROWS) -> Tensor:
    levels = Rng(7, torch.arange(rows)).integers(case.levels, *case.shape)
    return from_levels(levels, case.levels, torch.float64)


def told(case: Case, rows: int) -> Condition | None:
    return None if case.condition is None else case.condition(rows)


def some(condition: Condition | None, rows: slice) -> Condition | None:
    if condition is None:
        return None
    parts = (condition.vector, condition.context, condition.concat)
    return Condition(*(None if part is None else part[rows] for part in parts))


def by_group(case: Case, parameters: Tensor) -> Tensor:
    """Parameters (B, F, L or *) as (B, groups, F / groups, L): which of them are of which group of channels."""
    return parameters.flatten(2).unflatten(1, (case.network.groups, -1))


@every
def test_the_order_holds_every_place_once(name):
    case = made(name)
    order = case.network.order
    assert order.dtype == torch.long
    assert torch.equal(order.sort().values, torch.arange(data(case).flatten(2).shape[-1]))
    assert case.shape[0] % case.network.groups == 0
    assert case.network(data(case), told(case, ROWS)).shape == (ROWS, case.output.features, *case.shape[1:])


@torch.no_grad()
@every
def test_a_place_sees_all_that_come_before_it_and_nothing_else(name):
    """Neither itself nor later ones, in the network's order; of its own channels the groups before."""
    case = made(name)
    network, x, condition = case.network, data(case, 16), told(case, 16)
    places, groups = len(network.order), network.groups
    before, rank = by_group(case, network(x, condition)), network.order.argsort()
    for place, group in itertools.product(range(places), range(groups)):
        other = x.flatten(2).clone()
        channels = other.unflatten(1, (groups, -1))[:, group, :, place]
        # Each channel to another level, in turn through all others.
        step = 1 + torch.arange(16)[:, None] % (case.levels - 1)
        channels += 2 * step / (case.levels - 1)
        channels -= torch.where(channels > 1 + 1e-6, 2 * case.levels / (case.levels - 1), 0.0)
        moved = (by_group(case, network(other.view_as(x), condition)) - before).abs().amax((0, 2))
        later = rank > rank[place]
        if case.sees is not None:
            later = later & case.sees[:, place]
        expected = later.expand(groups, -1).clone()
        expected[:, place] = torch.arange(groups) > group
        assert torch.equal(moved > 1e-9, expected), (place, group)
        assert moved[~expected].max() < 1e-12, (place, group)


@torch.no_grad()
@every
def test_place_by_place_it_says_what_one_pass_says(name):
    case = made(name)
    network, x, condition = case.network, data(case), told(case, ROWS)
    size = case.shape[0] // network.groups
    whole, flat = by_group(case, network(x, condition)), x.flatten(2)
    for way in (network, Naive(network)):
        state = way.start(x, condition)
        for place in network.order.tolist():
            for group in range(network.groups):
                # Later groups are not known yet.
                known = torch.where(torch.arange(case.shape[0])[:, None] < group * size, flat[..., place].T, -1.0).T
                found = by_group(case, way.at(state, place, known)[..., None])[:, group, :, 0]
                torch.testing.assert_close(found, whole[:, group, :, place], rtol=1e-9, atol=1e-9)
            state = way.put(state, place, flat[..., place])


@torch.no_grad()
@every
def test_what_is_drawn_is_what_the_naive_loop_draws(name):
    """Also where a part is given."""
    case = made(name)
    x, condition, rng = data(case), told(case, ROWS), Rng(3, torch.arange(ROWS)).stage("draw")
    given = torch.arange(len(case.network.order)) % 3 == 1
    for keeps, temperature in itertools.product((None, given), (1.0, 0.7)):
        ways = (case.network, Naive(case.network))
        drawn = [draw(way, case.output, x, rng, condition, keeps, temperature) for way in ways]
        torch.testing.assert_close(*drawn, rtol=1e-9, atol=1e-9)
        if keeps is not None:
            assert torch.equal(drawn[0].flatten(2)[..., keeps], x.flatten(2)[..., keeps])


@every
def test_every_parameter_gets_a_gradient(name):
    case = made(name)
    case.network.train()
    x = data(case, 32)
    case.output.log_prob(case.network(x, told(case, 32)), x).sum().backward()
    for parameter_name, parameter in case.network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().max() > 0, parameter_name


@torch.no_grad()
@every
def test_rows_do_not_depend_on_each_other(name):
    case = made(name)
    x, condition = data(case), told(case, ROWS)
    whole = case.network(x, condition)
    for rows in (slice(0, 1), slice(1, ROWS)):
        part = case.network(x[rows], some(condition, rows))
        torch.testing.assert_close(part, whole[rows], rtol=1e-10, atol=1e-10)


def small(name: str) -> bool:
    case = CASES[name]()
    return case.levels ** data(case, 1).numel() <= MOST


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in CASES if small(name)])
def test_the_probabilities_of_all_data_sum_to_one(name):
    case = made(name)
    size = data(case, 1).numel()
    kinds = torch.tensor(list(itertools.product(range(case.levels), repeat=size))).view(-1, *case.shape)
    x = from_levels(kinds, case.levels, torch.float64)
    condition = some(told(case, 1), slice(0, 1))
    if condition is not None:
        condition = some(told(case, 1), torch.zeros(len(x), dtype=torch.long))  # type: ignore[arg-type]
    total = case.output.log_prob(case.network(x, condition), x).exp().sum()
    torch.testing.assert_close(total, torch.tensor(1.0, dtype=torch.float64), rtol=1e-10, atol=1e-10)
