"""Convolutions that see a place and what comes before it alone: of whole maps, of one row more, or of one place more.

    y_ij = b + sum over k < h and l of W_kl x_{i - k, j + l},    -left <= l <= right

Kernels reach upwards, so that of the published square ones the lower half, which a mask would set to 0, is not there.
In its own row a kernel may see what lies right only where whole rows come, as in a stack of rows above. Else a mask of
the place's own row holds it back,

    A    left of the place, and of the place the earlier groups of channels
    B    left of the place, and of the place the earlier groups of channels and the own one

What drawing must keep of a layer's input are the h rows and columns that its kernel reaches: a place then costs one
product of the kernel with what it covers, whatever the size of the map.

References:
    Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner & Kavukcuoglu, 2016), section 3.4, masked convolutions.
    Fast Generation for Convolutional Autoregressive Models (Ramachandran et al., 2017).
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class Seen:
    """What one layer keeps.

    Arguments:
        weight: as it is used, masked.
        rows: (B, channels, rows, columns), what it may still look at.
        number: of the row that is the last one of these.
    """

    weight: Tensor
    rows: Tensor
    number: int = 0


@dataclass
class Kept:
    """Where drawing is in a map, and what the layers that look at it have kept.

    Arguments:
        width: of the map.
        row: of the place that is computed.
        column: of that place; None where layers are given whole rows (B, channels, 1, width), else they are given
            places (B, channels, 1, 1).
        layers: what each keeps, made when it is first called.
    """

    width: int
    row: int = 0
    column: int | None = None
    layers: dict[nn.Module, Seen] = field(default_factory=dict)


class CausalConv(nn.Conv2d):
    """A convolution whose kernel ends in the place's own row.

    With a stride there are outputs for every so manieth row and column, from the first on.

    Arguments:
        inputs, outputs: channels.
        kernel: (h, w), its rows and columns.
        right: how many of its columns lie right of the place.
        mask: of the own row, "A" or "B"; None for none.
        groups: of channels, inputs and outputs, drawn one after the other, which the mask keeps apart.
        stride: as of any convolution.
    """

    mask: Tensor | None

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int] = (1, 1),
        right: int = 0,
        mask: Literal["A", "B"] | None = None,
        groups: int = 1,
        stride: int = 1,
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride)
        self.height, self.span = kernel
        self.right, self.left, self.step = right, self.span - 1 - right, stride
        self.register_buffer("mask", None, persistent=False)
        if mask is not None and (kernel != (1, 1) or groups > 1 or mask == "A"):
            seen = torch.ones_like(self.weight)
            seen[:, :, -1, self.left + 1 :] = 0
            source = torch.arange(inputs) // (inputs // groups)
            target = torch.arange(outputs)[:, None] // (outputs // groups)
            seen[:, :, -1, self.left] = (source < target if mask == "A" else source <= target).to(seen)
            self.register_buffer("mask", seen.detach(), persistent=False)

    def masked(self) -> Tensor:
        """W, (outputs, inputs, h, w)."""
        return self.weight if self.mask is None else self.weight * self.mask

    def forward(self, x: Tensor, kept: Kept | None = None) -> Tensor:
        """(B, outputs, *) of a map, or of the next row or place of one of which something is kept."""
        if kept is None:
            height, width = x.shape[2] // self.step, x.shape[3] // self.step
            padding = (self.height - 1, max(self.left, self.right))
            y = F.conv2d(x, self.masked(), self.bias, self.step, padding)
            first = max(0, self.right - self.left)
            return y if padding == (0, 0) else y[:, :, :height, first : first + width]
        if self.kernel_size == (1, 1):
            # Nothing to look back at.
            own = self._own(x, kept)
            return F.conv2d(x, own.weight, self.bias) if kept.column is None else self._product(x, own)
        self.put(x, kept)
        return self.read(kept)

    def put(self, x: Tensor, kept: Kept) -> None:
        """Keep a row or a place; a place may be put again."""
        own = self._own(x, kept)
        if own.number != kept.row:
            own.rows, own.number = F.pad(own.rows[:, :, 1:], (0, 0, 0, 1)), kept.row
        if kept.column is None:
            own.rows[:, :, -1, self.left : self.left + kept.width] = x[:, :, 0]
        else:
            own.rows[:, :, -1, self.left + kept.column] = x[:, :, 0, 0]

    def read(self, kept: Kept) -> Tensor:
        """The output at the row or place that was put last."""
        own = kept.layers[self]
        if kept.column is None:
            y = F.conv2d(own.rows, own.weight, self.bias, (1, self.step))
            return y[..., : kept.width // self.step]
        seen = own.rows[:, :, :, kept.column : kept.column + self.span]
        return self._product(seen, own)

    def _own(self, x: Tensor, kept: Kept) -> Seen:
        own = kept.layers.get(self)
        if own is None:
            rows = x.new_zeros(len(x), x.shape[1], self.height, self.left + kept.width + self.right)
            own = kept.layers[self] = Seen(self.masked(), rows, kept.row)
        return own

    def _product(self, seen: Tensor, own: Seen) -> Tensor:
        """(B, outputs, 1, 1) of what the kernel covers, (B, inputs, h, w)."""
        return F.linear(seen.flatten(1), own.weight.flatten(1), self.bias)[..., None, None]


class CausalUp(nn.ConvTranspose2d):
    """A transposed convolution with stride 2: a place gives to the four that are its own, or to those beside them too.

    Arguments:
        inputs, outputs: channels.
        beside: the kernel is of three columns, of which one lies left of the place's own, where whole rows come; else
            it is 2x2.
    """

    def __init__(self, inputs: int, outputs: int, beside: bool) -> None:
        super().__init__(inputs, outputs, (2, 3 if beside else 2), stride=2)
        self.first = int(beside)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(B, inputs, H, W) to (B, outputs, 2 H, 2 W)."""
        y = F.conv_transpose2d(x, self.weight, self.bias, 2)
        return y[..., self.first : self.first + 2 * x.shape[3]]

    def put(self, x: Tensor, kept: Kept) -> None:
        """Keep what a coarse row or place gives; `kept` is of the fine map, at the first of the places that are its."""
        if kept.column is None:
            kept.layers[self] = Seen(self.weight, self(x))
            return
        if self not in kept.layers:
            kept.layers[self] = Seen(self.weight, x.new_zeros(len(x), self.out_channels, 2, kept.width))
        kept.layers[self].rows[..., kept.column : kept.column + 2] = self(x)

    def read(self, kept: Kept) -> Tensor:
        """The output at the fine row or place."""
        row = kept.layers[self].rows[:, :, kept.row % 2, None]
        return row if kept.column is None else row[..., kept.column, None]


def from_above(x: Tensor) -> Tensor:
    """A map (B, C, H, W) moved down by a row."""
    return F.pad(x, (0, 0, 1, -1))


def from_left(x: Tensor) -> Tensor:
    """A map (B, C, H, W) moved right by a column."""
    return F.pad(x, (1, -1))
