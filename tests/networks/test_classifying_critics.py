"""Critics with a number for each class, and their normalised filters."""

import inspect
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import nn

from genlab.core.errors import UserError
from genlab.networks.adversarial.classifying import NetworkInNetworkCritic, Noise, NoisyMLPCritic
from genlab.networks.adversarial.weight_norm import WeightNorm, fit

CONFIGS = Path(__file__).parents[2] / "configs" / "critic"
LAYERS = [(nn.Linear(5, 7), (64, 5)), (nn.Conv2d(3, 7, 3, stride=2, padding=1), (16, 3, 9, 9))]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=["linear", "convolution"])
def test_filters_have_the_length_that_they_are_told(layer, shape):
    torch.manual_seed(0)
    own, x = WeightNorm(layer), torch.randn(shape)
    with torch.no_grad():
        own.g.copy_(torch.rand(7) + 0.5)
        own.b.copy_(torch.randn(7))
    w = own.g.view(-1, *[1] * (own.v.ndim - 1)) * F.normalize(own.v.flatten(1), dim=1).view_as(own.v)
    expected = F.linear(x, w, own.b) if own.v.ndim == 2 else F.conv2d(x, w, own.b, 2, 1)
    torch.testing.assert_close(own(x), expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        before = own(x)
        own.v *= 3
    torch.testing.assert_close(own(x), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=["linear", "convolution"])
def test_a_layer_set_on_data_has_units_of_mean_0_and_that_deviation(layer, shape):
    torch.manual_seed(0)
    own, x = WeightNorm(layer, learns=True, deviation=0.1), 3 * torch.randn(shape) + 1
    own.fit(x)
    units = own(x).transpose(0, 1).flatten(1)
    torch.testing.assert_close(units.mean(1), torch.zeros(7), rtol=0, atol=1e-5)
    torch.testing.assert_close(units.std(1, correction=0), torch.full((7,), 0.1), rtol=1e-4, atol=0)


def test_a_length_learns_only_where_it_is_to():
    for learns in (True, False):
        names = {name for name, _ in WeightNorm(nn.Linear(2, 2), learns).named_parameters()}
        assert names == ({"v", "b", "g"} if learns else {"v", "b"})
        assert "g" in WeightNorm(nn.Linear(2, 2), learns).state_dict()


def test_all_layers_are_set_in_turn_without_noise_and_the_network_goes_on_as_it_was():
    torch.manual_seed(0)
    network = nn.Sequential(
        Noise(10.0), WeightNorm(nn.Linear(4, 6)), nn.ReLU(), nn.Dropout(0.5), WeightNorm(nn.Linear(6, 3))
    )
    x = torch.randn(200, 4)
    fit(network, lambda: network(x))
    assert network.training
    assert not any(layer._forward_pre_hooks for layer in network)
    for depth in (2, 5):
        units = network.eval()[:depth](x)
        torch.testing.assert_close(units.mean(0), torch.zeros_like(units[0]), rtol=0, atol=1e-5)
        torch.testing.assert_close(units.std(0, correction=0), torch.ones_like(units[0]))


def test_noise_is_of_training_alone_and_of_its_deviation():
    torch.manual_seed(0)
    noise, x = Noise(0.5), torch.ones(100, 1000)
    assert noise(x).std().item() == pytest.approx(0.5, rel=0.02)
    assert noise.eval()(x) is x
    assert Noise(0.0)(x) is x


@pytest.mark.parametrize(
    ("critic", "shape", "features"),
    [
        (NoisyMLPCritic((1, 6, 6), 4, (9, 8)), (1, 6, 6), 8),
        (NetworkInNetworkCritic((3, 32, 32), 4, 5), (3, 32, 32), 10),
        (NetworkInNetworkCritic((1, 28, 28), 4, 5), (1, 28, 28), 10),
        (NetworkInNetworkCritic((1, 8, 8), 4, 5), (1, 8, 8), 10),
    ],
    ids=["plain", "32", "28", "8"],
)
def test_numbers_are_of_a_datum_alone(critic, shape, features):
    torch.manual_seed(0)
    x = torch.randn(5, *shape)
    assert not critic(x).score.equal(critic(x).score)
    critic.eval()
    score, f = critic(x)
    assert score.shape == (5, 4)
    assert f.shape == (5, features)
    torch.testing.assert_close(critic(x[:2]).score, score[:2], rtol=1e-4, atol=1e-5)
    assert not critic.whole_batch


@pytest.mark.parametrize(
    ("name", "shape", "count"), [("noisy_mlp", (1, 28, 28), 1_538_770), ("network_in_network", (3, 32, 32), 1_406_804)]
)
def test_a_file_is_its_class_in_the_published_size(name, shape, count):
    file = CONFIGS / f"{name}.yaml"
    spec = {"x": {"shape": list(shape)}, "labelled_as": {"classes": 10}}
    part = OmegaConf.to_container(OmegaConf.create({"spec": spec, "part": OmegaConf.load(file)}).part, resolve=True)
    kind = {c.__name__: c for c in (NoisyMLPCritic, NetworkInNetworkCritic)}[part.pop("_target_").split(".")[-1]]
    parameters = inspect.signature(kind).parameters
    assert list(part) == list(parameters)
    defaults = {key: list(p.default) if isinstance(p.default, tuple) else p.default for key, p in parameters.items()}
    assert {key: value for key, value in part.items() if key not in ("shape", "classes")} == {
        key: value for key, value in defaults.items() if key not in ("shape", "classes")
    }
    assert sum(p.numel() for p in kind(**part).parameters()) == count


def test_bad_options_are_named():
    with pytest.raises(ValueError, match="hidden must be at least 1"):
        NoisyMLPCritic((2,), 3, ())
    with pytest.raises(ValueError, match="sigma=-1"):
        NoisyMLPCritic((2,), 3, sigma=-1)
    with pytest.raises(ValueError, match="dropout_x=1"):
        NetworkInNetworkCritic((3, 32, 32), 3, dropout_x=1)
    with pytest.raises(UserError, match=r"critic: is for images .* critic=noisy_mlp"):
        NetworkInNetworkCritic((2,), 3)
