"""What every output keeps: probabilities that sum to one, samples that follow them, and the formulas themselves."""

import inspect
import itertools
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.units import from_levels, half_bin, to_levels
from genlab.models.outputs.bernoulli import Bernoulli
from genlab.models.outputs.categorical import Categorical
from genlab.models.outputs.gaussian import Gaussian
from genlab.models.outputs.laplace import Laplace
from genlab.models.outputs.logistic_mixture import LogisticMixture

CONFIGS = Path(__file__).parents[3] / "configs" / "output"
CLASSES = {
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "gaussian": Gaussian,
    "laplace": Laplace,
    "logistic_mixture": LogisticMixture,
}
DISCRETE = {
    "bernoulli": (lambda: Bernoulli((2, 3), 2), 2),
    "gaussian shared": (lambda: Gaussian((2, 3), 5), 5),
    "gaussian learned": (lambda: Gaussian((2, 3), 5, "learned"), 5),
    "gaussian given": (lambda: Gaussian((1, 3), 7, 0.3), 7),
    "laplace shared": (lambda: Laplace((2, 3), 5), 5),
    "laplace given": (lambda: Laplace((1, 3), 7, 0.3), 7),
    "categorical": (lambda: Categorical((2, 3), 5), 5),
    "mixture of one channel": (lambda: LogisticMixture((1, 3), 9, 3), 9),
    "mixture of two channels": (lambda: LogisticMixture((2, 3), 5, 3), 5),
    "mixture of colours": (lambda: LogisticMixture((3, 3), 4, 3), 4),
}
discrete = pytest.mark.parametrize(("make", "levels"), DISCRETE.values(), ids=DISCRETE)
REAL = {
    "shared": lambda: Gaussian((2, 3)),
    "learned": lambda: Gaussian((2, 3), scale="learned"),
    "laplace real": lambda: Laplace((2, 3)),
}
EVERY = {**{name: make for name, (make, _) in DISCRETE.items()}, **REAL}


def channels(output) -> int:
    return output.mean(torch.zeros(1, output.features, 1)).shape[1]


def drawn(output, *places: int, batch: int = 1, scale: float = 1.0) -> Tensor:
    """Parameters in double."""
    noise = Rng(3, torch.arange(batch)).stage("parameters").normal(output.features, *places, dtype=torch.float64)
    return scale * noise


def every_value(levels: int, count: int) -> Tensor:
    """(levels^count, count, 1): all that the channels of a place can be."""
    table = torch.tensor(list(itertools.product(range(levels), repeat=count)))
    return from_levels(table, levels, torch.float64)[..., None]


@discrete
def test_probabilities_of_a_place_sum_to_one(make, levels):
    output = make().double()
    parameters, x = drawn(output, 1), every_value(levels, channels(output))
    total = output.log_prob(parameters.expand(len(x), -1, -1), x).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-12)


@discrete
def test_samples_are_as_frequent_as_they_are_probable(make, levels):
    output, rows = make(), 20_000
    x = every_value(levels, channels(output))
    parameters = drawn(output, 1)
    p = output.log_prob(parameters.expand(len(x), -1, -1).float(), x.float()).exp()
    samples = output.sample(parameters.expand(rows, -1, -1).float(), Rng(0, torch.arange(rows)))
    assert torch.equal(samples, from_levels(to_levels(samples, levels), levels))
    place = levels ** torch.arange(channels(output)).flip(0)
    count = (to_levels(samples[..., 0], levels) * place).sum(1).bincount(minlength=len(x))
    assert count[p < 1e-9].sum() == 0
    # Pearson's statistic over what is expected often enough; its standard deviation is the root of twice the degrees.
    often = p * rows > 5
    degrees = int(often.sum()) - 1
    statistic = ((count - p * rows).square() / (p * rows))[often].sum().item()
    assert degrees >= 1
    assert abs(statistic - degrees) < 5 * math.sqrt(2 * degrees)


@pytest.mark.parametrize("make", EVERY.values(), ids=EVERY)
def test_a_place_is_a_number_and_all_places_make_a_datum(make):
    output = make().double()
    parameters = drawn(output, 2, 3, batch=4)
    x = output.sample(parameters, Rng(1, torch.arange(4)))
    each = output.log_probs(parameters, x)
    assert each.shape == (4, 2, 3)
    torch.testing.assert_close(output.log_prob(parameters, x), each.sum((1, 2)))
    torch.testing.assert_close(output.log_probs(parameters[..., 1, 2], x[..., 1, 2]), each[:, 1, 2])
    torch.testing.assert_close(output.log_prob(parameters[..., 1, 2], x[..., 1, 2]), each[:, 1, 2])
    assert output.mean(parameters).shape == x.shape
    assert x.dtype == parameters.dtype


