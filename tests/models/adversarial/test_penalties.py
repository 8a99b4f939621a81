"""What holds a critic back: slopes by hand, intervals, boxes, and the distance that a critic so held finds."""

import math

import pytest
import torch
from torch import Tensor, nn

from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.models.adversarial.gan import GAN
from genlab.models.adversarial.noise import NormalNoise
from genlab.models.adversarial.objective import Wasserstein
from genlab.models.adversarial.penalty import R1, Clipping, GradientPenalty, Penalty
from genlab.models.conditioning import Unconditional
from genlab.networks.adversarial.contract import Critic, Generator, Judged
from genlab.networks.adversarial.mlp import MLPCritic
from genlab.networks.condition import Condition

ROWS = 5


class Quadratic(Critic):
    """x A x / 2 + (b + c) x, whose slope is x (A + A') / 2 + b + c."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(3, 3, dtype=torch.float64) / 2)
        self.b = nn.Parameter(torch.randn(3, dtype=torch.float64) / 2)

    def slope(self, x: Tensor, told: Tensor) -> Tensor:
        return x @ (self.a + self.a.T) / 2 + self.b + told

    def forward(self, x: Tensor, condition: Condition | None = None) -> Judged:
        told = 0 if condition is None else condition.vector
        return Judged((x @ self.a * x).sum(1) / 2 + ((self.b + told) * x).sum(1), x)


def drawn() -> tuple[Quadratic, Tensor, Tensor, Condition, Rng]:
    torch.manual_seed(0)
    critic = Quadratic()
    real, made, told = torch.randn(3, ROWS, 3, dtype=torch.float64)
    return critic, real, made, Condition(vector=told / 4), Rng(0, torch.arange(ROWS)).stage("penalty")


@pytest.mark.parametrize("one_sided", [False, True])
def test_the_gradient_penalty_by_hand(one_sided):
    critic, real, made, told, rng = drawn()
    found = GradientPenalty(7.0, one_sided).loss(critic, real, made, told, rng)
    u = Rng(0, torch.arange(ROWS)).stage("penalty").uniform(dtype=torch.float64)[:, None]
    slope = critic.slope(u * real + (1 - u) * made, told.vector)
    excess = slope.norm(dim=1) - 1
    assert excess.min() < 0 < excess.max()
    expected = 7 * (excess.clamp(min=0) if one_sided else excess).square()
    torch.testing.assert_close(found, expected)
    weights = [critic.a, critic.b]
    ours, theirs = (torch.autograd.grad(loss.mean(), weights) for loss in (found, expected))
    torch.testing.assert_close(ours, theirs)


def test_r1_by_hand():
    critic, real, made, told, rng = drawn()
    found = R1(3.0).loss(critic, real, made, told, rng)
    expected = 1.5 * critic.slope(real, told.vector).square().sum(1)
    torch.testing.assert_close(found, expected)
    weights = [critic.a, critic.b]
    ours, theirs = (torch.autograd.grad(loss.mean(), weights) for loss in (found, expected))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(R1(3.0).loss(critic, real, -made, told, rng), found)


@pytest.mark.parametrize("penalty", [GradientPenalty(), R1()])
def test_slopes_of_networks_are_those_of_finite_differences(penalty):
    """Of a deep critic, in mixed precision too, in which slopes are taken in single."""
    torch.manual_seed(0)
    critic = MLPCritic((1, 2, 3), (16, 8), norm="spectral").eval()
    real, made = torch.randn(2, ROWS, 1, 2, 3)

    def drawn() -> Rng:
        return Rng(0, torch.arange(ROWS))

    found = penalty.loss(critic, real, made, None, drawn())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(penalty.loss(critic, real, made, None, drawn()), found)
    u = drawn().uniform().view(-1, 1, 1, 1) if isinstance(penalty, GradientPenalty) else 1
    at = (u * real + (1 - u) * made).double()
    critic.double()
    moves = 1e-5 * torch.eye(6, dtype=torch.float64).view(6, 1, 1, 2, 3)
    up, down = ([critic(at + sign * move).score for move in moves] for sign in (1, -1))
    slope = (torch.stack(up) - torch.stack(down)) / 2e-5
    squared = slope.square().sum(0)
    expected = 5 * squared if isinstance(penalty, R1) else 10 * (squared.sqrt() - 1).square()
    torch.testing.assert_close(found.double().detach(), expected.detach(), rtol=1e-4, atol=1e-5)


class Shift(Generator):
    """Noise moved by a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor([1.5, -2.0]))

    def forward(self, z: Tensor, condition: Condition | None = None, rng: Rng | None = None) -> Tensor:
        return z + self.shift


