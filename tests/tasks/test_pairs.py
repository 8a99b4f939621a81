"""Pairs: the samples of task=generate with the noise that makes them again."""

import pytest
import torch
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Field
from genlab.models.conditioning import ClassLabel
from genlab.models.contract import Model
from genlab.models.diffusion.continuous import Straight, VarianceExploding
from genlab.models.diffusion.model import GaussianDiffusion
from genlab.models.diffusion.samplers.ancestral import Ancestral
from genlab.models.diffusion.weighting import Simple, UniformTimes
from genlab.tasks.generate import Generate
from genlab.tasks.pairs import Pairs

SPEC = {"x": Field((1, 4, 4), levels=17), "label": Field((), classes=3)}
DDIM = Ancestral(4, eta=0.0)


class Pull(nn.Module):
    """Towards what the label says."""

    def forward(self, x: Tensor, level: Tensor, condition: object = None) -> Tensor:
        return torch.tanh(x) + condition.vector[:, :1, None, None]


def model(schedule) -> GaussianDiffusion:
    torch.manual_seed(0)
    return GaussianDiffusion(SPEC, Pull(), schedule, Simple(), UniformTimes(), ClassLabel(3, 4), "v").eval()


@pytest.mark.parametrize("schedule", [Straight(), VarianceExploding(high=9.0)], ids=["straight", "ve"])
def test_pairs_are_the_generated_samples_with_their_noise(schedule):
    trained, index = model(schedule), torch.arange(6)
    pairs = Pairs()(trained, index, 0, DDIM)
    generated = Generate()(trained, index, 0, DDIM)
    assert torch.equal(pairs["x"], generated["x"])
    assert torch.equal(pairs["label"], index % 3)
    again = trained.from_noise(pairs["noise"] * schedule.prior_scale, {"label": pairs["label"]}, Rng(5, index), DDIM)
    torch.testing.assert_close(again, pairs["x"])


def test_noise_is_standard_normal_whatever_the_prior():
    noise = Pairs()(model(VarianceExploding(high=9.0)), torch.arange(2000), 0, Ancestral(1, eta=0.0))["noise"]
    assert noise.mean().abs() < 0.03
    assert noise.std().item() == pytest.approx(1, abs=0.03)


def test_they_are_asked_of_diffusion_models_alone():
    class Other(Model):
        can = frozenset({"sample"})

        def loss(self, batch: Batch, rng: Rng, player: str, step: int) -> Batch:
            return {}

    with pytest.raises(UserError, match="task=pairs: it needs a Gaussian diffusion model"):
        Pairs().check(Other(SPEC), None)
