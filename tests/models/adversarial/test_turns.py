"""Who moves when: turns, steps, micro-batches, clipping, simultaneous updates, and a game that is continued."""

import contextlib
import copy
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from lightning import Callback, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from genlab.cli import main
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Field
from genlab.models.adversarial.gan import GAN
from genlab.models.adversarial.noise import NormalNoise
from genlab.models.adversarial.objective import NonSaturating, Wasserstein
from genlab.models.adversarial.optimistic import OptimisticAdam
from genlab.models.adversarial.penalty import GradientPenalty
from genlab.models.conditioning import ClassLabel, Unconditional
from genlab.networks.adversarial.contract import Critic, Generator, Judged
from genlab.networks.adversarial.mlp import MLPCritic, MLPGenerator
from genlab.networks.adversarial.resnet import ResNetCritic, ResNetGenerator
from genlab.networks.condition import Condition
from genlab.runner.lightning_module import Training

ROWS = 4
POINTS, PIXELS = (2,), (1, 8, 8)


class Batches(torch.utils.data.Dataset):
    """Labelled data, each batch others."""

    def __init__(self, shape: tuple[int, ...], scale: float = 1.0) -> None:
        self.shape, self.scale = shape, scale

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, number: int) -> Batch:
        generator = torch.Generator().manual_seed(number)
        x = self.scale * torch.randn(ROWS, *self.shape, generator=generator)
        return {"x": x, "label": torch.randint(3, (ROWS,), generator=generator)}


def points(**options) -> GAN:
    torch.manual_seed(0)
    generator, critic = MLPGenerator(POINTS, None, 3, (8,), vector=2), MLPCritic(POINTS, (8,), vector=2)
    spec = {"x": Field(POINTS), "label": Field((), classes=3)}
    return GAN(spec, generator, critic, NormalNoise(3), NonSaturating(), ClassLabel(3, 2), **options)


def pictures(**options) -> GAN:
    torch.manual_seed(0)
    generator, critic = ResNetGenerator(PIXELS, 17, 3, 4, vector=2), ResNetCritic(PIXELS, 4, vector=2)
    with torch.no_grad():
        for layer in generator.modules():
            if isinstance(layer, nn.Linear):
                layer.weight += 0.1 * torch.randn_like(layer.weight)
    spec = {"x": Field(PIXELS, levels=17), "label": Field((), classes=3)}
    return GAN(spec, generator, critic, NormalNoise(3), NonSaturating(), ClassLabel(3, 2), **options)


def played(
    model: GAN, steps: int, make=torch.optim.SGD, accumulate: int = 1, clip: float | None = None, watch=(), scale=1.0
) -> Training:
    """A game of so many steps."""
    optimizers = dict.fromkeys(model.players(), lambda parameters: make(parameters, lr=0.1))
    module = Training(model, optimizers, 5, accumulate, 0, clip, 0.5, "", "")
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        callbacks=list(watch),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(Batches(model.spec["x"].shape, scale), batch_size=None))
    return module


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


class Moves(Callback):
    """After each micro-batch, the names of the weights that it moved."""

    def __init__(self) -> None:
        self.found: list[set[str]] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.before = weights(pl_module.model)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        now = weights(pl_module.model)
        self.found.append({name for name, weight in now.items() if not torch.equal(weight, self.before[name])})


@pytest.mark.parametrize("make", [points, pictures])
def test_a_turn_moves_the_weights_of_its_player_and_no_others(make):
    model, moves = make(critic_steps=3, penalty=GradientPenalty()), Moves()
    names = set(weights(model))
    critics = {name for name in names if name.startswith("critic")}
    played(model, 2, lambda weights, lr: torch.optim.SGD(weights, 0.01 * lr), accumulate=2, watch=[moves], scale=0.3)
    turns = [set(), critics] * 3 + [set(), names - critics]
    assert len(critics) > 4
    assert moves.found == turns * 2


def test_steps_are_those_of_the_generator():
    model = points(critic_steps=5)
    module = played(model, 3, torch.optim.Adam, accumulate=2)
    assert module.trainer.global_step == 3
    assert module.micro_batches == 3 * (5 + 1) * 2
    taken = {
        name: {int(state["step"]) for state in optimizer.optimizer.state.values()}
        for name, optimizer in module.named_optimizers.items()
    }
    assert taken == {"critic": {15}, "generator": {3}}


