"""The Row LSTM: a row at once, each place given the states of the k places nearest to it in the row above.

    z[r, w] = sum_{j = 0 .. k // 2} K_is[j] x[r, w - j] + b + sum_{|j| <= k // 2} K_ss[j] h[r - 1, w + j]
    c' = c[r - 1, w]

The input-to-state convolution is masked: it sees the place itself (mask B) and those to its left. A state sees of each
row above k // 2 places more to the right than of the row below it, so that the layer sees a triangle, and what is
further to the right never reaches it. A pass takes H steps, one a row.

References:
    Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner & Kavukcuoglu, 2016), section 3.1.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.networks.causal.recurrence import GATES, Recurrence, cell, gates
from genlab.networks.layers import variance_scaling_


class RowLSTM(Recurrence):
    """The layer above.

    Arguments:
        inputs: I, the features of a place.
        states: S.
        height, width: of the map.
        groups: of channels.
        values: how many values of a place are given besides; none is looked at.
        kernel: k, odd.
    """

    def __init__(
        self, inputs: int, states: int, height: int, width: int, groups: int = 1, values: int = 0, kernel: int = 3
    ) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} must be odd, so that it has a middle")
        self.height, self.width, self.states, self.reach = height, width, states, kernel // 2
        self.steps = height
        self.from_input = gates(inputs, states, groups, maps=self.reach)
        self.from_state = nn.Parameter(torch.empty(GATES * states, kernel * states))
        variance_scaling_(self.from_state)

    def forward(self, x: Tensor, values: Tensor) -> Tensor:
        wide = F.pad(x, (0, 0, 0, 0, self.reach, 0))
        seen = torch.cat([wide[:, j : j + self.width] for j in range(self.reach + 1)], dim=-1)
        rows: list[Tensor] = []
        c = None
        for z in self.from_input(seen).unbind(0):
            if rows:
                above = F.pad(rows[-1], (0, 0, 0, 0, self.reach, self.reach))
                near = torch.cat([above[j : j + self.width] for j in range(2 * self.reach + 1)], dim=-1)
                z = z + F.linear(near, self.from_state)
            h, c = cell(z, c)
            rows.append(h)
        return torch.stack(rows)

    def start(self, x: Tensor) -> "Rows":
        rows, inputs = x.shape
        return Rows(
            x.new_zeros(self.width + self.reach, rows, inputs),
            x.new_zeros(self.height + 1, self.width + 2 * self.reach, rows, self.states),
            x.new_zeros(self.height + 1, self.width, rows, self.states),
        )

    def at(self, kept: "Rows", row: int, column: int, x: Tensor) -> Tensor:
        if column == 0:
            kept.x.zero_()
        kept.x[column + self.reach] = x
        z = self.from_input(side_by_side(kept.x[column : column + self.reach + 1]))
        z = z + F.linear(side_by_side(kept.h[row, column : column + 2 * self.reach + 1]), self.from_state)
        kept.h[row + 1, column + self.reach], kept.c[row + 1, column] = cell(z, kept.c[row, column])
        return kept.h[row + 1, column + self.reach]


@dataclass
class Rows:
    """What is kept.

    Arguments:
        x: (k // 2 + W, B, I), the features of this row, after zeros.
        h: (1 + H, W + 2 (k // 2), B, S), the states, with zeros around them.
        c: (1 + H, W, B, S), the cells, below a row of zeros.
    """

    x: Tensor
    h: Tensor
    c: Tensor


def side_by_side(places: Tensor) -> Tensor:
    """(n, B, D) as (B, n D)."""
    return places.transpose(0, 1).flatten(1)
