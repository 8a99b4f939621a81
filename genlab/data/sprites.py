"""Sprites: a rectangle, an ellipse or a heart, drawn from six known factors whenever they are asked for.

    p = R(-angle) (pixel - (x, y)) / scale,    cover = clamp(1/2 - scale d(p), 0, 1),    pixel = cover * colour

d is the signed distance to the outline of a shape that a circle of radius 1 holds, in closed form, and the scale is in
pixels, so that a pixel on the outline is half covered. In black and white a pixel is white where d < 0 at its middle.

References:
    beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework (Higgins et al., 2017), whose
        dSprites these resemble.
"""

import math
from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.core.spec import Batch, Field, Spec
from genlab.data.contract import SplitName, real
from genlab.data.stream import permutation

Distance = Callable[[Tensor, Tensor], Tensor]
"""From the coordinates (B, *) of points to their signed distances, negative inside."""

# The greatest turn, in degrees: no shape looks the same twice on the way, and none comes round to where it began.
TURN = 90.0
# The last hue, in degrees from red: blue, so that hues do not come round to red.
HUES = 240.0
# The radius of the largest, as a share of the side.
LARGEST = 2 / 7
HELD_OUT = 0.1


def length(x: Tensor, y: Tensor) -> Tensor:
    """Of vectors; `torch.hypot` takes ten times as long."""
    return (x * x).addcmul_(y, y).sqrt_()


def rectangle(x: Tensor, y: Tensor) -> Tensor:
    """Twice as wide as high."""
    across, up = x.abs() - 2 / math.sqrt(5), y.abs() - 1 / math.sqrt(5)
    return length(across.clamp(min=0), up.clamp(min=0)) + torch.maximum(across, up).clamp(max=0)


def ellipse(x: Tensor, y: Tensor) -> Tensor:
    """Twice as wide as high: (f - 1) / |grad f| with f = sqrt(x^2 + 4 y^2), exact to first order at the outline."""
    f = length(x, 2 * y)
    return (f - 1) * f / length(x, 4 * y).clamp(min=1e-6)


def heart(x: Tensor, y: Tensor) -> Tensor:
    """A square that stands on a corner, with a half circle on each of its two upper sides."""
    # The square has its corners at (0, 0), (1/2, 1/2), (0, 1), and the circle its middle at (1/4, 3/4), to the right.
    size = math.hypot(0.25, 0.75 - MIDDLE) + RADIUS
    x, y = x.abs() * size, MIDDLE - y * size
    lobe = length(x - 0.25, y - 0.75) - RADIUS
    along = (x + y).clamp(min=0) / 2
    edge = torch.minimum(length(x, y - 1), length(x - along, y - along))
    return torch.where(x + y > 1, lobe, edge * (x - y).sign()) / size


# Of the heart: the radius of its circles, and the height of its middle above its lowest point.
RADIUS = math.sqrt(2) / 4
MIDDLE = (0.75 + RADIUS) / 2

SHAPES: dict[str, Distance] = {"rectangle": rectangle, "ellipse": ellipse, "heart": heart}


def coloured(hue: Tensor) -> Tensor:
    """(B, 3) the pure colours of hues (B,) in degrees, red, green and blue in [0, 1]."""
    turned = (hue[:, None] / 60 + torch.tensor([0.0, 4.0, 2.0])) % 6
    return ((turned - 3).abs() - 1).clamp(0, 1)