@pytest.mark.parametrize("make", EVERY.values(), ids=EVERY)
def test_a_sample_depends_on_its_own_row(make):
    output = make()
    parameters = drawn(output, 3, batch=4).float()
    torch.testing.assert_close(
        output.sample(parameters, Rng(0, torch.arange(4)))[2:3],
        output.sample(parameters[2:3], Rng(0, torch.tensor([2]))),
        rtol=0,
        atol=0,
    )


@pytest.mark.parametrize("make", EVERY.values(), ids=EVERY)
@pytest.mark.parametrize("size", [0.0, 30.0, 1e4])
def test_gradients_are_finite_at_extreme_parameters(make, size):
    output = make()
    parameters = drawn(output, 3, batch=8, scale=size).float().requires_grad_()
    x = output.sample(drawn(output, 3, batch=8).float(), Rng(0, torch.arange(8)))
    found = output.log_prob(parameters, x.detach())
    found.sum().backward()
    assert found.isfinite().all()
    assert parameters.grad.isfinite().all()
    assert parameters.grad.any()
    assert all(p.grad.isfinite().all() for p in output.parameters())


@pytest.mark.parametrize("name", ["bernoulli", "categorical"])
def test_means_are_expectations(name):
    make, levels = DISCRETE[name]
    output = make()
    parameters, x = drawn(output, 1), every_value(levels, channels(output))
    p = output.log_prob(parameters.expand(len(x), -1, -1), x).exp()
    torch.testing.assert_close(output.mean(parameters)[0], (p[:, None, None] * x).sum(0), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (3, 1)])
def test_means_of_mixtures_are_expectations_where_nothing_is_lost_at_the_ends(shape):
    output, x = LogisticMixture(shape, 41, 2), every_value(41, shape[0])
    parameters = drawn(output, 1) / 4
    # A view: scales of about 0.03, which is narrow beside the range.
    parameters[:, 2:].unflatten(1, output.layout)[:, :, 1] -= 3.5
    p = output.log_prob(parameters.expand(len(x), -1, -1), x).exp()
    torch.testing.assert_close(output.mean(parameters)[0], (p[:, None, None] * x).sum(0), rtol=0, atol=1e-3)


def test_means_stay_within_the_range():
    for output in (Gaussian((3, 2), 256), LogisticMixture((3, 2), 256)):
        mean = output.mean(drawn(output, 2, batch=5, scale=100))
        assert mean.abs().max() <= 1
    assert Gaussian((3, 2)).mean(torch.full((1, 3, 2), 7.0)).max() == 7


def bent(log_scale: Tensor, low: float = -7.0, high: float = 7.0) -> Tensor:
    below = high - (1 + (high - log_scale).exp()).log()
    return low + (1 + (below - low).exp()).log()


def test_gaussian_density_is_torchs():
    x = drawn(Gaussian((2, 3)), 3, batch=4)
    output = Gaussian((2, 3), scale="learned")
    parameters = drawn(output, 3, batch=4)
    mean, log_scale = parameters[:, :2], parameters[:, 2:]
    expected = torch.distributions.Normal(mean, bent(log_scale).exp()).log_prob(x).sum((1, 2))
    torch.testing.assert_close(output.log_prob(parameters, x), expected)
    given = torch.distributions.Normal(mean, 0.3).log_prob(x).sum((1, 2))
    torch.testing.assert_close(Gaussian((2, 3), scale=0.3).log_prob(mean, x), given)


def test_one_scale_is_learned_to_be_that_of_the_data():
    output = Gaussian((1, 2))
    assert [tuple(p.shape) for p in output.parameters()] == [()]
    x = 0.05 * Rng(0, torch.arange(500)).normal(1, 2)
    optimizer = torch.optim.LBFGS(output.parameters(), line_search_fn="strong_wolfe", max_iter=50)

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = -output.log_prob(torch.zeros_like(x), x).mean()
        value.backward()
        return value

    optimizer.step(loss)
    _, log_scale = output.split(torch.zeros_like(x))
    assert log_scale.exp().item() == pytest.approx(x.square().mean().sqrt().item(), rel=1e-3)


def test_a_scale_cannot_collapse_and_is_not_caught_at_its_bounds():
    output = Gaussian((1,), scale="learned", bounds=(-2.0, 1.0))
    raw = torch.tensor([[-12.0, -2.0, 0.0, 1.0, 12.0]], requires_grad=True)
    _, log_scale = output.split(torch.stack([torch.zeros_like(raw), raw], dim=1))
    assert (log_scale >= -2).all()
    assert (log_scale <= 1 + math.log1p(math.exp(-3))).all()
    log_scale.sum().backward()
    assert (raw.grad > 0).all()


