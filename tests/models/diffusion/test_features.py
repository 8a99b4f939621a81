"""The features of a diffusion model's network, of data with a little noise."""

import pytest
import torch

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.models.conditioning import ClassLabel, Conditioner, Unconditional
from genlab.models.diffusion.model import GaussianDiffusion
from genlab.models.diffusion.process import diffuse
from genlab.models.diffusion.schedule import Cosine
from genlab.models.diffusion.weighting import Simple, UniformTimes
from genlab.networks.unet import UNet

SPEC = {"x": Field((1, 8, 8), levels=17), "label": Field((), classes=3)}


def model(conditioner: Conditioner | None = None) -> GaussianDiffusion:
    torch.manual_seed(0)
    told = conditioner or Unconditional()
    network = UNet((1, 8, 8), width=8, multipliers=(1, 2), blocks=1, attention=(), vector=told.vector)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return GaussianDiffusion(SPEC, network, Cosine(20), Simple(), UniformTimes(), told).eval()


INDEX = torch.arange(4)
X = Rng(0, INDEX).uniform(1, 8, 8) * 2 - 1


def test_the_last_layers_are_the_prediction_averaged() -> None:
    of, rng = model(), Rng(5, INDEX)
    found = of.features({"x": X}, rng, 0.25, "last")
    t = torch.full((4,), 0.25, dtype=torch.float64)
    x_t = diffuse(of.schedule, X, t, rng.stage("noise").normal_like(X))
    torch.testing.assert_close(found, of.predict(x_t, t, None)[0].mean((2, 3)))


def test_they_depend_on_their_own_datum_alone() -> None:
    of = model()
    whole = of.features({"x": X}, Rng(5, INDEX), 0.1)
    assert whole.shape == (4, 16)
    one = of.features({"x": X[2:3]}, Rng(5, INDEX[2:3]), 0.1)
    torch.testing.assert_close(one, whole[2:3])
    assert not torch.allclose(of.features({"x": X}, Rng(6, INDEX), 0.1), whole)


def test_the_label_is_not_told() -> None:
    of = model(ClassLabel(3, vector=4, dropout=0.1))
    found = [of.features({"x": X, "label": torch.full((4,), k)}, Rng(0, INDEX), 0.1) for k in (0, 1)]
    assert torch.equal(*found)
    with pytest.raises(UserError, match=r"conditioner\.dropout=0"):
        model(ClassLabel(3, vector=4)).features({"x": X}, Rng(0, INDEX), 0.1)


@pytest.mark.parametrize("t", [0.0, 0.04, 1.01])
def test_times_without_noise_are_refused(t: float) -> None:
    with pytest.raises(UserError, match=r"noise begins at t = 0.05"):
        model().features({"x": X}, Rng(0, INDEX), t)
