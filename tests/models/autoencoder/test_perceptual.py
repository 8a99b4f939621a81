"""The perceptual distance: its formula, what it does not become part of, and the published network behind it."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.models.autoencoder.gaussian import Gaussian as Normal
from genlab.models.autoencoder.model import Autoencoder
from genlab.models.autoencoder.objective import Elbo
from genlab.models.autoencoder.perceptual import Perceptual, distance
from genlab.models.outputs.laplace import Laplace
from genlab.networks.coders.mlp import MLPDecoder, MLPEncoder
from genlab.networks.vgg import VGG16

SHAPE = (1, 4, 4)


class Two(nn.Module):
    """Feature maps of two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)

    def forward(self, x: Tensor) -> list[Tensor]:
        h = self.conv(x)
        return [h, nn.functional.avg_pool2d(h, 2).square()]


def autoencoder(perceptual: Perceptual | None) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(
        {"x": Field(SHAPE)},
        lambda outputs: MLPEncoder(SHAPE, outputs, [5]),
        Normal(2),
        lambda inputs, outputs: MLPDecoder(SHAPE, inputs, outputs, [5]),
        Laplace(SHAPE),
        Elbo(),
        perceptual=perceptual,
    )


def test_the_distance_is_that_of_directions():
    generator = torch.Generator().manual_seed(0)
    f, g = ([torch.randn(4, 3, n, n, generator=generator) for n in (4, 2)] for _ in range(2))
    cosines = [torch.cosine_similarity(a, b, dim=1).mean((1, 2)) for a, b in zip(f, g, strict=True)]
    torch.testing.assert_close(distance(f, g), sum(2 - 2 * c for c in cosines))
    torch.testing.assert_close(distance(f, [3 * a for a in f]), torch.zeros(4), rtol=0, atol=1e-6)


def test_its_cost_counts_the_numbers_of_a_datum_and_pulls_what_was_made():
    network = Two()
    perceptual = Perceptual(lambda: network, weight=0.3)
    x, made = torch.rand(2, *SHAPE), torch.rand(2, *SHAPE, requires_grad=True)
    cost = perceptual(x, made)
    torch.testing.assert_close(cost, 0.3 * 16 * distance(network(x), network(made)))
    cost.sum().backward()
    assert made.grad.any((1, 2, 3)).all()
    assert all(p.grad is None for p in network.parameters())
    assert not network.training


def test_the_network_is_made_when_it_is_needed_and_is_no_part_of_the_model():
    made = []
    model = autoencoder(Perceptual(lambda: made.append(0) or Two()))
    plain, x, rng = autoencoder(None), {"x": torch.rand(3, *SHAPE)}, Rng(0, torch.arange(3)).stage("train")
    model.nll(x, rng)
    model.decode(model.encode(x))
    assert not made
    model.prepare([x])
    assert len(made) == 1
    found, expected = model.loss(x, rng, "model", 0), plain.loss(x, rng, "model", 0)
    assert len(made) == 1
    torch.testing.assert_close(found["loss"], expected["loss"] + found["perceptual"])
    assert found["perceptual"] > 0
    plain.load_state_dict(model.state_dict())
    assert len(model.players()["model"].parameters) == len(list(plain.parameters()))
    torch.testing.assert_close(copy.deepcopy(model).nll(x, rng).nats, plain.nll(x, rng).nats)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file like the published one, with random weights in it."""
    models = pytest.importorskip("torchvision.models.vgg")
    torch.manual_seed(0)
    features = models.make_layers(models.cfgs["D"])
    path = tmp_path_factory.mktemp("weights") / "vgg16-397923af.pth"
    state = {f"features.{key}": value for key, value in features.state_dict().items()}
    torch.save({**state, "classifier.0.bias": torch.zeros(3)}, path)
    return path, features


def test_vgg_is_the_published_network(weights, monkeypatch):
    path, features = weights
    monkeypatch.setenv("GENLAB_WEIGHTS", str(path.parent))
    x = 2 * torch.rand(2, 1, 32, 32) - 1
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    h, expected = ((x + 1) / 2 - mean[:, None, None]) / deviation[:, None, None], []
    with torch.no_grad():
        for place, layer in enumerate(features):
            h = layer(h)
            if place in (3, 8, 15, 22, 29):
                expected.append(h)
        found = VGG16()(x)
    assert [f.shape[1:] for f in found] == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2)]
    for f, g in zip(found, expected, strict=True):
        torch.testing.assert_close(f, g)
    with pytest.raises(UserError, match="16 pixels or more"):
        VGG16()(x[..., :8])


def test_weights_that_are_not_to_be_had_are_missed_in_a_line(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setenv("GENLAB_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    with pytest.raises(UserError, match=r"VGG16: they are not here .*put vgg16-397923af.pth in a folder"):
        VGG16()
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="these are not the weights of VGG16"):
        VGG16(str(tmp_path / "other.pth"))
    with pytest.raises(UserError, match=r"absent.pth is not a file of them"):
        VGG16(str(tmp_path / "absent.pth"))


@pytest.mark.parametrize("weight", [0, -1, math.inf])
def test_weights_out_of_range_are_refused(weight):
    with pytest.raises(ValueError, match=r"^weight must be above 0"):
        Perceptual(Two, weight)
