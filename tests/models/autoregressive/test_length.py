"""Sequences of another length than the data's, of what sees each place as any other."""

import pytest
import torch

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.models.autoregressive.markov_chain import MarkovChain
from genlab.models.autoregressive.model import Autoregressive
from genlab.models.autoregressive.sampler import Places
from genlab.models.conditioning import Unconditional
from genlab.models.outputs.categorical import Categorical
from genlab.networks.causal.causal import Naive
from genlab.networks.causal.image_transformer import ImageTransformer
from genlab.networks.causal.wavenet import WaveNet

SPEC = {"x": Field((1, 12), levels=8, rate=100)}
RNG = Rng(0, torch.arange(3))


def wavenet(length: int) -> Autoregressive:
    """The same weights for data of any length."""
    torch.manual_seed(0)
    spec = {"x": Field((1, length), levels=8, rate=100)}

    def network(features: int) -> WaveNet:
        return WaveNet((1, length), features, 8, channels=6, skip=8, layers=3, blocks=2)

    return Autoregressive(spec, network, Categorical((1, length), 8), Unconditional()).double()


def test_a_longer_draw_is_that_of_a_model_of_longer_data_and_begins_as_the_shorter():
    short, long = wavenet(12), wavenet(40)
    x = short.sample({}, RNG, Places(length=40))["x"]
    assert x.shape == (3, 1, 40)
    assert torch.equal(x, long.sample({}, RNG)["x"])
    assert torch.equal(x[..., :12], short.sample({}, RNG)["x"])
    # Nothing that is kept from place to place runs out: the same as computing all anew at each place.
    long.network = Naive(long.network)
    assert torch.equal(x, long.sample({}, RNG)["x"])


def test_chains_are_of_any_length():
    chain = MarkovChain({"x": Field((1, 4), levels=2)}, matrix=[[0.0, 1.0], [1.0, 0.0]])
    x = chain.sample({}, RNG, Places(length=9))["x"]
    assert x.shape == (3, 1, 9)
    assert (x[..., 1:] == -x[..., :-1]).all()


def test_what_sees_places_apart_is_of_its_own_length_alone():
    def network(features: int) -> ImageTransformer:
        return ImageTransformer((1, 12), features, 8, width=8, depth=1, heads=2)

    model = Autoregressive(SPEC, network, Categorical((1, 12), 8), Unconditional())
    with pytest.raises(UserError, match=r"sampler.length=40: this model draws data of \[1, 12\] alone"):
        model.sample({}, RNG, Places(length=40))
    assert model.sample({}, RNG, Places(length=12))["x"].shape == (3, 1, 12)
    with pytest.raises(ValueError, match="length must be at least 1"):
        Places(length=0)
