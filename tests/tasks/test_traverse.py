"""Traversals: grids that agree with the data's own codes, in an order of weight."""

from typing import Any

import pytest
import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Field, Spec
from genlab.models.autoencoder.gaussian import DiagonalGaussian
from genlab.models.contract import Model
from genlab.tasks.traverse import Traverse

FIELD = Field((1, 2, 3), levels=256)
SCALE = torch.tensor([1.0, 4.0, 0.5, 2.0, 0.0, 3.0])


class Points(Model):
    """A code number for each pixel, scaled, and no prior."""

    can = frozenset({"encode", "decode"})

    def encode(self, batch: Batch, rng: Rng | None = None) -> Batch:
        return {"z": batch["x"].flatten(1) * SCALE + 1}

    def decode(self, batch: Batch) -> Batch:
        return {"x": torch.tanh(batch["z"]).view(-1, *FIELD.shape)}

    @property
    def latent_spec(self) -> Spec:
        return {"z": Field((6,))}


class Gaussians(Points):
    """The same with a posterior, of which number 2 says most."""

    def posterior(self, x: Tensor) -> DiagonalGaussian:
        mean = self.encode({"x": x})["z"]
        return DiagonalGaussian(mean, torch.tensor([0.0, 0, -20, 0, 0, 0]).expand_as(mean))


class Maps(Points):
    @property
    def latent_spec(self) -> Spec:
        return {"z": Field((2, 3, 3)), "index": Field((3, 3), classes=4)}


DATA = Rng(0, torch.arange(50)).uniform(*FIELD.shape) * 2 - 1


def ready(task: Traverse, model: Model) -> Traverse:
    task.check(model, None)
    task.prepare(model, [{"x": DATA[:20]}, {"x": DATA[20:]}])
    return task


def ask(task: Traverse, model: Model, index: Tensor) -> Batch:
    numbers = task.data(index)
    return task(model, index, 0, None, None, None if numbers is None else {"x": DATA[numbers]})


def test_at_the_codes_own_value_is_its_reconstruction() -> None:
    model = Gaussians({"x": FIELD})
    z = model.encode({"x": DATA[7:8]})["z"][0]
    for d in range(6):
        task = ready(Traverse(range=float(z[d].abs()), points=3, dimensions=d, index=7), model)
        found = ask(task, model, torch.tensor([0]))
        at = 2 if z[d] > 0 else 0
        torch.testing.assert_close(found[f"z_{d}"][0, at], found["x"][0])
        assert torch.equal(found["data"][0], DATA[7])
        others = found[f"z_{d}"].flatten(2)[0, :, [i for i in range(6) if i != d]]
        torch.testing.assert_close(others, found["x"].flatten(1)[:, [i for i in range(6) if i != d]].expand(3, -1))


def test_values_go_evenly_from_low_to_high_in_the_priors_deviations() -> None:
    model = Gaussians({"x": FIELD})
    task = ready(Traverse(range=0.6, points=5, origin="prior", dimensions=[4, 1]), model)
    assert task.layout == (("x",), ("z_4",), ("z_1",))
    assert task.count(64) == 1
    found = ask(task, model, torch.tensor([0]))
    assert (found["x"] == 0).all()
    values = found["z_1"].flatten(2)[0, :, 1].atanh()
    torch.testing.assert_close(values, torch.tensor([-0.6, -0.3, 0, 0.3, 0.6]))


def test_without_a_prior_they_are_those_of_the_codes() -> None:
    model = Points({"x": FIELD})
    task = ready(Traverse(range=1, points=3, origin="prior"), model)
    z = model.encode({"x": DATA})["z"]
    found = ask(task, model, torch.tensor([0]))
    values = found["z_0"].flatten(2)[0, :, 0].atanh()
    mean, deviation = z[:, 0].mean(), z[:, 0].std(correction=0)
    torch.testing.assert_close(values, torch.stack([mean - deviation, mean, mean + deviation]), atol=1e-4, rtol=0)


def test_rows_stand_by_falling_weight() -> None:
    by_variance = ready(Traverse(), Points({"x": FIELD}))
    assert by_variance.rows == [1, 5, 3, 0, 2, 4]
    model = Gaussians({"x": FIELD})
    by_kl = ready(Traverse(most=2), model)
    assert by_kl.rows == [2, 1]
    (curve,) = by_kl.curves({})
    expected = model.posterior(DATA).kl_of_each().double().mean(0)
    assert curve.columns["number"] == expected.argsort(descending=True).tolist()
    assert curve.columns["mean KL (nats)"] == pytest.approx(expected.sort(descending=True).values.tolist())
    assert by_kl.width == 2 * 11


def test_a_grid_is_made_of_each_datum_that_is_named() -> None:
    assert Traverse(index=[4, 2]).count(64) == 2
    assert Traverse(index=None).count(5) == 5
    model = Points({"x": FIELD})
    task = ready(Traverse(index=[4, 2], points=4, dimensions=0), model)
    both, second = ask(task, model, torch.tensor([0, 1])), ask(task, model, torch.tensor([1]))
    assert both["z_0"].shape == (2, 4, *FIELD.shape)
    assert torch.equal(both["z_0"][1:], second["z_0"])


WRONG: dict[str, Any] = {
    "range must be above 0": lambda: Traverse(range=0),
    "points must be at least 2": lambda: Traverse(points=1),
    "most must be at least 1": lambda: Traverse(most=0),
    "task.dimensions=.6.: codes have 6 numbers, 0 to 5": lambda: ready(Traverse(dimensions=6), Points({"x": FIELD})),
    "vectors, and Maps has z of 2x3x3 and index of 3x3": lambda: ready(Traverse(), Maps({"x": FIELD})),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_cannot_be_traversed_is_said(said: str) -> None:
    with pytest.raises((ValueError, UserError), match=said):
        WRONG[said]()
