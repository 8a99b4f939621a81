import math

import pytest
import torch

from genlab.core.units import to_levels
from genlab.data.contract import Factored
from genlab.data.sprites import SHAPES, TURN, Sprites, ellipse, heart, rectangle

NAMES = ("train", "validation", "test")


def all_pictures(data: Sprites) -> torch.Tensor:
    return torch.cat([data.draw(data.values(n)).flatten(1) for n in torch.arange(data.count).split(4096)])


def grid(points: int) -> tuple[torch.Tensor, torch.Tensor]:
    line = torch.linspace(-1.5, 1.5, points, dtype=torch.float64)
    return torch.meshgrid(line, line, indexing="xy")


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_shape_lies_in_the_circle_of_radius_one_and_touches_it(shape):
    x, y = grid(601)
    inside = shape(x.flatten(), y.flatten()) < 0
    reach = torch.hypot(x, y).flatten()[inside].max()
    assert 0.98 < reach <= 1.001


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_at_the_outline_the_distance_grows_by_one_a_unit(shape):
    """So that a pixel there is covered as much as its distance says."""
    x, y = (part.flatten().requires_grad_() for part in grid(400))
    distance = shape(x, y)
    slope = torch.autograd.grad(distance.sum(), (x, y))
    near = (distance.abs() < 1e-2).detach()
    length = torch.hypot(*slope)[near]
    assert near.sum() > 100
    # Within the corners two outlines are near.
    assert (length - 1).abs().quantile(0.9) < 0.03


def test_distances_at_known_points():
    def at(shape, x, y):
        return shape(torch.tensor([x], dtype=torch.float64), torch.tensor([y], dtype=torch.float64)).item()

    assert at(rectangle, 2 / math.sqrt(5) + 3, 1 / math.sqrt(5) + 4) == pytest.approx(5)
    assert at(rectangle, 0.0, 0.0) == pytest.approx(-1 / math.sqrt(5))
    assert at(ellipse, 1.0, 0.0) == pytest.approx(0)
    assert at(ellipse, 0.0, 0.5) == pytest.approx(0)
    # The lowest point of the heart, and how far a point below it is away.
    lowest = (0.75 + math.sqrt(2) / 4) / 2 / (math.hypot(0.25, 0.75 - (0.75 + math.sqrt(2) / 4) / 2) + math.sqrt(2) / 4)
    assert at(heart, 0.0, lowest) == pytest.approx(0, abs=1e-9)
    assert at(heart, 0.0, lowest + 0.25) == pytest.approx(0.25)


def test_the_default_pictures_all_differ_so_the_factors_can_be_told():
    """In 256 levels all of them; of the 38,400 in black and white two are alike."""
    grey = all_pictures(Sprites(colours=1))
    assert len(grey) == 3 * 5 * 10 * 16 * 16
    assert len(grey.unique(dim=0)) == len(grey)
    bits = all_pictures(Sprites(black_and_white=True))
    assert len(bits.unique(dim=0)) >= len(bits) - 1


def test_the_splits_are_all_combinations_once_and_a_tenth_each_is_held_out():
    data = Sprites(scales=2, angles=3, positions=4, colours=2)
    seen = torch.cat([data.split(name).batch(torch.arange(len(data.split(name))))["factors"] for name in NAMES])
    assert seen.unique(dim=0).tolist() == data.values(torch.arange(data.count)).tolist()
    assert len(seen) == data.count == 3 * 2 * 3 * 4 * 4 * 2
    assert [len(data.split(name)) for name in NAMES[1:]] == [round(0.1 * data.count)] * 2
    assert seen.amax(0).tolist() == [size - 1 for size in data.factors.values()]


@pytest.mark.parametrize("options", [{}, {"black_and_white": True}, {"colours": 1}, {"side": 64}])
def test_a_batch_is_what_the_spec_says(options):
    data = Sprites(**options)
    batch = data.split("test").batch(torch.tensor([0, 3, 3, -1]))
    assert isinstance(data, Factored)
    assert batch.keys() == data.spec.keys()
    for key, field in data.spec.items():
        assert batch[key].shape == (4, *field.shape)
    assert batch["x"].dtype == torch.float32
    assert batch["factors"].dtype == batch["label"].dtype == torch.int64
    assert batch["label"].equal(batch["factors"][:, 0])
    assert batch["x"][1].equal(batch["x"][2])
    drawn = data.draw(batch["factors"])
    assert to_levels(batch["x"], data.spec["x"].levels).equal(drawn.long())


def test_a_sprite_does_not_depend_on_its_batch():
    split = Sprites().split("train")
    whole = split.batch(torch.arange(20))["x"]
    assert whole[7:8].equal(split.batch(torch.tensor([7]))["x"])


def test_each_factor_does_what_its_name_says():
    data = Sprites(side=64, colours=3)
    first = dict.fromkeys(data.factors, 0) | {"x": 8, "y": 8, "shape": 2}
    names = list(data.factors)

    def picture(**changed):
        return data.draw(torch.tensor([[(first | changed)[name] for name in names]]))[0].double()

    def middle(p):
        mass = p.sum(0)
        line = torch.arange(64, dtype=torch.float64)
        return (mass.sum(0) @ line / mass.sum()).item(), (mass.sum(1) @ line / mass.sum()).item()

    (x, y), (right, level) = middle(picture()), middle(picture(x=12))
    step = (64 - 2 * 64 * 2 / 7) / 15
    assert right - x == pytest.approx(4 * step, abs=0.05)
    assert level == pytest.approx(y, abs=0.05)
    assert middle(picture(y=12))[1] - y == pytest.approx(4 * step, abs=0.05)
    # Twice as large has four times the area; a turn and a colour leave it as it was.
    area = picture().sum()
    assert picture(scale=4).sum() / area == pytest.approx(4, rel=0.02)
    assert picture(angle=5).sum() / area == pytest.approx(1, rel=0.02)
    red, green, blue = (picture(colour=c).sum((1, 2)) / area for c in range(3))
    torch.testing.assert_close(torch.stack([red, green, blue]), torch.eye(3, dtype=torch.float64))


def test_the_last_angle_is_the_first_one_turned_by_ninety_degrees():
    assert TURN == 90
    data = Sprites(side=33, colours=1, positions=1)
    for shape in range(3):
        first, last = data.draw(torch.tensor([[shape, 4, 0, 0, 0], [shape, 4, 9, 0, 0]]))
        turned = first.rot90(-1, (1, 2))
        assert (turned.int() - last.int()).abs().max() <= 1


def test_identities_tell_data_apart():
    options = [{}, {"black_and_white": True}, {"side": 64}, {"scales": 3}, {"colours": 1}]
    assert len({Sprites(**o).identity for o in options}) == len(options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"side": 4}, "side must be at least 8, not 4"),
        ({"angles": 0}, "angles must be at least 1, not 0"),
        ({"positions": 30_000}, "scales, angles, positions and colours give"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Sprites(**options)