def by_hand(model: GAN, name: str, numbers: tuple[int, ...]) -> list[Tensor]:
    """The mean gradient of a player over the micro-batches of these numbers."""
    player, data, total = model.players()[name], Batches(model.spec["x"].shape), []
    for number in numbers:
        rng = Rng(5, torch.arange(ROWS), step=number).stage("train")
        loss = model.loss(data[number], rng, name, 0)["loss"]
        total.append(torch.autograd.grad(loss, player.parameters))
    return [torch.stack(parts).mean(0) for parts in zip(*total, strict=True)]


@pytest.mark.parametrize("clip", [None, 0.05])
def test_micro_batches_make_a_step_of_their_mean_and_each_player_is_clipped_by_its_own_norm(clip):
    model = points(penalty=GradientPenalty())
    expected = copy.deepcopy(model)
    played(model, 1, accumulate=2, clip=clip)
    for name, numbers in (("critic", (0, 1)), ("generator", (2, 3))):
        gradients = by_hand(expected, name, numbers)
        norm = float(torch.cat([gradient.flatten() for gradient in gradients]).norm())
        assert norm > 0.05
        scale = 1 if clip is None else clip / norm
        with torch.no_grad():
            for weight, gradient in zip(expected.players()[name].parameters, gradients, strict=True):
                weight -= 0.1 * scale * gradient
    torch.testing.assert_close(weights(model), weights(expected), rtol=1e-4, atol=1e-6)


class Point(Generator):
    """Makes one number theta of any noise."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([1.0]))

    def forward(self, z: Tensor, condition: Condition | None = None, rng: Rng | None = None) -> Tensor:
        return self.theta.expand(len(z), 1)


class Slope(Critic):
    """psi x."""

    def __init__(self) -> None:
        super().__init__()
        self.psi = nn.Parameter(torch.tensor([0.5]))

    def forward(self, x: Tensor, condition: Condition | None = None) -> Judged:
        return Judged((self.psi * x).sum(1), x)


def bilinear(updates: str, steps: int, make=torch.optim.SGD) -> tuple[float, float]:
    """(theta, psi) of the game whose equilibrium is (0, 0)."""
    spec = {"x": Field((1,))}
    model = GAN(spec, Point(), Slope(), NormalNoise(1), Wasserstein(), Unconditional(), updates=updates)
    played(model, steps, make, scale=0.0)
    return model.generator.theta.item(), model.critic.psi.item()


def test_simultaneous_updates_move_both_from_one_point_and_spiral_outwards():
    """By eta = 0.1 each step multiplies the distance from the equilibrium by (1 + eta^2)^(1/2)."""
    theta, psi = 1.0, 0.5
    for _ in range(20):
        theta, psi = theta + 0.1 * psi, psi - 0.1 * theta
    found = bilinear("simultaneous", 20)
    assert found == pytest.approx((theta, psi), rel=1e-4)
    assert found[0] ** 2 + found[1] ** 2 == pytest.approx(1.25 * 1.01**20, rel=1e-4)


def test_alternating_updates_answer_the_last_move_and_circle():
    theta, psi = 1.0, 0.5
    for _ in range(20):
        psi = psi - 0.1 * theta
        theta = theta + 0.1 * psi
    found = bilinear("alternating", 20)
    assert found == pytest.approx((theta, psi), rel=1e-4)
    # What they keep is an ellipse.
    assert found[0] ** 2 + found[1] ** 2 - 0.1 * found[0] * found[1] == pytest.approx(1.2, rel=1e-3)


def test_simultaneous_updates_are_of_the_critic_and_the_conditions_as_they_were():
    model = points(updates="simultaneous", penalty=GradientPenalty())
    before = copy.deepcopy(model)
    played(model, 1)
    alternating = copy.deepcopy(before)
    alternating.critic_before = alternating.told_before = None
    gradients = by_hand(alternating, "generator", (1,))
    start = before.players()["generator"].parameters
    expected = [weight - 0.1 * gradient for weight, gradient in zip(start, gradients, strict=True)]
    for weight, value in zip(model.players()["generator"].parameters, expected, strict=True):
        torch.testing.assert_close(weight, value, rtol=1e-5, atol=1e-7)
    assert not torch.equal(model.critic_conditioner.embedding.weight, before.critic_conditioner.embedding.weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"critic_steps": 0}, "^critic_steps=0 must be at least 1$"),
        ({"critic_steps": 2, "updates": "simultaneous"}, "^updates=simultaneous moves both players at once"),
        ({"historical": -1.0}, "^historical=-1.0 must be"),
    ],
)
def test_turns_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        points(**options)


def gradients_of(weight: nn.Parameter, gradients: list[Tensor], optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The weight after each step."""
    found = []
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
        found.append(weight.detach().clone())
    return found


