"""Codes that are looked for: against least squares, whatever the batch, and from several beginnings."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Field
from genlab.models.autoencoder.perceptual import Perceptual, distance
from genlab.models.contract import Model
from genlab.tasks.project import Project

SHAPE, SIZE = (1, 4, 4), 3


class Decoder(Model):
    """Makes data of normal codes by a function of A z + b."""

    can = frozenset({"sample", "decode"})

    def __init__(self, of: Callable[[Tensor], Tensor] = lambda h: h) -> None:
        super().__init__({"x": Field(SHAPE, levels=256)})
        rng = Rng(3, torch.arange(16)).stage("A")
        self.matrix, self.shift = nn.Parameter(rng.normal(SIZE)), nn.Parameter(0.1 * rng.normal(1)[:, 0])
        self.of = of
        self.requires_grad_(False)

    def prior(self, rng: Rng) -> Batch:
        return {"z": rng.normal(SIZE)}

    def decode(self, batch: Batch) -> Batch:
        return {"x": self.of(batch["z"] @ self.matrix.T + self.shift).unflatten(1, SHAPE)}


def data(n: int) -> Batch:
    return {"x": Rng(5, torch.arange(n)).uniform(*SHAPE) * 2 - 1}


def ask(task: Project, model: Model, index: Tensor, batch: Batch) -> Batch:
    task.check(model, None)
    with torch.no_grad():
        return task(model, index, 0, None, None, {"x": batch["x"][index]})


def test_the_nearest_of_linear_data_is_that_of_least_squares() -> None:
    model, batch = Decoder(), data(6)
    found = ask(Project(steps=400, lr=0.2), model, torch.arange(6), batch)
    expected = torch.linalg.lstsq(model.matrix, (batch["x"].flatten(1) - model.shift).T).solution.T
    torch.testing.assert_close(found["z"], expected, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found["x"], model.decode({"z": expected})["x"], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found["mse"], (found["x"] - batch["x"]).double().square().flatten(1).mean(1))


def test_data_that_the_model_makes_are_found_again() -> None:
    model = Decoder(torch.tanh)
    z = model.prior(Rng(9, torch.arange(4)))["z"] / 3
    found = ask(Project(steps=400, restarts=3), model, torch.arange(4), model.decode({"z": z}))
    torch.testing.assert_close(found["z"], z, atol=0.02, rtol=0.02)
    assert found["psnr"].min() > 40


def test_more_beginnings_end_no_worse_and_some_better() -> None:
    """Of data by a sine there are many valleys."""
    model, batch, index = Decoder(lambda h: (3 * h).sin()), data(8), torch.arange(8)
    one, four = (ask(Project(steps=60, restarts=n), model, index, batch)["mse"] for n in (1, 4))
    assert (four <= one + 1e-9).all()
    assert (four < 0.9 * one).any()


def test_the_distance_may_be_that_of_features() -> None:
    network = nn.Conv2d(1, 5, 3, bias=False)
    nn.init.normal_(network.weight, generator=torch.Generator().manual_seed(0))
    seen = Perceptual(lambda: lambda x: [network(x)])
    model, batch, index = Decoder(), data(5), torch.arange(5)
    task = Project(steps=200, distance="perceptual", perceptual=seen)
    found, by_pixels = ask(task, model, index, batch), ask(Project(steps=200), model, index, batch)
    away = [distance([network(batch["x"])], [network(x["x"])]) for x in (found, by_pixels)]
    torch.testing.assert_close(found["perceptual"], away[0])
    assert (away[0] < away[1]).all()
    assert (found["mse"] > by_pixels["mse"]).all()


def test_what_cannot_be_looked_for() -> None:
    class Blind(Decoder):
        """Decodes without gradients."""

        @torch.no_grad()
        def decode(self, batch: Batch) -> Batch:
            return super().decode(batch)

    class Hidden(Model):
        """Nobody knows where its codes begin."""

        can = frozenset({"decode"})

    with pytest.raises(UserError, match="Blind decodes without gradients"):
        Project().check(Blind(), None)
    with pytest.raises(UserError, match="Hidden has no prior of codes"):
        Project().check(Hidden({"x": Field(SHAPE)}), None)
    with pytest.raises(ValueError, match="perceptual must be given"):
        Project(distance="perceptual")
