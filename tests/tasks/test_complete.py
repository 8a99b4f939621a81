"""task=complete: what is given stays, the rest is drawn as the model would, and what cannot be is said before."""

import pytest
import torch
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Field, Spec
from genlab.models.autoregressive.model import Autoregressive
from genlab.models.autoregressive.sampler import Places
from genlab.models.conditioning import ClassLabel, Conditioner, Unconditional
from genlab.models.contract import Model
from genlab.models.outputs.bernoulli import Bernoulli
from genlab.networks.causal.causal import Causal
from genlab.networks.condition import Condition
from genlab.tasks.complete import Complete


class Kept(Causal):
    """A place is as likely to be white as that before it; what it is told is added."""

    def __init__(self, count: int, order: Tensor | None = None) -> None:
        super().__init__()
        self.order = torch.arange(count) if order is None else order
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        before = x.flatten(2)[..., self.order].roll(1, 2)
        before = torch.cat([torch.zeros_like(before[..., :1]), before[..., 1:]], dim=2)
        told = 0.0 if condition is None or condition.vector is None else condition.vector[:, :1, None]
        return (self.weight * before + told)[..., self.order.argsort()].view_as(x)


def model(*shape: int, order: Tensor | None = None, conditioner: Conditioner | None = None) -> Autoregressive:
    spec: Spec = {"x": Field(shape, levels=2), "label": Field((), classes=2)}
    count = int(torch.tensor(shape[1:]).prod())
    network = Kept(count, order)
    return Autoregressive(spec, lambda features: network, Bernoulli(shape), conditioner or Unconditional()).eval()


def data(n: int, *shape: int) -> Tensor:
    return 2.0 * Rng(1, torch.arange(n)).integers(2, *shape) - 1


def ask(task: Complete, of: Model, batch: Batch, seed: int = 0, sampler: Places | None = None) -> Batch:
    task.check(of, sampler)
    return task(of, torch.arange(len(batch["x"])), seed, sampler, None, batch)


def test_the_top_is_kept_and_the_rest_drawn():
    of, x = model(1, 6, 5), data(40, 1, 6, 5)
    found = ask(Complete(rows=2), of, {"x": x})
    assert torch.equal(found["data"], x)
    assert torch.equal(found["x"][..., :2, :], x[..., :2, :])
    assert (found["x"][..., 2:, :] != x[..., 2:, :]).any()
    assert (found["x"].abs() == 1).all()
    assert torch.equal(found["given"][..., :2, :], x[..., :2, :])
    assert (found["given"][..., 2:, :] == 0).all()
    # The first place that is drawn follows the last that is given.
    follows = found["x"][:, 0, 2, 0] == x[:, 0, 1, 4]
    assert follows.float().mean() > 0.7
    other = ask(Complete(rows=2), of, {"x": x}, seed=1)
    assert (other["x"] != found["x"]).any()
    assert torch.equal(other["given"], found["given"])


def test_half_is_given_where_nobody_says():
    assert Complete().known(Field((1, 7, 3))).sum(0).tolist() == [3, 3, 3]
    assert Complete().known(Field((1, 10))).tolist() == [True] * 5 + [False] * 5


def test_sequences_are_completed_from_their_beginning():
    of, x = model(1, 9), data(6, 1, 9)
    found = ask(Complete(rows=4), of, {"x": x})
    assert torch.equal(found["x"][..., :4], x[..., :4])
    assert found["x"].shape == x.shape


def test_a_sample_is_completed_to_itself():
    of = model(1, 4, 4)
    index = torch.arange(5)
    drawn = of.sample({}, Rng(3, index).stage("sample"))["x"]
    for rows in (1, 3):
        assert torch.equal(ask(Complete(rows=rows), of, {"x": drawn}, seed=3)["x"], drawn)


def test_a_low_temperature_keeps_to_what_is_likely():
    of, x = model(1, 4, 4), data(8, 1, 4, 4)
    cold = ask(Complete(rows=1), of, {"x": x}, sampler=Places(1e-3))["x"].flatten(1)
    assert torch.equal(cold[:, 4:], cold[:, 3:4].expand(-1, 12))


def test_labels_are_those_of_the_data_or_those_asked_for():
    torch.manual_seed(0)
    of = model(1, 4, 4, conditioner=ClassLabel(2, vector=1))
    with torch.no_grad():
        of.conditioner.embedding.weight[:2, 0] = torch.tensor([-50.0, 50.0])
    batch = {"x": data(6, 1, 4, 4), "label": torch.tensor([0, 1] * 3)}
    found = ask(Complete(rows=1), of, batch)
    assert torch.equal(found["label"], batch["label"])
    assert torch.equal(found["x"][:, 0, 1:].mean((1, 2)), torch.tensor([-1.0, 1.0] * 3))
    asked = ask(Complete(rows=1, label=1), of, batch)
    assert (asked["x"][:, 0, 1:] == 1).all()


def test_an_order_that_begins_with_what_is_given_will_do():
    """Whatever the order among the places that are given, and among the others."""
    order = torch.tensor([3, 1, 0, 2, 7, 4, 6, 5])
    of, x = model(1, 4, 2, order=order), data(3, 1, 4, 2)
    assert torch.equal(ask(Complete(rows=2), of, {"x": x})["x"][..., :2, :], x[..., :2, :])


class Other(Model):
    """Of another family."""

    can = frozenset({"sample"})


WRONG = {
    "rows must be at least 1": lambda: Complete(rows=0),
    "index=-1": lambda: Complete(index=-1),
    "task.rows=4: the data have 4": lambda: Complete(rows=4).check(model(1, 4, 4), None),
    "task.rows=1: the data have 1": lambda: Complete(rows=1).check(model(1, 1, 4), None),
    "the data are 2 numbers": lambda: Complete().known(Field((2,))),
    "it needs an autoregressive model": lambda: Complete().check(Other({"x": Field((1, 4, 4))}), None),
    "those that are given are not the first": lambda: Complete(rows=1).check(
        model(1, 4, 4, order=torch.arange(16).flip(0)), None
    ),
    "the model has no labels": lambda: Complete(label=1).check(model(1, 4, 4), None),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_cannot_be_is_said_before(said):
    with pytest.raises((UserError, ValueError), match=said):
        WRONG[said]()