def test_optimistic_adam_takes_two_of_its_steps_and_one_of_the_last_back():
    """Adam's own steps are those of torch, whose weights they move one by one."""
    torch.manual_seed(0)
    gradients = list(torch.randn(6, 5, dtype=torch.float64))
    start = torch.randn(5, dtype=torch.float64)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    adam = torch.optim.Adam([theirs], 0.01, (0.3, 0.7), eps=1e-8)
    path = [start, *gradients_of(theirs, gradients, adam)]
    steps = [b - a for a, b in pairwise(path)]
    found = gradients_of(ours, gradients, OptimisticAdam([ours], 0.01, (0.3, 0.7)))
    expected = start
    for number, at in enumerate(found):
        expected = expected + 2 * steps[number] - (steps[number - 1] if number else 0)
        torch.testing.assert_close(at, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("kind", "nears"), [(OptimisticAdam, True), (torch.optim.Adam, False)])
def test_an_optimistic_game_comes_to_its_equilibrium_and_another_does_not(kind, nears):
    theta, psi = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(0.5))
    optimizer = kind([theta, psi], lr=0.1, betas=(0.0, 0.999))
    for _ in range(300):
        theta.grad, psi.grad = -psi.detach().clone(), theta.detach().clone()
        optimizer.step()
    apart = theta.item() ** 2 + psi.item() ** 2
    assert apart < 1e-6 if nears else apart > 1.25


TINY = (
    *("model=gan", "data=digits", "generator.hidden=[8]", "critic.hidden=[8]", "noise.size=5", "trainer=debug"),
    *("generator.norm=batch", "critic.dropout=0.3", "critic.norm=spectral", "critic.minibatch=2"),
    *("conditioner=label", "conditioner.vector=3", "conditioner.dropout=0.2", "model.historical=0.1"),
    *("penalty=r1", "penalty.every=2", "augment=instance_noise", "augment.steps=5", "optim.players.critic.lr=1e-3"),
    *("trainer.accumulate=2", "optim.gradient_clip=0.5", "optim.warmup_steps=2", "trainer.batch_size=300"),
    *("trainer.preview_every=0", "trainer.validate_every=0", "trainer.checkpoint_every=1"),
)
STATES = ("state_dict", "genlab_progress", "global_step")


def trained(folder: Path, *words: str) -> None:
    with contextlib.chdir(folder):
        assert main(["train", *words]) == 0


@pytest.mark.parametrize(
    "more",
    [("model.critic_steps=2",), ("model.updates=simultaneous", "optim=optimistic_adam")],
    ids=["steps", "at once"],
)
def test_a_game_continues_as_if_it_had_not_stopped(tmp_path, more):
    """Bit for bit, with all that has a state: moments, power iterations, means of weights, running statistics."""
    trained(tmp_path, *TINY, *more, "trainer.max_steps=3", "hydra.run.dir=whole")
    trained(tmp_path, *TINY, *more, "trainer.max_steps=1", "hydra.run.dir=parts")
    trained(tmp_path, "resume=parts", "trainer.max_steps=3")
    whole, parts = (
        torch.load(tmp_path / run / "checkpoints" / "last.ckpt", weights_only=True) for run in ("whole", "parts")
    )
    for key in STATES:
        torch.testing.assert_close(parts[key], whole[key], rtol=0, atol=0, msg=key)
    for ours, theirs in zip(parts["optimizer_states"], whole["optimizer_states"], strict=True):
        torch.testing.assert_close(ours["state"], theirs["state"], rtol=0, atol=0)
    assert whole["genlab_progress"] == {"micro_batches": 3 * 2 * (3 if "model.critic_steps=2" in more else 2)}
    assert whole["global_step"] == 3
