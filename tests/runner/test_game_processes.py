"""Two processes play a game as one with the doubled batch does, also where losses are of the batch as a whole."""

from pathlib import Path

import pytest
import torch
from lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from genlab.core.collectives import world
from genlab.core.spec import Field
from genlab.models.adversarial.augment import InstanceNoise
from genlab.models.adversarial.gan import GAN
from genlab.models.adversarial.noise import NormalNoise
from genlab.models.adversarial.objective import FeatureMatching, Hinge, Wasserstein
from genlab.models.adversarial.penalty import R1, Clipping, GradientPenalty
from genlab.models.conditioning import ClassLabel
from genlab.networks.adversarial.mlp import MLPCritic, MLPGenerator
from genlab.networks.adversarial.resnet import ResNetCritic, ResNetGenerator
from genlab.runner import processes
from genlab.runner.lightning_module import Training
from genlab.runner.strategy import environment, strategy_of

ROWS = 8
POINTS, PIXELS = (2,), (1, 8, 8)


def points(objective, minibatch: int = 0, **options) -> GAN:
    spec = {"x": Field(POINTS), "label": Field((), classes=3)}
    generator = MLPGenerator(POINTS, None, 3, (8,), vector=2)
    critic = MLPCritic(POINTS, (8,), minibatch=minibatch, vector=2)
    return GAN(spec, generator, critic, NormalNoise(3), objective, ClassLabel(3, 2), **options)


def pictures(**options) -> GAN:
    spec = {"x": Field(PIXELS, levels=17), "label": Field((), classes=3)}
    generator, critic = ResNetGenerator(PIXELS, 17, 3, 4, norm="none", vector=2), ResNetCritic(PIXELS, 4, vector=2)
    return GAN(spec, generator, critic, NormalNoise(3), Hinge(), ClassLabel(3, 2), **options)


GAMES = {
    "gradient penalty": lambda: points(Wasserstein(), penalty=GradientPenalty(), critic_steps=2, historical=0.1),
    "feature matching": lambda: points(FeatureMatching(), augment=InstanceNoise(), penalty=R1(every=2)),
    "minibatch discrimination": lambda: points(FeatureMatching(), minibatch=3),
    "simultaneous": lambda: points(Wasserstein(), minibatch=3, updates="simultaneous", penalty=Clipping(0.2)),
    "spectral": lambda: pictures(critic_steps=2),
}


class Rows(torch.utils.data.Dataset):
    """This process's part of each batch."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def __len__(self) -> int:
        return 20

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(number)
        x = torch.randn(ROWS, *self.shape, generator=generator)
        label = torch.randint(3, (ROWS,), generator=generator)
        rank, count = world()
        return {"x": x.chunk(count)[rank], "label": label.chunk(count)[rank]}


def play(folder: Path | None = None) -> dict[str, dict[str, Tensor]]:
    """All games, in this process's part; what they end in."""
    ends = {}
    for name, make in GAMES.items():
        torch.manual_seed(0)
        model, count = make(), world()[1]
        optimizers = dict.fromkeys(model.players(), lambda parameters: torch.optim.SGD(parameters, 0.05))
        module = Training(model, optimizers, 0, 2, 0, 0.5, 0.5, "", "")
        trainer = Trainer(
            accelerator="cpu",
            devices=count,
            strategy=strategy_of({"strategy": "auto"}, count, model),
            max_steps=3,
            plugins=[environment()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(module, DataLoader(Rows(model.spec["x"].shape), batch_size=None))
        ends[name] = {key: value.detach().clone() for key, value in model.state_dict().items()}
        ends[name] |= {f"told {key}": torch.tensor(value) for key, value in module.drain().items()}
    if folder is not None:
        torch.save(ends, folder / f"{world()[0]}.pt")
    return ends


@pytest.fixture(scope="module")
def ends(tmp_path_factory) -> tuple[dict, dict, dict]:
    """By one process, and by each of two."""
    folder = tmp_path_factory.mktemp("games")
    alone = play()
    processes.run(play, (folder,), 2)
    return alone, *(torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2))


# Means of pairs of data are of each process's own.
OWN = ("told critic/accuracy", "told generator/spread")


@pytest.mark.parametrize("game", GAMES)
def test_two_processes_play_as_one(ends, game):
    """Weights, means of past weights, power iterations, and the losses that are told of."""
    alone, first, second = (end[game] for end in ends)
    assert alone.keys() == first.keys() == second.keys()
    moved = 0
    torch.manual_seed(0)
    start = GAMES[game]().state_dict()
    for key in alone.keys() - set(OWN):
        torch.testing.assert_close(
            first[key], alone[key], rtol=1e-4, atol=2e-6, msg=lambda said, key=key: f"{key} {said}"
        )
        assert torch.equal(first[key], second[key]) or key.startswith("told"), key
        moved += key in start and not torch.allclose(start[key], alone[key], atol=1e-4)
    assert moved > 6