def test_categorical_is_cross_entropy():
    output = Categorical((3, 4, 4), 16)
    assert output.features == 48
    parameters = drawn(output, 4, 4, batch=2)
    v = Rng(0, torch.arange(2)).integers(16, 3, 4, 4)
    expected = -F.cross_entropy(parameters.view(2, 3, 16, 4, 4).movedim(2, 1), v, reduction="none").sum((1, 2, 3))
    torch.testing.assert_close(output.log_prob(parameters, from_levels(v, 16, torch.float64)), expected)


def slow_mixture(parameters: Tensor, x: Tensor, levels: int, components: int) -> float:
    """log p of one place, as PixelCNN++ defines it, in Python's floats."""
    numbers, x = parameters.tolist(), x.tolist()
    logits, rest = numbers[:components], numbers[components:]
    rows = len(rest) // (len(x) * components)
    total, parts = sum(math.exp(a) for a in logits), []

    def of(channel: int, row: int, k: int) -> float:
        return rest[(channel * rows + row) * components + k]

    def sigmoid(t: float) -> float:
        return 1 / (1 + math.exp(-t))

    for k in range(components):
        product = math.exp(logits[k]) / total
        for channel, value in enumerate(x):
            mean = of(channel, 0, k)
            if len(x) == 3 and channel == 1:
                mean += math.tanh(of(0, 2, k)) * x[0]
            if len(x) == 3 and channel == 2:
                mean += math.tanh(of(1, 2, k)) * x[0] + math.tanh(of(2, 2, k)) * x[1]
            scale = math.exp(max(of(channel, 1, k), -7))
            upper = 1 if value > 0.9999 else sigmoid((value + half_bin(levels) - mean) / scale)
            lower = 0 if value < -0.9999 else sigmoid((value - half_bin(levels) - mean) / scale)
            product *= upper - lower
        parts.append(product)
    return math.log(sum(parts))


@pytest.mark.parametrize(("shape", "features"), [((1, 6), 30), ((2, 6), 50), ((3, 6), 100)])
def test_mixtures_are_those_of_pixelcnn_pp(shape, features):
    output = LogisticMixture(shape, 256)
    assert output.features == features
    parameters = drawn(output, 6, batch=2)
    v = torch.tensor([0, 255, 3, 100, 180, 254])
    x = from_levels((v + 17 * torch.arange(shape[0])[:, None]) % 256, 256, torch.float64).expand(2, -1, -1)
    expected = [[slow_mixture(parameters[b, :, i], x[b, :, i], 256, 10) for i in range(6)] for b in range(2)]
    torch.testing.assert_close(output.log_probs(parameters, x), torch.tensor(expected, dtype=torch.float64))


WRONG = {
    "bernoulli of grey": (lambda: Bernoulli((1, 2), 256), "output=bernoulli .* have 256 levels"),
    "categorical of real": (lambda: Categorical((2,), None), "output=categorical .* choose output=gaussian"),
    "mixture of real": (lambda: LogisticMixture((2,), None), "output=logistic_mixture .* choose output=gaussian"),
    "one level": (lambda: Categorical((2,), 1), "levels must be at least 2, not 1"),
    "a normal level": (lambda: Gaussian((2,), 1), "levels must be at least 2, or null for a density, not 1"),
    "no components": (lambda: LogisticMixture((2,), 4, 0), "components must be at least 1, not 0"),
    "no scale": (lambda: Gaussian((2,), 4, 0.0), "scale must be a positive number, shared or learned, not 0.0"),
    "bounds that fall": (lambda: Gaussian((2,), 4, bounds=(1.0, -1.0)), "bounds must be two rising numbers"),
}


@pytest.mark.parametrize(("make", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused_in_one_line(make, message):
    with pytest.raises((UserError, ValueError), match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", CLASSES)
def test_files_write_out_all_options(name):
    file = CONFIGS / f"{name}.yaml"
    spec = {"x": {"shape": [1, 4, 4], "levels": 2}}
    part = OmegaConf.to_container(OmegaConf.create({"spec": spec, "part": OmegaConf.load(file)}).part, resolve=True)
    kind = CLASSES[name]
    assert part.pop("_target_") == f"{kind.__module__}.{kind.__qualname__}"
    assert list(part) == list(inspect.signature(kind).parameters)
    assert file.read_text().startswith("# ")
    assert kind(**part).features >= 1
