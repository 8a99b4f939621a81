"""The Diagonal BiLSTM: a diagonal at once, from the left and from the right, so that each place sees all before it.

    z[r, w] = K_is x[r, w] + b + K_ss (h[r, w - 1], h[r - 1, w]),    c' = c[r, w - 1]              from the left
    y[r, w] = h_left[r, w] + h_right[r - 1, w]

The LSTM from the right is the same, with weights of its own, in the mirror: it is given h[r, w + 1] and h[r - 1, w].
Its map is shifted down by a row before it is added, so that what it saw to the right of a place is of the rows above.
The input-to-state part sees the place itself (mask B).

Features of a place have not seen its own value, so that of the row above the LSTM from the right would not see the last
one, unless the first convolution of the network reaches that far. That it sees all is published, and so that it does,
its first layer is also given the values themselves, which the shift allows it: z_right[r, w] += K_v image[r, w].

The places of a diagonal do not wait for each other: where each row is set off by one place from the row above they are
a column, and its states follow from the column before it by a convolution of size 2 x 1. A pass thus takes H + W - 1
steps, both directions together. Here places are gathered by diagonals, so that none of the corners that the skewed map
would have are computed.

References:
    Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner & Kavukcuoglu, 2016), section 3.2.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.networks.causal.recurrence import GATES, Recurrence, cell, gates
from genlab.networks.layers import variance_scaling_


class DiagonalBiLSTM(Recurrence):
    """The layer above.

    Arguments:
        inputs: I, the features of a place.
        states: S, of either direction.
        height, width: of the map.
        groups: of channels.
        values: C, how many values of a place the LSTM from the right is given besides; 0 for none.
    """

    places: Tensor
    back: Tensor

    def __init__(self, inputs: int, states: int, height: int, width: int, groups: int = 1, values: int = 0) -> None:
        super().__init__()
        self.height, self.width, self.states = height, width, states
        self.steps = height + width - 1
        self.from_input = gates(inputs, states, groups, directions=2)
        self.from_values = nn.Parameter(torch.empty(GATES * states, values)) if values else None
        if self.from_values is not None:
            variance_scaling_(self.from_values)
        self.from_state = nn.Parameter(torch.empty(2, 2 * states, GATES * states))
        for weight in self.from_state:
            variance_scaling_(weight)
        # The rows of each diagonal, first to last.
        self.spans = [(max(0, t - width + 1), min(height - 1, t)) for t in range(self.steps)]
        place = torch.tensor([(r, t - r) for t, (low, high) in enumerate(self.spans) for r in range(low, high + 1)])
        row, column = place.unbind(1)
        places = torch.stack([row * width + column, row * width + width - 1 - column])
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("back", places.argsort(dim=1), persistent=False)

    def forward(self, x: Tensor, values: Tensor) -> Tensor:
        # (L, B, 4 S) of each direction, to (2, L, B, 4 S) by diagonals.
        left, right = self.from_input(x).flatten(0, 1).chunk(2, dim=-1)
        right = self.heard(right, values.flatten(0, 1))
        z = torch.stack([left.index_select(0, self.places[0]), right.index_select(0, self.places[1])])
        diagonals: list[Tensor] = []
        c, before = None, (0, 0)
        for (low, high), part in zip(
            self.spans, z.split([high - low + 1 for low, high in self.spans], dim=1), strict=True
        ):
            if c is not None:
                # From the row above the first one of this diagonal to the last one, on the diagonal before.
                first, more = low - before[0], high - before[1]
                h = F.pad(diagonals[-1], (0, 0, 0, 0, 1 - first, more))
                near = torch.cat([h[:, 1:], h[:, :-1]], dim=-1)
                part = torch.baddbmm(part.flatten(1, 2), near.flatten(1, 2), self.from_state).view(part.shape)
                c = F.pad(c[:, first:], (0, 0, 0, 0, 0, more))
            h, c = cell(part, c)
            before = (low, high)
            diagonals.append(h)
        left, right = torch.cat(diagonals, dim=1)
        left, right = left.index_select(0, self.back[0]), right.index_select(0, self.back[1])
        # A row down.
        right = F.pad(right[: -self.width], (0, 0, 0, 0, self.width, 0))
        return (left + right).unflatten(0, (self.height, self.width))

    def heard(self, z: Tensor, values: Tensor) -> Tensor:
        """z (L, B, 4 S) of the LSTM from the right, with the values (L, B, C)."""
        return z if self.from_values is None else z + F.linear(values, self.from_values)

    def start(self, x: Tensor) -> "Diagonals":
        shape = (2, self.height + 1, self.width + 1, len(x), self.states)
        return Diagonals(x.new_zeros(self.width, len(x), GATES * self.states), x.new_zeros(shape), x.new_zeros(shape))

    def at(self, kept: "Diagonals", row: int, column: int, x: Tensor) -> Tensor:
        z, kept.z[column] = self.from_input(x).chunk(2, dim=-1)
        return self.step(kept, 0, row, column, z) + kept.h[1, row, self.width - column]

    def end(self, kept: "Diagonals", row: int, values: Tensor) -> None:
        for step, z in enumerate(self.heard(kept.z, values).flip(0).unbind(0)):
            self.step(kept, 1, row, step, z)

    def step(self, kept: "Diagonals", direction: int, row: int, column: int, z: Tensor) -> Tensor:
        """The next state of a direction, in whose mirror columns are counted."""
        h, c = kept.h[direction], kept.c[direction]
        near = torch.cat([h[row + 1, column], h[row, column + 1]], dim=-1)
        z = torch.addmm(z, near, self.from_state[direction])
        h[row + 1, column + 1], c[row + 1, column + 1] = cell(z, c[row + 1, column])
        return h[row + 1, column + 1]


@dataclass
class Diagonals:
    """What is kept.

    Arguments:
        z: (W, B, 4 S), what the features of this row say to the LSTM from the right, which goes through the row when
            it is known to its end: the row below is the first that needs it.
        h, c: (2, 1 + H, 1 + W, B, S), the states and cells of both directions, that from the right in the mirror,
            with zeros above them and before them.
    """

    z: Tensor
    h: Tensor
    c: Tensor
