"""The critic of an autoencoder: what both players minimise, whose weights move when, and a run that is continued."""

import contextlib
import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.cli import main
from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.models.autoencoder.adversarial import Adversary, balance, last_weight
from genlab.models.autoencoder.gaussian import Gaussian as Normal
from genlab.models.autoencoder.model import Autoencoder
from genlab.models.autoencoder.objective import Elbo
from genlab.models.outputs.laplace import Laplace
from genlab.networks.coders.residual import ResidualDecoder, ResidualEncoder
from genlab.networks.patch_critic import PatchCritic

SHAPE = (1, 8, 8)
BATCH = {"x": torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(0))}


def autoencoder(**options) -> Autoencoder:
    torch.manual_seed(0)
    small = {"shape": SHAPE, "width": 4, "multipliers": [1, 1], "blocks": 1}
    return Autoencoder(
        {"x": Field(SHAPE)},
        lambda outputs: ResidualEncoder(outputs=outputs, **small),
        Normal(2),
        lambda inputs, outputs: ResidualDecoder(inputs=inputs, outputs=outputs, **small),
        Laplace(SHAPE),
        Elbo(1e-6),
        adversary=Adversary(PatchCritic(SHAPE, 4, 1), **options),
    )


def rng() -> Rng:
    return Rng(0, torch.arange(4), step=1).stage("train")


def gradients(loss: Tensor, model: Autoencoder) -> list[Tensor]:
    return torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, retain_graph=True)


def test_what_the_players_minimise():
    x, made = torch.tensor([[0.3, 2.0]]), torch.tensor([[-0.5, -3.0]])
    hinge, other = (Adversary(nn.Identity(), loss=loss) for loss in ("hinge", "nonsaturating"))
    found = hinge.critic_loss(x, made)
    assert found["loss"].item() == pytest.approx((0.7 + 0 + 0.5 + 0) / 4)
    assert (found["real"].item(), found["made"].item()) == pytest.approx((1.15, -1.75))
    expected = (F.softplus(-x) + F.softplus(made)).mean() / 2
    torch.testing.assert_close(other.critic_loss(x, made)["loss"], expected)
    plain = [Adversary(nn.Identity(), 2.0, 0, loss, False) for loss in ("hinge", "nonsaturating")]
    zero, weight = torch.zeros(()), nn.Parameter(torch.zeros(1, 1))
    assert plain[0].model_loss(zero, made, weight)["loss"].item() == pytest.approx(2 * 1.75)
    expected = 2 * F.softplus(-made).mean()
    torch.testing.assert_close(plain[1].model_loss(zero, made, weight)["loss"], expected)


def test_the_balance_is_the_ratio_of_the_gradients_and_is_bounded():
    w = nn.Parameter(torch.tensor([[3.0, 4.0]]))
    assert balance(2 * w.square().sum(), w.sum(), w).item() == pytest.approx(20 / (math.sqrt(2) + 1e-4))
    assert balance(1e5 * w.sum(), 1e-9 * w.sum(), w).item() == pytest.approx(1e4)
    assert balance(0 * w.sum(), w.sum(), w).item() == 0


def test_at_the_last_layer_the_critic_pulls_as_hard_as_the_rest():
    model = autoencoder(weight=0.7)
    last = last_weight(model.decoder)
    assert last is model.decoder.last.weight
    plain = autoencoder(start=9)
    rest = plain.loss(BATCH, rng(), "model", 0)
    found = model.loss(BATCH, rng(), "model", 0)
    assert set(found) == {*rest, "critic", "lambda"}
    torch.testing.assert_close(found["loss"], rest["loss"] + 0.7 * found["critic"])
    (whole,) = torch.autograd.grad(found["loss"], last)
    (own,) = torch.autograd.grad(rest["loss"], last_weight(plain.decoder))
    assert found["lambda"] < 1e4
    assert (whole - own).norm().item() == pytest.approx(0.7 * own.norm().item(), rel=1e-2)


def test_each_players_loss_moves_its_own_weights():
    """In the critic's turn the model stays; in the model's, the trainer holds the critic's weights still."""
    model = autoencoder()
    critics = {id(p) for p in model.players()["critic"].parameters}
    assert critics == {id(p) for p in model.adversary.critic.parameters()}
    found = gradients(model.loss(BATCH, rng(), "critic", 0)["loss"], model)
    reached = {id(p) for p, g in zip(model.parameters(), found, strict=True) if g is not None}
    assert reached == critics


def test_before_its_start_the_critic_has_no_gradients_and_no_say():
    model = autoencoder(start=5)
    assert not model.loss(BATCH, rng(), "critic", 4)["loss"].requires_grad
    assert model.loss(BATCH, rng(), "critic", 5)["loss"].requires_grad
    assert "critic" not in model.loss(BATCH, rng(), "model", 4)
    assert "critic" in model.loss(BATCH, rng(), "model", 5)


TINY = (
    *("model=autoencoder_vq", "bottleneck.codes=16", "bottleneck.size=4", "encoder.width=4", "encoder.blocks=1"),
    *("encoder.multipliers=[1,1]", "critic.width=4", "critic.layers=1", "model.adversary.start=2"),
    *("trainer=debug", "trainer.preview_every=0", "trainer.validate_every=0", "trainer.keep_every=1"),
    *("optim=adamw", "trainer.checkpoint_every=1"),
)


def trained(folder: Path, *words: str) -> None:
    with contextlib.chdir(folder):
        assert main(["train", *words]) == 0


def kept(run: Path, name: str) -> dict:
    return torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)


def moved(before: dict, after: dict) -> set[str]:
    """Of the weights, those of which player moved."""
    pairs = [(key, value, after["state_dict"][key]) for key, value in before["state_dict"].items()]
    changed = [key for key, a, b in pairs if key.startswith("model.") and not torch.equal(a, b)]
    return {"critic" if key.startswith("model.adversary") else "model" for key in changed}


def test_a_run_of_two_players_continues_as_if_it_had_not_stopped(tmp_path):
    trained(tmp_path, *TINY, "trainer.max_steps=4", "hydra.run.dir=whole")
    trained(tmp_path, *TINY, "trainer.max_steps=3", "hydra.run.dir=parts")
    trained(tmp_path, "resume=parts", "trainer.max_steps=4")
    steps = [kept(tmp_path / "whole", f"step_{n:07}") for n in (1, 2, 3, 4)]
    # Kept after the model's turns; the critic's first one is that after step 2.
    both = {"model", "critic"}
    assert [moved(a, b) for a, b in pairwise(steps)] == [{"model"}, both, both]
    whole, parts = (kept(tmp_path / run, "last") for run in ("whole", "parts"))
    assert whole["genlab_progress"] == parts["genlab_progress"]
    for key, value in whole["state_dict"].items():
        assert torch.equal(value, parts["state_dict"][key]), key
