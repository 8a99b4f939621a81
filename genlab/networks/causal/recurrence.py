"""What the recurrent layers of PixelRNN have in common: the cell, the masks, and how they are asked for one place.

    (o, f, i) = sigmoid(z_o, z_f, z_i),    g = tanh(z_g),    c = f c' + i g,    h = o tanh(c)

z is the sum of an input-to-state part, for all places at once, and a state-to-state part, for those that do not wait
for each other. Where the channels of a place are drawn one group after the other, features and states come in as many
groups, and a mask B lets a group of z hear the same group of its own place and the earlier ones, and no later one.
States of other places are all from before, and heard whole.

References:
    Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner & Kavukcuoglu, 2016), section 3.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.networks.layers import linear

GATES = 4


class Recurrence(nn.Module, ABC):
    """A layer of LSTMs over a map, from features (H, W, B, I) to states (H, W, B, S), causal in rows.

    Attributes:
        steps: how many follow one another in a pass.
    """

    steps: int

    @abstractmethod
    def forward(self, x: Tensor, values: Tensor) -> Tensor:
        """Features x (H, W, B, I) and the values (H, W, B, C) of all places to (H, W, B, S)."""

    @abstractmethod
    def start(self, x: Tensor) -> Any:
        """What is kept before the first place, for features like x (B, I)."""

    @abstractmethod
    def at(self, kept: Any, row: int, column: int, x: Tensor) -> Tensor:
        """The states (B, S) of the next place in rows, whose features are x (B, I), and which are kept.

        A place may be asked for again, as more of it is known; what was kept for it before is forgotten.
        """

    def end(self, kept: Any, row: int, values: Tensor) -> None:
        """A row is known to its end: its values are (W, B, C)."""


class Pointwise(nn.Module):
    """W x + b, with a mask where there are several groups.

    Arguments:
        inputs, outputs: how many numbers go in and come out.
        groups: G, which divides both.
        maps: how many maps of the features of other places, heard whole, go in before those of the place itself.
        repeats: how many times the outputs have the G groups, one after the other.
        scale: of the first weights; 0 for zeros.
    """

    mask: Tensor | None

    def __init__(
        self, inputs: int, outputs: int, groups: int, maps: int = 0, repeats: int = 1, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.linear = linear((maps + 1) * inputs, outputs, scale)
        own = later(group_of(outputs // repeats, groups).repeat(repeats), group_of(inputs, groups), same=True)
        mask = torch.cat([torch.ones(outputs, maps * inputs), own], dim=1) if groups > 1 else None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(*, inputs) to (*, outputs)."""
        weight = self.linear.weight if self.mask is None else self.linear.weight * self.mask
        return F.linear(x, weight, self.linear.bias)


def group_of(size: int, groups: int) -> Tensor:
    """The group of each of so many features, which come group by group."""
    return torch.arange(size) * groups // size


def later(outputs: Tensor, inputs: Tensor, same: bool) -> Tensor:
    """(outputs, inputs), 1 where the output's group is later than the input's, or the same: mask B, and without, A."""
    difference = outputs[:, None] - inputs
    return (difference >= 0 if same else difference > 0).float()


def gates(inputs: int, states: int, groups: int, maps: int = 0, directions: int = 1) -> Pointwise:
    """The input-to-state part of z, which starts by forgetting little."""
    layer = Pointwise(inputs, directions * GATES * states, groups, maps, directions * GATES)
    with torch.no_grad():
        layer.linear.bias.view(directions, GATES, states)[:, 1] = 1.0
    return layer


def cell(z: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
    """(h, c) from z (*, 4 S) and the c before (*, S), None for zeros."""
    out, forget, write, new = z.chunk(GATES, dim=-1)
    c = torch.addcmul(forget.sigmoid() * (torch.zeros_like(out) if c is None else c), write.sigmoid(), new.tanh())
    return out.sigmoid() * c.tanh(), c
