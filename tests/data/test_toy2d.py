import pytest
import torch

from genlab.data.toy2d import SHAPES, Toy2D

SECOND = {
    "moons": [0.1148, 0.8937],
    "circles": [-1.8397, -0.1297],
    "8gaussians": [-1.4106, -0.0697],
    "25gaussians": [-0.0989, -2.0208],
    "swissroll": [-0.4358, 1.0386],
    "pinwheel": [-1.2685, -1.0636],
    "checkerboard": [1.7874, -0.0275],
}
shapes = pytest.mark.parametrize("name", SHAPES)


@shapes
def test_points_lie_in_the_window(name):
    x = Toy2D(name, 20_000).split("train").x
    assert x.shape == (20_000, 2)
    assert (x.abs() < 2.5).all()
    assert (x.abs() < 2.05).float().mean() > 0.9
    assert x.std(0).min() > 0.5


@shapes
def test_points_never_change(name):
    assert Toy2D(name, 10).split("train").x[1].tolist() == pytest.approx(SECOND[name], abs=1e-4)


@shapes
def test_a_larger_set_begins_with_the_smaller(name):
    small, large = Toy2D(name, 100), Toy2D(name, 300)
    assert large.split("train").x[:100].equal(small.split("train").x)
    assert large.split("test").x.equal(small.split("test").x)
    assert small.identity != large.identity


@pytest.mark.parametrize(("name", "count"), [("8gaussians", 8), ("25gaussians", 25)])
def test_gaussians_are_where_they_are_said_to_be(name, count):
    data = Toy2D(name)
    split = data.split("train")
    assert data.modes.shape == (count, 2)
    assert torch.cdist(data.modes, split.x[:100]).argmin(0).equal(split.label[:100])
    for mode in range(count):
        part = split.x[split.label == mode]
        assert len(part) == pytest.approx(50_000 / count, rel=0.15)
        torch.testing.assert_close(part.mean(0), data.modes[mode], rtol=0, atol=0.02)
        torch.testing.assert_close(part.std(0), torch.full((2,), data.spread), rtol=0.1, atol=0)


def test_the_checkerboard_is_one():
    x = Toy2D("checkerboard").split("train").x
    column, row = (x + 2).floor().long().T
    assert ((column + row) % 2 == 0).all()
    assert (column * 4 + row).unique().numel() == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [({"name": "moon"}, "name must be one of moons, .* not moon"), ({"size": 0}, "size must be at least 1")],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Toy2D(**options)
