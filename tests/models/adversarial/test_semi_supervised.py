"""A classifier that is a critic: its probabilities, its two losses, and that it learns from what has no label."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Field, Spec
from genlab.models.adversarial.augment import InstanceNoise
from genlab.models.adversarial.noise import NormalNoise
from genlab.models.adversarial.objective import FeatureMatching, Hinge, NonSaturating, Objective
from genlab.models.adversarial.semi_supervised import SemiSupervisedGAN
from genlab.models.conditioning import ClassLabel, Conditioner, Unconditional
from genlab.networks.adversarial.classifying import NoisyMLPCritic
from genlab.networks.adversarial.contract import Critic
from genlab.networks.adversarial.mlp import MLPCritic, MLPGenerator

K = 3
X = Field((2,))
SPEC: Spec = {"x": X, "labelled": X, "labelled_as": Field((), classes=K)}


def model_of(
    objective: Objective | None = None,
    critic: Critic | None = None,
    conditioner: Conditioner | None = None,
    spec: Spec = SPEC,
    unlabelled: float = 0.5,
    augment: InstanceNoise | None = None,
) -> SemiSupervisedGAN:
    torch.manual_seed(0)
    return SemiSupervisedGAN(
        spec,
        MLPGenerator((2,), None, 4, (16,)),
        critic or NoisyMLPCritic((2,), K, (16, 16), 0.0, 0.0),
        NormalNoise(4),
        objective or FeatureMatching(),
        conditioner or Unconditional(),
        augment=augment,
        unlabelled=unlabelled,
    )


def batch_of(rows: int, step: int = 0) -> Batch:
    rng = Rng(1, torch.arange(rows), step=step)
    label = rng.stage("label").integers(K)
    x, labelled = (rng.stage(name).normal(2) for name in ("x", "labelled"))
    return {"x": x, "labelled": labelled, "labelled_as": label}


def turn(model: SemiSupervisedGAN, batch: Batch, player: str = "critic") -> dict[str, Tensor]:
    return model.loss(batch, Rng(0, torch.arange(len(batch["x"])), step=1).stage("train"), player, 0)


def test_the_class_of_what_is_made_is_one_more_with_a_fixed_number():
    """-log p(made) and -log p(a class of data), with K + 1 classes written out."""
    model, batch = model_of(), batch_of(8)
    losses = turn(model, batch)
    with torch.no_grad():
        made = model.game.made({}, Rng(0, torch.arange(8), step=1).stage("train"))

        def extended(x: Tensor) -> Tensor:
            each = model.classifier(x).score
            return torch.cat([each, torch.zeros(len(x), 1)], dim=1).log_softmax(1)

        real, fake = extended(batch["x"]), extended(made)
        game = -(1 - real[:, K].exp()).log().mean() - fake[:, K].mean()
        labelled = F.cross_entropy(model.classifier(batch["labelled"]).score, batch["labelled_as"])
    torch.testing.assert_close(losses["game"], game, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses["labelled"], labelled)
    torch.testing.assert_close(losses["loss"], labelled + 0.5 * game, rtol=1e-4, atol=1e-5)
    right = model.classify({"x": batch["labelled"]}).argmax(1) == batch["labelled_as"]
    torch.testing.assert_close(losses["error"], 1 - right.float().mean())


def test_probabilities_of_classes_sum_to_one_and_do_not_depend_on_the_batch():
    model, batch = model_of().eval(), batch_of(8)
    log_p = model.classify(batch)
    assert log_p.shape == (8, K)
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(8))
    torch.testing.assert_close(model.classify({"x": batch["x"][:3]}), log_p[:3])


def test_nothing_unlabelled_counts_where_it_is_told_to():
    model, batch = model_of(unlabelled=0.0), batch_of(8)
    losses = turn(model, batch)
    assert losses["loss"] == losses["labelled"]
    other = {**batch, "x": batch["x"] + 1}
    assert turn(model, other)["loss"] == losses["loss"]


def test_the_generator_is_that_of_the_game_and_sees_no_label():
    model, batch = model_of(), batch_of(8)
    loss = turn(model, batch, "generator")["loss"]
    other = {**batch, "labelled": -batch["labelled"], "labelled_as": (batch["labelled_as"] + 1) % K}
    assert turn(model, other, "generator")["loss"] == loss
    features = [
        model.classifier(x).features
        for x in (batch["x"], model.game.made({}, Rng(0, torch.arange(8), step=1).stage("train")))
    ]
    torch.testing.assert_close(loss, (features[0].mean(0) - features[1].mean(0)).square().sum())


def test_labelled_data_are_augmented_as_all_that_the_critic_sees():
    plain, noisy, batch = model_of(), model_of(augment=InstanceNoise(0.5)), batch_of(64)
    assert turn(plain, batch)["labelled"] != turn(noisy, batch)["labelled"]
    assert turn(noisy, batch)["labelled"] == turn(noisy, batch)["labelled"]
    assert plain.classify(batch).equal(noisy.classify(batch))


def test_the_first_units_have_mean_0_and_deviation_1_on_data():
    model = model_of(critic=NoisyMLPCritic((2,), K, (16, 16)))
    batches = [batch_of(50, step) for step in range(4)]
    model.prepare(iter(batches))
    assert model.training
    x = torch.cat([batch["x"] for batch in batches])
    each = model.eval().classifier(x).score
    torch.testing.assert_close(each.mean(0), torch.zeros(K), rtol=0, atol=1e-5)
    torch.testing.assert_close(each.std(0, correction=0), torch.ones(K))


@pytest.mark.parametrize("objective", [FeatureMatching(), NonSaturating(), Hinge()])
def test_it_learns_three_clusters_from_one_label_each(objective):
    """Labels of three points that lie aside, where data without labels tell how far each cluster reaches."""
    angle = torch.arange(K) * 2 * torch.pi / K
    centre = 2 * torch.stack([angle.cos(), angle.sin()], dim=1)

    def drawn(rng: Rng) -> tuple[Tensor, Tensor]:
        label = rng.stage("label").integers(K)
        return centre[label] + 0.3 * rng.stage("x").normal(2), label

    model = model_of(objective, NoisyMLPCritic((2,), K, (32, 32), 0.1, 0.1))
    players = model.players()
    optimizers = {name: torch.optim.Adam(player.parameters, 3e-3, (0.5, 0.999)) for name, player in players.items()}
    known, number = 1.2 * centre, torch.arange(60) % K
    for step in range(150):
        rng = Rng(0, torch.arange(60), step=step)
        batch = {"x": drawn(rng)[0], "labelled": known[number], "labelled_as": number}
        for name in players:
            model.loss(batch, rng.stage("train"), name, step)["loss"].backward()
            optimizers[name].step()
            model.zero_grad(set_to_none=True)
    x, label = drawn(Rng(9, torch.arange(300)).stage("test"))
    assert (model.eval().classify({"x": x}).argmax(1) == label).float().mean() > 0.98


def test_bad_choices_are_a_line():
    with pytest.raises(UserError, match="data=mnist_few_labels"):
        model_of(spec={"x": X, "label": Field((), classes=K)})
    with pytest.raises(UserError, match="conditioner=none"):
        model_of(conditioner=ClassLabel(K, 4))
    with pytest.raises(ValueError, match="unlabelled=-1"):
        model_of(unlabelled=-1)
    with pytest.raises(UserError, match=r"critic: it makes 1 numbers .* 3 classes"):
        model_of(critic=MLPCritic((2,), (8,))).classify(batch_of(2))
