"""Autoregressive models of networks with weights: exact over all 16 images of 2x2 bits."""

import itertools

import pytest
import torch

from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.models.autoregressive.model import Autoregressive
from genlab.models.conditioning import Unconditional
from genlab.models.outputs.bernoulli import Bernoulli
from genlab.networks.causal.causal import Causal
from genlab.networks.causal.made import MADE

SHAPE = (1, 2, 2)
IMAGES = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=4)), dtype=torch.float64).view(16, *SHAPE)
NETWORKS = {
    "one": lambda features: MADE(SHAPE, features, hidden=[8]),
    "in another order": lambda features: MADE(SHAPE, features, hidden=[8], order="random", seed=1),
    "an ensemble": lambda features: MADE(SHAPE, features, hidden=[8, 8], masks=3),
}
every = pytest.mark.parametrize("name", NETWORKS)


def model(name: str) -> Autoregressive:
    torch.manual_seed(0)
    made = Autoregressive({"x": Field(SHAPE, levels=2)}, NETWORKS[name], Bernoulli(SHAPE), Unconditional())
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    return made.double().eval()


@every
def test_draws_are_as_frequent_as_their_likelihood_says(name):
    of, n = model(name), 10_000
    p = (-of.nll({"x": IMAGES}, Rng(0, torch.arange(16))).nats).exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)
    x = of.sample({}, Rng(0, torch.arange(n)))["x"]
    found = (x.flatten(1)[:, None] == IMAGES.flatten(1)).all(2).double().mean(0)
    assert ((found - p).abs() <= 5 * (p * (1 - p) / n).sqrt()).all()


@every
def test_a_draw_with_nothing_given_is_a_completion(name):
    of, rng = model(name), Rng(4, torch.arange(20)).stage("sample")
    drawn = of.sample({}, rng)["x"]
    assert torch.equal(of.completed(torch.zeros_like(drawn), None, {}, rng), drawn)
    given = torch.zeros(4, dtype=torch.bool)
    given[of.places[:2]] = True
    assert torch.equal(of.completed(drawn, given, {}, rng), drawn)
    other = of.completed(-drawn, given, {}, rng)
    assert torch.equal(other.flatten(2)[..., given], -drawn.flatten(2)[..., given])


def test_an_ensemble_is_trained_one_after_another_and_asked_as_a_mean():
    of = model("an ensemble")
    network = of.network
    assert isinstance(network, MADE)
    x = IMAGES[:5]
    network.train()
    alone = [network(x) for _ in range(6)]
    assert torch.equal(alone[0], alone[3])
    assert not torch.allclose(alone[0], alone[1])
    assert int(network.turn) == 6
    network.eval()
    mean = torch.stack([logits.sigmoid() for logits in alone[:3]]).mean(0)
    torch.testing.assert_close(network(x).sigmoid(), mean)
    assert int(network.turn) == 6
    # Another one that is given the state goes on with the same turn.
    network.train()
    network(x)
    other = model("an ensemble").network.train()
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(x), network(x))


WRONG = {
    "masks=2: several are for": lambda: MADE((1, 4), 10, hidden=[8], levels=256, masks=2),
    "features=20 cannot be those of 3 channels": lambda: MADE((3, 4), 20, hidden=[8], levels=256),
    "one_hot is for data that have levels": lambda: MADE((1, 4), 2, hidden=[8], levels=None, one_hot=True),
    "dropout=1": lambda: MADE((1, 4), 1, hidden=[8], dropout=1),
    "masks must be at least 1": lambda: MADE((1, 4), 1, hidden=[8], masks=0),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_makes_no_network_is_said(said):
    with pytest.raises(ValueError, match=said):
        WRONG[said]()


def test_the_network_is_causal_in_training_too():
    network = NETWORKS["one"](1)
    assert isinstance(network, Causal)
    x = IMAGES[:1].float().requires_grad_()
    with torch.no_grad():
        network.network.layers[-1].weight.normal_()
    slopes = torch.autograd.functional.jacobian(lambda x: network.train()(x).flatten(), x).flatten(1)
    assert torch.equal(slopes.triu(), torch.zeros(4, 4))
