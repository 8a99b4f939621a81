"""PixelRNN: layers of LSTMs over an image, each of which adds to the features of a place.

    x_0 = K_A image + V vector,    x_{l + 1} = x_l + W_l recurrence_l(x_l),    y = W'' relu(W' relu(x_L))

K_A is a 7x7 convolution with mask A: of the rows above it sees all, of its own row what is to the left, and of the
place itself the earlier groups of channels. All that follows has mask B, which lets features also see the same group of
their own place, since these have not seen the group's own value. Channels of one group see each other nowhere.

Drawing keeps the states: each place is computed once, and again for each group of its channels after the first.

References:
    Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner & Kavukcuoglu, 2016), sections 2 and 3, table 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.networks.causal.causal import Causal
from genlab.networks.causal.recurrence import Pointwise, Recurrence, group_of, later
from genlab.networks.condition import Condition, parts
from genlab.networks.layers import at_least_one, linear, variance_scaling_


class PixelRNN(Causal):
    """The network above.

    Arguments:
        shape: (C, H, W) of a datum.
        features: F, the numbers that a place's distribution needs, those of its first channel first.
        recurrence: makes a layer, told `inputs`, `states`, `height`, `width`, `groups` and `values`: C of the first
            layer, which may look at the values of rows that are known to their end, and 0 of the others.
        width: S, the states of a layer; features between layers are twice as many.
        depth: how many layers.
        head: the features of the layer before the last.
        kernel: the side of the first convolution, odd.
        joint: the channels of a place are drawn together, by a distribution that couples them; else each is a group.
        vector: the width of condition.vector, 0 for none.

    Raises ValueError where data are no images, and where groups of channels do not divide `features`, `width` or
    `head`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        features: int,
        recurrence: Callable[..., Recurrence],
        width: int = 32,
        depth: int = 7,
        head: int = 32,
        kernel: int = 7,
        joint: bool = False,
        vector: int = 0,
    ) -> None:
        super().__init__()
        at_least_one(width=width, depth=depth, head=head, kernel=kernel)
        if len(shape) != 3:
            raise ValueError(f"shape={tuple(shape)} must be that of images, (C, H, W)")
        if kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} must be odd, so that it has a middle")
        channels, height, self.columns = shape
        self.groups = 1 if joint else channels
        for name, number in {"features": features, "width": width, "head": head}.items():
            if number % self.groups:
                raise ValueError(
                    f"{name}={number} must be divisible by {self.groups}, the channels; or take joint=true"
                )
        self.order = torch.arange(height * self.columns)
        self.vector, groups = vector, self.groups
        self.first = MaskA(channels, 2 * width, kernel, groups)
        self.told = linear(vector, 2 * width) if vector else None
        make = {"inputs": 2 * width, "states": width, "height": height, "width": self.columns, "groups": groups}
        self.layers = nn.ModuleList(recurrence(**make, values=0 if number else channels) for number in range(depth))
        self.outs = nn.ModuleList(Pointwise(width, 2 * width, groups) for _ in range(depth))
        before_last, last = Pointwise(2 * width, head, groups), Pointwise(head, features, groups, scale=0)
        self.head = nn.Sequential(nn.ReLU(), before_last, nn.ReLU(), last)

    def forward(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """(B, C, H, W) to (B, F, H, W)."""
        values = x.permute(2, 3, 0, 1)
        h = self.first(x).permute(2, 3, 0, 1).contiguous()
        told = self.tell(condition)
        if told is not None:
            h = h + told
        for layer, out in zip(self.layers, self.outs, strict=True):
            h = h + out(layer(h, values))
        return self.head(h).permute(2, 3, 0, 1)

    def recurrences(self) -> list[Recurrence]:
        return [cast(Recurrence, layer) for layer in self.layers]

    def tell(self, condition: Condition | None) -> Tensor | None:
        """What all places are told, (B, 2 S)."""
        vector, _, _ = parts(condition, self.vector)
        return None if self.told is None else self.told(vector)

    def start(self, x: Tensor, condition: Condition | None = None) -> "Drawn":
        blank = self.first.around(torch.zeros_like(x))
        features = x.new_zeros(len(x), self.first.weight.shape[0])
        return Drawn(blank, self.tell(condition), [layer.start(features) for layer in self.recurrences()])

    def at(self, state: "Drawn", place: int, known: Tensor) -> Tensor:
        state.asked += 1
        return self.head(self.compute(state, place, known))

    def put(self, state: "Drawn", place: int, value: Tensor) -> "Drawn":
        # No feature of a place sees its last group, so that those computed when that was asked for stay right.
        if state.asked < self.groups:
            self.compute(state, place, value)
        row, column = divmod(place, self.columns)
        self.first.write(state.x, row, column, value)
        if column + 1 == self.columns:
            values = self.first.row(state.x, row)
            for layer, kept in zip(self.recurrences(), state.kept, strict=True):
                layer.end(kept, row, values)
        state.asked = 0
        return state

    def compute(self, state: "Drawn", place: int, value: Tensor) -> Tensor:
        """The last features (B, 2 S) of a place, whose states are kept."""
        row, column = divmod(place, self.columns)
        self.first.write(state.x, row, column, value)
        h = self.first.at(state.x, row, column)
        if state.told is not None:
            h = h + state.told
        for layer, out, kept in zip(self.recurrences(), self.outs, state.kept, strict=True):
            h = h + out(layer.at(kept, row, column, h))
        return h


@dataclass
class Drawn:
    """Where drawing has come to.

    Arguments:
        x: (B, C, *), what is known of the image, with zeros around it.
        told: (B, 2 S), what all places are told.
        kept: by each layer.
        asked: how many groups of channels of the place were asked for.
    """

    x: Tensor
    told: Tensor | None
    kept: list[Any]
    asked: int = 0


class MaskA(nn.Module):
    """A convolution with mask A, which sees what comes before a place alone.

    Arguments:
        channels, features: before and after.
        kernel: k, odd; of its rows only those to the middle one have weights, for no other is seen.
        groups: of channels.
    """

    mask: Tensor

    def __init__(self, channels: int, features: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.reach = kernel // 2
        self.weight = nn.Parameter(torch.empty(features, channels, self.reach + 1, kernel))
        self.bias = nn.Parameter(torch.zeros(features))
        variance_scaling_(self.weight)
        mask = torch.ones_like(self.weight)
        mask[:, :, -1, self.reach :] = 0
        mask[:, :, -1, self.reach] = later(group_of(features, groups), group_of(channels, groups), same=False)
        self.register_buffer("mask", mask.detach(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, features, H, W)."""
        return F.conv2d(self.around(x), self.weight * self.mask, self.bias)

    def around(self, x: Tensor) -> Tensor:
        """x with zeros on all sides but below."""
        return F.pad(x, (self.reach, self.reach, self.reach, 0))

    def write(self, around: Tensor, row: int, column: int, value: Tensor) -> None:
        """Give a place of an image with zeros around it this value (B, C)."""
        around[:, :, row + self.reach, column + self.reach] = value

    def row(self, around: Tensor, row: int) -> Tensor:
        """The values (W, B, C) of a row of such an image."""
        return around[:, :, row + self.reach, self.reach : around.shape[3] - self.reach].permute(2, 0, 1)

    def at(self, around: Tensor, row: int, column: int) -> Tensor:
        """The features (B, features) of a place."""
        seen = around[:, :, row : row + self.reach + 1, column : column + 2 * self.reach + 1]
        return F.linear(seen.flatten(1), (self.weight * self.mask).flatten(1), self.bias)
