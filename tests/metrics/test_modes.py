"""Modes covered, good samples and the reverse divergence, of samples whose modes are known."""

import math

import pytest
import torch
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.core.units import from_levels
from genlab.data.toy2d import GRID, RING, Gaussians, Toy2D
from genlab.metrics.features import Extractor
from genlab.metrics.modes import Modes


class Given:
    """Samples that are there already."""

    def __init__(self, x: Tensor, gaussians=None, classifier=None, levels=None) -> None:
        self.how, self.device = {"seed": 0}, x.device
        self.x, self.gaussians, self.classes = x, gaussians, classifier
        self.spec, self.data, self.asked = {"x": Field(tuple(x.shape[1:]), levels=levels)}, "moons", 0

    def classifier(self):
        return self.classes

    def parts(self, n: int):
        self.asked = n
        return iter(self.x[:n].split(1000))


class Brightness(Extractor):
    """Sees the class of an image in its first pixel, and doubts it where the second is lit."""

    def __init__(self, classes: int) -> None:
        super().__init__("brightness", 1, classes, {"classifier_weights": "none"})
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        assert images.dtype == torch.uint8
        assert images.shape[1] == 1
        certain = torch.where(images[:, 0, 0, 1] > 0, 0.1, 20.0)
        logits = nn.functional.one_hot(images[:, 0, 0, 0].long(), self.classes) * certain[:, None]
        return torch.zeros(len(images), 1), logits


def measured(given: Given, **options) -> dict[str, float]:
    return {number.name.removeprefix("modes/"): number.value for number in Modes(**options).evaluate(given)}


@pytest.mark.parametrize("shape", [RING, GRID])
def test_data_themselves_are_nearly_perfect(shape: Gaussians):
    """Within r deviations lies 1 - exp(-r^2 / 2) of a normal distribution of the plane."""
    n = 20_000
    given = Given(shape(Rng(3, torch.arange(n)))[0], (shape.modes, shape.spread))
    found = measured(given, n=n)
    count = len(shape.modes)
    assert found["covered"] == count
    assert found["good"] == pytest.approx(1 - math.exp(-4.5), abs=4 * math.sqrt(0.011 / n))
    # n times twice the divergence is distributed as chi squared with K - 1 degrees of freedom.
    freedom = count - 1
    assert 2 * n * found["reverse-kl"] == pytest.approx(freedom, abs=4 * math.sqrt(2 * freedom))
    assert measured(given, n=n, deviations=1)["good"] == pytest.approx(1 - math.exp(-0.5), abs=0.02)


def test_a_collapsed_generator_and_one_between_the_modes_are_told_apart():
    one = Given(GRID.modes[7] + 0.01 * torch.randn(3000, 2), (GRID.modes, GRID.spread))
    assert measured(one) == pytest.approx({"covered": 1, "good": 1, "reverse-kl": math.log(25)})
    assert one.asked == 2500
    between = Given(torch.rand(5000, 2) * 5 - 2.5, (GRID.modes, GRID.spread))
    found = measured(between, n=5000)
    assert found["good"] == pytest.approx(math.pi * 0.15**2, abs=0.02)
    assert found["reverse-kl"] < 0.01
    far = Given(torch.full((3000, 2), 100.0), (GRID.modes, GRID.spread))
    assert measured(far)["covered"] == 0


def test_the_weight_of_modes_is_the_divergence():
    x = GRID.modes.repeat_interleave(torch.tensor([100] + [25] * 12 + [0] * 12), 0)
    expected = math.log(25) + 0.25 * math.log(0.25) + 12 * 0.0625 * math.log(0.0625)
    given = Given(x, (GRID.modes, GRID.spread))
    assert measured(given, n=400) == pytest.approx({"covered": 13, "good": 1, "reverse-kl": expected})
    assert measured(given, n=400, least=50)["covered"] == 1


def images(pixels: Tensor, doubted: Tensor) -> Tensor:
    """Images (B, C, 2, 2) of 256 levels whose first pixels are these, (B, C)."""
    x = torch.zeros(*pixels.shape, 2, 2, dtype=torch.long)
    x[:, :, 0, 0], x[:, :, 0, 1] = pixels, doubted.long()
    return from_levels(x, 256)


def test_stacks_are_read_as_numbers():
    every = torch.cartesian_prod(*[torch.arange(4)] * 3)
    given = Given(images(every, torch.zeros(64, 3)), None, Brightness(4), levels=256)
    assert measured(given, n=64) == pytest.approx({"covered": 64, "good": 1, "reverse-kl": 0}, abs=1e-6)
    half = images(every.clamp(max=1), every == 3)
    found = Modes(n=64).evaluate(Given(half, None, Brightness(4), levels=256))
    assert [number.value for number in found[:2]] == pytest.approx([8, (3 / 4) ** 3])
    # One of four is 0 and three are 1, in each of three channels.
    apart = 3 * (math.log(4) + 0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert found[2].value == pytest.approx(apart)
    assert found[0].unit == "of 64"
    assert found[0].how["features"] == "brightness"


def test_an_image_of_one_channel_has_its_classes_for_modes():
    given = Given(images(torch.arange(10)[:, None].repeat(300, 1), torch.zeros(3000, 1)), None, Brightness(10), 256)
    assert measured(given)["covered"] == 10
    assert given.asked == 2500


def test_a_thousand_modes_are_looked_for_in_26000_samples():
    given = Given(images(torch.zeros(10, 3, dtype=torch.long), torch.zeros(10, 3)), None, Brightness(10), 256)
    measured(given)
    assert given.asked == 26_000


def test_unknown_modes_and_bad_options_are_one_line():
    with pytest.raises(
        UserError, match="metric=modes: the modes of moons are not known; it is for data=toy2d"
    ) as error:
        Modes().check(Given(torch.zeros(1, 2)))
    assert "\n" not in str(error.value)
    assert Toy2D("moons").modes is None
    for options in ({"deviations": 0}, {"sure": 2}, {"least": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(options))}="):
            Modes(**options)
    with pytest.raises(UserError, match="must be at least 1"):
        Modes(n=0)
