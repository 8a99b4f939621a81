"""Points of the plane in shapes that show at a glance what a model has learnt.

Each shape draws its points from Philox numbers of a fixed key, so the data never change, and is moved and scaled by
constants that put it into [-2, 2], save for the tails of its noise.

References:
    FFJORD: Free-form Continuous Dynamics for Scalable Reversible Generative Models (Grathwohl et al., 2019).
    Composing graphical models with neural networks for structured representations (Johnson et al., 2016), pinwheel.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.core.spec import Field, Spec
from genlab.data.contract import InMemory, SplitName

Drawn = tuple[Tensor, Tensor | None]
"""Points (B, 2), and labels (B,) where the shape has parts."""

Name = Literal["moons", "circles", "8gaussians", "25gaussians", "swissroll", "pinwheel", "checkerboard"]
FIRST: dict[SplitName, int] = {"train": 0, "validation": 2**30, "test": 2**31}
HELD_OUT = 10_000


def moons(rng: Rng) -> Drawn:
    """Two half circles that reach into each other."""
    label = rng.integers(2)
    angle = math.pi * rng.uniform()
    side = 1.0 - 2.0 * label
    x = torch.stack([side * angle.cos() + label - 0.5, side * angle.sin() + label * 0.5 - 0.25], dim=1)
    return 1.25 * (x + 0.1 * rng.normal(2)), label


def circles(rng: Rng) -> Drawn:
    """A circle within a circle of twice its radius."""
    label = rng.integers(2)
    x = polar(1.0 - 0.5 * label, 2 * math.pi * rng.uniform())
    return 1.75 * (x + 0.08 * rng.normal(2)), label


def swissroll(rng: Rng) -> Drawn:
    """A spiral of a turn and a half."""
    angle = 1.5 * math.pi * (1 + 2 * rng.uniform())
    return (polar(angle, angle) + rng.normal(2)) / 7, None


def pinwheel(rng: Rng) -> Drawn:
    """Five sails, normal and then twisted about the origin."""
    label = rng.integers(5)
    normal = rng.normal(2)
    radius, across = 1 + 0.3 * normal[:, 0], 0.1 * normal[:, 1]
    angle = 2 * math.pi * label / 5 + 0.25 * radius.exp()
    return polar(radius, angle) + polar(across, angle + math.pi / 2), label


def checkerboard(rng: Rng) -> Drawn:
    """The eight black squares of a board of four by four."""
    column, row = rng.integers(4), 2 * rng.integers(2)
    corner = torch.stack([column, row + column % 2], dim=1)
    return corner - 2.0 + rng.uniform(2), None


def polar(radius: Tensor, angle: Tensor) -> Tensor:
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)


@dataclass(frozen=True)
class Gaussians:
    """Equally likely normal parts around given centres.

    Arguments:
        modes: (K, 2) the centres.
        spread: the standard deviation of each.
    """

    modes: Tensor
    spread: float

    def __call__(self, rng: Rng) -> Drawn:
        label = rng.integers(len(self.modes))
        return self.modes[label] + self.spread * rng.normal(2), label


RING = Gaussians(1.6 * polar(torch.ones(8), torch.arange(8) * math.pi / 4), spread=0.1)
GRID = Gaussians(torch.cartesian_prod(torch.arange(-2.0, 3.0), torch.arange(-2.0, 3.0)), spread=0.05)

SHAPES: dict[Name, tuple[Callable[[Rng], Drawn], int | None]] = {
    "moons": (moons, 2),
    "circles": (circles, 2),
    "8gaussians": (RING, 8),
    "25gaussians": (GRID, 25),
    "swissroll": (swissroll, None),
    "pinwheel": (pinwheel, 5),
    "checkerboard": (checkerboard, None),
}
"""How each shape is drawn, and how many labels it has."""


class Toy2D:
    """Points of the plane: moons, circles, 8gaussians, 25gaussians, swissroll, pinwheel or checkerboard.

    10,000 validation and 10,000 test points, the same for every `size`. `modes` (K, 2) and `spread` are the centres and
    the standard deviation of the Gaussians, None for other shapes.

    Arguments:
        name: the shape.
        size: train points.
    """

    classes = None

    def __init__(self, name: Name = "moons", size: int = 50_000) -> None:
        if name not in SHAPES:
            raise ValueError(f"name must be one of {', '.join(SHAPES)}, not {name}")
        if not 1 <= size <= FIRST["validation"]:
            raise ValueError(f"size must be at least 1 and at most {FIRST['validation']}, not {size}")
        self.name, self.size = name, size
        self._drawn: dict[SplitName, InMemory] = {}
        self.draw, self.parts = SHAPES[name]
        self.modes = self.draw.modes if isinstance(self.draw, Gaussians) else None
        self.spread = self.draw.spread if isinstance(self.draw, Gaussians) else None

    @property
    def spec(self) -> Spec:
        point: Spec = {"x": Field((2,))}
        return point if self.parts is None else {**point, "label": Field((), classes=self.parts)}

    @property
    def identity(self) -> str:
        return f"toy2d-{self.name}-{self.size}"

    def split(self, name: SplitName) -> InMemory:
        if name not in self._drawn:
            count = self.size if name == "train" else HELD_OUT
            index = torch.arange(FIRST[name], FIRST[name] + count)
            x, label = self.draw(Rng(0, index).stage(self.name))
            self._drawn[name] = InMemory(x, label=label)
        return self._drawn[name]
