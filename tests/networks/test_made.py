"""MADE of data: paths through its masks, and the mean of its networks."""

import itertools

import pytest
import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.core.units import from_levels
from genlab.models.outputs.bernoulli import Bernoulli
from genlab.models.outputs.categorical import Categorical
from genlab.networks.causal.made import MADE

KINDS = {
    "evenly": {"hidden": [9, 7], "masks": 1},
    "one layer": {"hidden": [5], "masks": 2},
    "in another order": {"hidden": [11, 6, 8], "masks": 3, "order": "random", "seed": 4},
    "and directly": {"hidden": [6], "masks": 2, "direct": True, "order": "random"},
}


def moved(network: MADE) -> MADE:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    return network.double().eval()


def paths(masks: list[Tensor]) -> Tensor:
    """(outputs, inputs), how many ways lead through the units from an input to an output, counted one by one."""
    sizes = [masks[0].shape[1], *(len(mask) for mask in masks)]
    count = torch.zeros(sizes[-1], sizes[0], dtype=torch.long)
    for units in itertools.product(*map(range, sizes)):
        steps = zip(masks, itertools.pairwise(units), strict=True)
        count[units[-1], units[0]] += all(mask[after, before] > 0 for mask, (before, after) in steps)
    return count


@pytest.mark.parametrize("name", KINDS)
def test_no_way_leads_from_a_place_to_those_before_it(name):
    """And where units are spread evenly, a way leads to all behind it."""
    network = MADE((1, 5), 1, **KINDS[name])
    rank = network.order.argsort()
    for number in range(KINDS[name]["masks"]):
        network.use(number)
        ways = paths([layer.mask for layer in network.network.layers])
        if network.network.direct is not None:
            ways += network.network.direct.mask.long()
        before = rank[None, :] < rank[:, None]
        assert (ways[~before] == 0).all()
        assert ways[before].sum() > 0
        if name in ("evenly", "and directly"):
            assert (ways[before] > 0).all()


def test_several_networks_have_the_mean_of_their_probabilities_at_every_place():
    for output, levels in ((Categorical((1, 4), 3), 3), (Bernoulli((1, 4)), 2)):
        x = from_levels(Rng(0, torch.arange(7)).integers(levels, 1, 4), levels, torch.float64)
        network = moved(MADE((1, 4), output.features, hidden=[9, 9], levels=levels, masks=4))
        whole = output.log_probs(network(x), x).exp()
        each = []
        for number in range(4):
            network.use(number)
            y = network.network(network.encoded(x))
            each.append(output.log_probs(y, x).exp())
        assert (each[0] - each[1]).abs().max() > 1e-3
        torch.testing.assert_close(whole, torch.stack(each).mean(0), rtol=1e-10, atol=1e-12)


def test_training_takes_the_networks_in_turn_and_goes_on_where_it_stopped():
    options = {"shape": (1, 4), "features": 1, "hidden": [9, 9], "masks": 3}
    network, x = moved(MADE(**options)).train(), torch.ones(2, 1, 4, dtype=torch.float64)
    seen = [network(x) for _ in range(5)]
    for i, j in itertools.combinations(range(5), 2):
        assert torch.equal(seen[i], seen[j]) == (i % 3 == j % 3)
    again = MADE(**options).double().train()
    again.load_state_dict(network.state_dict())
    network.eval()(x)
    network.train()
    for _ in range(3):
        assert torch.equal(again(x), network(x))


def test_masks_and_orders_depend_on_their_seed_alone():
    options = {"shape": (1, 6), "features": 1, "hidden": [20], "masks": 2, "order": "random"}
    one, same, other = (MADE(**options, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.order, same.order)
    assert not torch.equal(one.order, other.order)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(one.connectivity, same.connectivity, strict=True))
    assert not torch.equal(one.connectivity[0][0], one.connectivity[1][0])


WRONG = {
    "masks must be at least 1": {"masks": 0},
    "cannot be those of 2 channels": {"shape": (2, 3), "features": 3},
    "one_hot is for data that have levels": {"one_hot": True, "levels": None},
    "masks=2: several are for": {"masks": 2, "features": 5},
    "dropout=1.0 must be": {"dropout": 1.0},
    "hidden must be at least 1": {"hidden": [4, 0]},
}


@pytest.mark.parametrize("said", WRONG)
def test_what_cannot_be_is_said(said):
    with pytest.raises(ValueError, match=said):
        MADE(**{"shape": (1, 4), "features": 1, "hidden": [4], **WRONG[said]})
