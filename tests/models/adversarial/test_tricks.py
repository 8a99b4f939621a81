"""Minibatch discrimination, historical averaging and instance noise, each against its formula."""

import pytest
import torch
from torch import nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.models.adversarial.augment import InstanceNoise
from genlab.models.adversarial.gan import GAN
from genlab.models.adversarial.historical import HistoricalAverage
from genlab.models.adversarial.noise import NormalNoise, UniformNoise
from genlab.models.adversarial.objective import NonSaturating
from genlab.models.conditioning import Unconditional
from genlab.networks.adversarial.head import Head, MinibatchDiscrimination
from genlab.networks.adversarial.mlp import MLPCritic, MLPGenerator
from genlab.networks.condition import Condition


def points(**options) -> GAN:
    torch.manual_seed(0)
    generator, critic = MLPGenerator((2,), None, 3, (8,)), MLPCritic((2,), (8,))
    return GAN({"x": Field((2,))}, generator, critic, NormalNoise(3), NonSaturating(), Unconditional(), **options)


def data(rows: int = 64) -> tuple[dict[str, torch.Tensor], Rng]:
    rng = Rng(0, torch.arange(rows), step=3)
    return {"x": rng.stage("data").normal(2)}, rng.stage("train")


def test_discrimination_is_the_sum_of_nearness_to_the_others():
    torch.manual_seed(0)
    layer, f = MinibatchDiscrimination(3, 4, 2), torch.randn(5, 3)
    m = (f @ layer.weight).view(5, 4, 2)
    expected = torch.zeros(5, 4)
    for i in range(5):
        for j in range(5):
            if i != j:
                expected[i] += (-(m[i] - m[j]).abs().sum(1)).exp()
    torch.testing.assert_close(layer(f), expected)


def test_discrimination_is_greatest_where_all_are_alike():
    torch.manual_seed(0)
    layer = MinibatchDiscrimination(3, 4)
    torch.testing.assert_close(layer(torch.ones(6, 3)), torch.full((6, 4), 5.0))
    assert layer(torch.randn(6, 3)).max() < 5
    with pytest.raises(UserError, match=r"^critic.minibatch: compares the data of a batch, and trainer.batch_size=1"):
        layer(torch.ones(1, 3))


def test_a_head_projects_the_condition_on_the_features():
    torch.manual_seed(0)
    head, f, c = Head(6, 4, 3), torch.randn(5, 6), torch.randn(5, 4)
    judged = head(f, Condition(vector=c))
    plain = head.score(torch.cat([f, head.others(f)], dim=1))[:, 0]
    torch.testing.assert_close(judged.score, plain + (c @ head.project.weight.T * f).sum(1) / 2)
    torch.testing.assert_close(judged.features, f)


def test_historical_averages_are_the_means_of_all_past_weights():
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    average, seen = HistoricalAverage(network), []
    assert average.distance(network).item() == 0
    for _ in range(7):
        with torch.no_grad():
            for weight in network.parameters():
                weight += torch.randn_like(weight)
        seen.append([weight.detach().clone() for weight in network.parameters()])
        average.update(network)
    means = [torch.stack(each).mean(0) for each in zip(*seen, strict=True)]
    distance = average.distance(network)
    apart = [weight - mean for weight, mean in zip(network.parameters(), means, strict=True)]
    torch.testing.assert_close(distance, sum(part.square().sum() for part in apart))
    gradients = torch.autograd.grad(distance, list(network.parameters()))
    torch.testing.assert_close(list(gradients), [2 * part for part in apart])


def test_each_player_pays_for_its_own_distance():
    model, plain = points(historical=0.5), points()
    batch, rng = data()
    for name, network in (("critic", model.critic), ("generator", model.generator)):
        model.after_step(name, 1)
        with torch.no_grad():
            for weight in network.parameters():
                weight += 0.1
        for mine, theirs in ((model.critic, plain.critic), (model.generator, plain.generator)):
            theirs.load_state_dict(mine.state_dict())
        count = sum(weight.numel() for weight in network.parameters())
        found, without = (each.loss(batch, rng, name, 0) for each in (model, plain))
        assert found["historical"].item() == pytest.approx(0.5 * 0.01 * count, rel=1e-4)
        torch.testing.assert_close(found["loss"], without["loss"] + found["historical"])


def test_instance_noise_fades():
    x, rng = torch.zeros(20_000, 2), Rng(0, torch.arange(20_000))
    noise = InstanceNoise(0.4, 100)
    deviations = [noise(x, rng.stage("augment"), step).std().item() for step in (0, 50, 90, 100, 1000)]
    assert deviations == pytest.approx([0.4, 0.2, 0.04, 0, 0], rel=0.02)
    assert InstanceNoise(0.4)(x, rng, 10**6).std().item() == pytest.approx(0.4, rel=0.02)
    half = noise(x[:100], rng.rows(slice(0, 100)).stage("augment"), 0)
    torch.testing.assert_close(half, noise(x, rng.stage("augment"), 0)[:100])


class Seen(InstanceNoise):
    """Keeps what it made."""

    def forward(self, x, rng, step):
        self.made = [*getattr(self, "made", []), super().forward(x, rng, step)]
        return self.made[-1]


def test_noise_is_on_all_that_the_critic_sees_and_each_has_its_own():
    augment = Seen(0.3)
    model, (batch, rng) = points(augment=augment), data(4000)
    model.loss(batch, rng, "critic", 0)
    made = model.made({}, rng)
    on_data, on_made = (seen - clean for seen, clean in zip(augment.made, (batch["x"], made), strict=True))
    assert on_data.std().item() == pytest.approx(0.3, rel=0.05)
    assert on_made.std().item() == pytest.approx(0.3, rel=0.05)
    assert abs((on_data * on_made).mean().item()) < 0.01
    loss = model.loss(batch, rng, "generator", 0)["loss"]
    assert len(augment.made) == 3
    gradients = torch.autograd.grad(loss, list(model.generator.parameters()))
    assert all(gradient.abs().max() > 0 for gradient in gradients)


@pytest.mark.parametrize(("kind", "deviation"), [(NormalNoise, 1.0), (UniformNoise, 3**-0.5)])
def test_noise_that_data_are_made_of(kind, deviation):
    z = kind(3).sample(Rng(0, torch.arange(20_000)))
    assert z.shape == (20_000, 3)
    assert z.mean(0).abs().max() < 0.03
    torch.testing.assert_close(z.std(0), torch.full((3,), deviation), rtol=0.02, atol=0)
    assert (z.abs().max() <= 1) == (kind is UniformNoise)
    with pytest.raises(ValueError, match=r"^size=0 must be at least 1$"):
        kind(0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InstanceNoise(0.0), "^sigma=0.0 must be a number above 0"),
        (lambda: InstanceNoise(0.1, 0), "^steps=0 must be at least 1"),
        (lambda: Head(3, minibatch=-1), "^minibatch=-1 must be at least 0$"),
    ],
)
def test_tricks_that_do_nothing_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