class Sprites:
    """Sprites of known factors, shape, scale, angle, x, y and colour, drawn as they are asked for; no file is read.

    All combinations of the factors are there once, in a fixed random order: a tenth each is for validation and test.
    The label is the shape. The scale is the radius of a circle around the shape, from side / 7 to 2 side / 7; the angle
    goes from 0 to 90 degrees; x and y over all places where the largest sprite is whole; and colours from red to blue.

    Arguments:
        side: of the pictures, in pixels.
        black_and_white: pixels have two levels, and there is no colour; else they have 256.
        scales, angles: how many there are of each.
        positions: how many there are of x, and of y.
        colours: how many there are; where there is but one, pictures are grey and colour is no factor.
    """

    classes = tuple(SHAPES)

    def __init__(
        self,
        side: int = 32,
        black_and_white: bool = False,
        scales: int = 5,
        angles: int = 10,
        positions: int = 16,
        colours: int = 6,
    ) -> None:
        if side < 8:
            raise ValueError(f"side must be at least 8, not {side}: shapes cannot be told apart on fewer pixels")
        for name, value in (("scales", scales), ("angles", angles), ("positions", positions), ("colours", colours)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        self.side, self.black_and_white = side, black_and_white
        sizes = {"shape": len(SHAPES), "scale": scales, "angle": angles, "x": positions, "y": positions}
        self.in_colour = colours > 1 and not black_and_white
        self.sizes = {**sizes, "colour": colours} if self.in_colour else sizes
        if not 10 <= self.count < 2**28:
            raise ValueError(f"scales, angles, positions and colours give {self.count} sprites: choose 10 to 2^28")

    @property
    def count(self) -> int:
        """How many sprites there are."""
        return math.prod(self.sizes.values())

    @property
    def factors(self) -> Mapping[str, int]:
        return self.sizes

    @property
    def spec(self) -> Spec:
        image = Field((3 if self.in_colour else 1, self.side, self.side), levels=2 if self.black_and_white else 256)
        factors = Field((len(self.sizes),), support="integer")
        return {"x": image, "label": Field((), classes=len(SHAPES)), "factors": factors}

    @property
    def identity(self) -> str:
        kind = "-black_and_white" if self.black_and_white else ""
        return f"sprites{kind}-{self.side}-{'x'.join(map(str, self.sizes.values()))}"

    def split(self, name: SplitName) -> "Drawn":
        return self._splits[name]

    @cached_property
    def _splits(self) -> dict[SplitName, "Drawn"]:
        held_out = round(HELD_OUT * self.count)
        order = permutation(self.count, seed=0)
        train, validation, test = order.split([self.count - 2 * held_out, held_out, held_out])
        return {"train": Drawn(self, train), "validation": Drawn(self, validation), "test": Drawn(self, test)}

    def values(self, number: Tensor) -> Tensor:
        """(B, F) int64: the factors of the sprites with these numbers, the last factor running fastest."""
        columns = torch.unravel_index(number, tuple(self.sizes.values()))
        return torch.stack(columns, dim=1)

    def draw(self, factors: Tensor) -> Tensor:
        """The pictures of factors (B, F): (B, C, side, side) uint8 below the number of levels."""

        def between(name: str, low: float, high: float) -> Tensor:
            """(B, 1, 1) the values of a factor, evenly from low to high, or halfway where there is but one."""
            size, value = self.sizes[name], factors[:, column[name]].float()
            share = value / (size - 1) if size > 1 else torch.full_like(value, 0.5)
            return (low + (high - low) * share)[:, None, None]

        column = {name: i for i, name in enumerate(self.sizes)}
        largest = LARGEST * self.side
        scale, angle = between("scale", largest / 2, largest), between("angle", 0, math.radians(TURN))
        middle = torch.arange(self.side) + 0.5
        across = middle[None, None, :] - between("x", largest, self.side - largest)
        down = middle[None, :, None] - between("y", largest, self.side - largest)
        x = (angle.cos() * across + angle.sin() * down) / scale
        y = (angle.cos() * down - angle.sin() * across) / scale
        distance = torch.empty_like(x)
        for number, shape in enumerate(SHAPES.values()):
            rows = (factors[:, column["shape"]] == number).nonzero().flatten()
            distance[rows] = shape(x[rows], y[rows])
        if self.black_and_white:
            return (distance < 0).to(torch.uint8)[:, None]
        cover = (0.5 - scale * distance).clamp(0, 1)
        colour = coloured(between("colour", 0, HUES).flatten()) if self.in_colour else torch.ones(1, 1)
        return (255 * cover[:, None] * colour[:, :, None, None]).round().to(torch.uint8)


class Drawn:
    """A split of sprites.

    Arguments:
        sprites: that draws.
        number: (N,) of each datum, among all sprites.
    """

    in_memory = True

    def __init__(self, sprites: Sprites, number: Tensor) -> None:
        self.sprites, self.number = sprites, number

    def __len__(self) -> int:
        return len(self.number)

    def batch(self, index: Tensor, rng: Rng | None = None) -> Batch:
        factors = self.sprites.values(self.number[index])
        x = real(self.sprites.draw(factors), self.sprites.spec["x"].levels or 2)
        return {"x": x, "label": factors[:, 0], "factors": factors}