def game(penalty: Penalty, hidden: tuple[int, ...] = (8,)) -> GAN:
    """Between N(0, I) and N((1.5, -2), I), which are 2.5 apart."""
    torch.manual_seed(0)
    critic = MLPCritic((2,), hidden)
    return GAN({"x": Field((2,))}, Shift(), critic, NormalNoise(2), Wasserstein(), Unconditional(), penalty)


def batch(rows: int, step: int = 0) -> tuple[dict[str, Tensor], Rng]:
    rng = Rng(0, torch.arange(rows), step)
    return {"x": rng.stage("data").normal(2)}, rng.stage("train")


def test_a_lazy_penalty_counts_in_some_steps_and_as_much_on_the_whole():
    lazy, always = game(R1(2.0, every=4)), game(R1(2.0))
    data, rng = batch(ROWS)
    parts = [lazy.loss(data, rng, "critic", step) for step in range(8)]
    each = always.loss(data, rng, "critic", 3)
    assert [step for step, found in enumerate(parts) if "penalty" in found] == [0, 4]
    torch.testing.assert_close(parts[4]["penalty"], each["penalty"])
    mean = torch.stack([found["loss"] for found in parts]).mean()
    torch.testing.assert_close(mean, each["loss"])


def test_the_critic_finds_the_distance_of_shifted_normals():
    """W = 2.5. A penalty lets slopes pass 1 by W / (2 lambda), by which scores then differ too much; what is left when
    it is taken off is W + W^2 / (4 lambda)."""
    weight, apart = 25.0, 2.5
    model = game(GradientPenalty(weight), (32,))
    optimizer = torch.optim.Adam(model.critic.parameters(), 5e-3, (0.5, 0.9))
    found = []
    for step in range(300):
        data, rng = batch(256, step)
        parts = model.loss(data, rng, "critic", step)
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        found.append(torch.stack([parts["real"] - parts["made"], -parts["loss"]]).detach())
    estimate, less_penalty = torch.stack(found[-100:]).mean(0).tolist()
    assert estimate == pytest.approx(apart * (1 + apart / (2 * weight)), rel=0.02)
    assert less_penalty == pytest.approx(apart + apart**2 / (4 * weight), rel=0.02)
    assert estimate == pytest.approx(apart, rel=0.08)


def test_clipping_puts_all_of_the_critics_weights_into_the_box_and_no_others():
    model = game(Clipping(0.02))
    data, rng = batch(ROWS)
    assert set(model.loss(data, rng, "critic", 0)) == {"loss", "real", "made", "accuracy"}
    before = [weight.detach().clone() for weight in model.critic.parameters()]
    generators = [weight.detach().clone() for weight in model.generator.parameters()]
    model.after_step("generator", 1)
    assert all(torch.equal(a, b) for a, b in zip(before, model.critic.parameters(), strict=True))
    model.after_step("critic", 1)
    for a, b in zip(before, model.critic.parameters(), strict=True):
        assert torch.equal(b, a.clamp(-0.02, 0.02))
        assert a.abs().max() > 0.02
    assert all(torch.equal(a, b) for a, b in zip(generators, model.generator.parameters(), strict=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GradientPenalty(0.0), "^weight=0.0 must be a number above 0"),
        (lambda: GradientPenalty(math.nan), "^weight=nan must be"),
        (lambda: R1(-1.0), "^weight=-1.0 must be"),
        (lambda: R1(1.0, 0), "^every=0 must be at least 1$"),
        (lambda: Clipping(0.0), "^limit=0.0 must be"),
    ],
)
def test_penalties_of_nothing_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
