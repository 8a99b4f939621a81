"""Drawing place by place, with a network whose probabilities are known in closed form."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.models.autoregressive.drawing import draw
from genlab.models.autoregressive.model import Autoregressive
from genlab.models.autoregressive.sampler import Places
from genlab.models.conditioning import ClassLabel, Conditioner, Unconditional
from genlab.models.outputs.bernoulli import Bernoulli
from genlab.models.outputs.gaussian import Gaussian
from genlab.models.outputs.logistic_mixture import LogisticMixture
from genlab.networks.causal.causal import Causal
from genlab.networks.condition import Condition

SPEC = {"x": Field((1, 2, 2), levels=2), "label": Field((), classes=3)}
KINDS = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=4)), dtype=torch.float64).view(16, 1, 2, 2)
ORDERS = {"in rows": [0, 1, 2, 3], "another": [2, 0, 3, 1]}
orders = pytest.mark.parametrize("order", ORDERS)


class Chain(Causal):
    """The log-odds of a place are a + b x of the place before it in the order, and the first number of a vector."""

    def __init__(self, order: list[int], a: float = 0.4, b: float = 0.9) -> None:
        super().__init__()
        self.order = torch.tensor(order)
        self.a, self.b = (nn.Parameter(torch.tensor(n, dtype=torch.float64)) for n in (a, b))

    def forward(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        inner = x.flatten(2)[..., self.order].roll(1, 2) * torch.tensor([0.0, *[1.0] * (len(self.order) - 1)])
        told = 0.0 if condition is None or condition.vector is None else condition.vector[:, :1, None]
        return (self.a + self.b * inner + told)[..., self.order.argsort()].view_as(x)


class Tints(Causal):
    """Green is as red, and blue is not as green."""

    groups = 3

    def __init__(self) -> None:
        super().__init__()
        self.order = torch.arange(4)

    def forward(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        return 50 * torch.stack([0 * x[:, 0], x[:, 0], -x[:, 1]], dim=1)


def model(order: str = "in rows", conditioner: Conditioner | None = None, **numbers: float) -> Autoregressive:
    network = Chain(ORDERS[order], **numbers)
    made = Autoregressive(SPEC, lambda features: network, Bernoulli((1, 2, 2)), conditioner or Unconditional())
    return made.double().eval()


def probabilities(of: Autoregressive, label: int | None = None) -> Tensor:
    """(16,), of all images."""
    batch = {"x": KINDS}
    if label is not None:
        batch["label"] = torch.full((16,), label)
    return (-of.nll(batch, Rng(0, torch.arange(16))).nats).exp()


def frequencies(x: Tensor) -> Tensor:
    """(16,), of all images among x."""
    return (x.flatten(1)[:, None] == KINDS.flatten(1)).all(2).double().mean(0)


def agrees(found: Tensor, expected: Tensor, n: int) -> bool:
    """Whether frequencies are within five deviations."""
    return bool(((found - expected).abs() <= 5 * (expected * (1 - expected) / n).sqrt() + 1e-12).all())


@orders
def test_probabilities_are_the_product_over_places_and_sum_to_one(order):
    of = model(order)
    found = probabilities(of)
    assert float(found.sum()) == pytest.approx(1, abs=1e-12)
    expected = torch.ones(16, dtype=torch.float64)
    for k, place in enumerate(ORDERS[order]):
        before = KINDS.flatten(1)[:, ORDERS[order][k - 1]] if k else 0.0
        expected *= (KINDS.flatten(1)[:, place] * (0.4 + 0.9 * before)).sigmoid()
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)


@orders
def test_samples_are_as_frequent_as_they_are_probable(order):
    n, of = 20_000, model(order)
    x = of.sample({}, Rng(0, torch.arange(n)))["x"]
    assert agrees(frequencies(x), probabilities(of), n)


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_a_temperature_divides_the_log_odds_of_each_place(temperature):
    n = 20_000
    x = model().sample({}, Rng(0, torch.arange(n)), Places(temperature))["x"]
    expected = probabilities(model(a=0.4 / temperature, b=0.9 / temperature))
    assert agrees(frequencies(x), expected, n)
    assert not agrees(frequencies(x), probabilities(model()), n)


@orders
def test_completions_have_the_posterior_of_what_is_given_first(order):
    n, of = 20_000, model(order)
    given = torch.zeros(4, dtype=torch.bool)
    given[ORDERS[order][:2]] = True
    start = KINDS[6].expand(n, -1, -1, -1)
    x = of.completed(start, given, {}, Rng(0, torch.arange(n)))
    assert torch.equal(x.flatten(2)[..., given], start.flatten(2)[..., given])
    same = (KINDS.flatten(1)[:, given] == KINDS[6].flatten()[given]).all(1)
    expected = probabilities(of) * same
    assert agrees(frequencies(x), expected / expected.sum(), n)


@orders
def test_a_sample_of_which_any_part_is_given_is_completed_to_itself(order):
    """Other places have the noise that they would have had."""
    of, rng = model(order), Rng(2, torch.arange(8)).stage("sample")
    x = of.sample({}, rng)["x"]
    for pattern in itertools.product((False, True), repeat=4):
        given = torch.tensor(pattern)
        blank = torch.where(given.view(2, 2), x, torch.full_like(x, torch.nan))
        assert torch.equal(of.completed(blank, given, {}, rng), x)


def test_what_is_not_given_is_not_seen():
    of, rng = model(), Rng(2, torch.arange(8))
    given = torch.tensor([True, False, False, False])
    ones = torch.ones(8, 1, 2, 2, dtype=torch.float64)
    other = torch.where(given.view(2, 2), ones, -3 * ones)
    assert torch.equal(of.completed(ones, given, {}, rng), of.completed(other, given, {}, rng))


def test_later_channels_are_drawn_given_the_earlier_ones():
    x = draw(Tints(), Bernoulli((3, 2, 2)), torch.zeros(500, 3, 2, 2), Rng(0, torch.arange(500)))
    red, green, blue = x.unbind(1)
    assert torch.equal(red, green)
    assert torch.equal(blue, -green)
    assert abs(red.mean()) < 0.15
    # Places are drawn from different streams.
    assert abs((red[:, 0, 0] * red[:, 1, 1]).mean()) < 0.25


def test_the_way_is_seen_from_nothing_to_the_sample():
    seen: list[tuple[float, Tensor]] = []
    of = model("another")
    x = of.sample({}, Rng(0, torch.arange(3)), watch=lambda progress, x: seen.append((progress, x.clone())))["x"]
    assert [progress for progress, _ in seen] == [0, 0.25, 0.5, 0.75, 1]
    for count, (_, state) in enumerate(seen):
        drawn, rest = ORDERS["another"][:count], ORDERS["another"][count:]
        assert torch.equal(state.flatten(2)[..., drawn], x.flatten(2)[..., drawn])
        assert (state.flatten(2)[..., rest] == -1).all()


def test_labels_steer_samples_and_likelihoods():
    torch.manual_seed(0)
    of, n = model(conditioner=ClassLabel(3, vector=2)), 10_000
    assert of.conditions == {"label"}
    assert of.reads == {"x", "label"}
    for label in (0, 2):
        expected = probabilities(of, label)
        assert float(expected.sum()) == pytest.approx(1, abs=1e-12)
        made = of.sample({"label": torch.full((n,), label)}, Rng(0, torch.arange(n)))
        assert agrees(frequencies(made["x"]), expected, n)
        assert (made["label"] == label).all()
    assert (probabilities(of, 0) - probabilities(of, 2)).abs().max() > 0.01


def test_without_labels_each_row_is_told_nothing():
    torch.manual_seed(0)
    of = model(conditioner=ClassLabel(3, vector=2, dropout=0.5))
    rng = Rng(0, torch.arange(5))
    assert torch.equal(of.sample({}, rng)["x"], of.sample({"label": torch.full((5,), -1)}, rng)["x"])


def test_the_likelihood_is_exact_and_what_training_minimises():
    of = model()
    batch, rng = {"x": KINDS}, Rng(0, torch.arange(16))
    found = of.nll(batch, rng)
    assert found.bound == "exact"
    torch.testing.assert_close(of.loss(batch, rng, "model", 0)["loss"].detach(), found.nats.mean())


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_temperatures_are_above_zero(temperature):
    with pytest.raises(ValueError, match="temperature must be above 0"):
        Places(temperature)


def test_groups_of_channels_must_divide_them():
    with pytest.raises(UserError, match="draws 3 groups of channels, and data have 1"):
        Autoregressive(SPEC, lambda features: Tints(), Bernoulli((1, 2, 2)), Unconditional())


@pytest.mark.parametrize(
    "output", [LogisticMixture((3, 2, 2), 256, 3), Gaussian((3, 2, 2), scale="learned")], ids=["mixture", "scales"]
)
def test_channels_in_turn_need_parameters_of_their_own(output):
    """Else red's would hear of red: what such probabilities sum to is not one."""
    spec = {"x": Field((3, 2, 2), levels=256)}
    with pytest.raises(UserError, match=r"take causal\.joint=true, or output=categorical"):
        Autoregressive(spec, lambda features: Tints(), output, Unconditional())


def test_samplers_are_told_apart_by_their_temperature():
    assert [Places().name, Places(0.5).name] == ["places", "places-0.5"]
