"""Dense networks in which a number depends on those before it alone: MADE.

    h_1 = f((M_1 * W_1) x + b_1 + V c),    h_l = f((M_l * W_l) h_{l-1} + b_l),    y = (M * W) h_L + b
    M_l[j, i] = 1 where m_l(j) >= m_{l-1}(i),    M[d, i] = 1 where rank(d) > m_L(i)

An input's degree is its rank in the order, 0 .. D - 1, and a hidden unit's is the rank of the last input that it sees;
c is a context that all see. Units of degree -1 see the context alone.

In their order the outputs cost no more than one pass: a hidden unit is computed as soon as the last input that it sees
is known, and once. Naively each of the D places takes a pass of its own.

References:
    MADE: Masked Autoencoder for Distribution Estimation (Germain et al., 2015), sections 3 and 4.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.core.rng import Rng
from genlab.networks.layers import at_least_one, linear, variance_scaling_

# Rows of a masked matrix are multiplied in so many parts, each without the columns that none of its rows sees.
PARTS = 4
# A part with fewer products than this costs more to begin than it saves.
LEAST_PART = 2**16


class MaskedLinear(nn.Module):
    """(M * W) x + b.

    Of a mask that is a staircase, as those of sorted degrees are, nearly half of the products are left out.

    Arguments:
        mask: M (outputs, inputs), 0 and 1.
        scale: of the first weights; 0 for zeros.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(mask.shape))
        self.bias = nn.Parameter(torch.zeros(len(mask)))
        variance_scaling_(self.weight, scale)
        self.register_buffer("mask", torch.empty(0), persistent=False)
        self.assign(mask)

    def assign(self, mask: Tensor) -> None:
        """Take another mask of the same shape."""
        self.mask = mask.to(self.weight)
        rows = -(-len(mask) // PARTS) if mask.numel() >= PARTS * LEAST_PART else len(mask)
        parts = mask.bool().any(dim=0)[None] if rows == len(mask) else seen_columns(mask, rows)
        self.spans = [span(columns) for columns in parts.cpu()]
        self.rows = rows

    def masked(self) -> Tensor:
        """M * W."""
        return self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) to (B, outputs)."""
        if len(self.spans) == 1:
            return F.linear(x, self.masked(), self.bias)
        parts = zip(
            self.spans,
            self.weight.split(self.rows),
            self.mask.split(self.rows),
            self.bias.split(self.rows),
            strict=True,
        )
        made = [F.linear(x[:, a:b], weight[:, a:b] * mask[:, a:b], bias) for (a, b), weight, mask, bias in parts]
        return torch.cat(made, dim=1)


def seen_columns(mask: Tensor, rows: int) -> Tensor:
    """(parts, inputs): which columns any row of each part of so many rows sees."""
    return torch.stack([part.bool().any(dim=0) for part in mask.split(rows)])


def span(columns: Tensor) -> tuple[int, int]:
    """The first true column, and the one after the last; (0, 0) where there is none."""
    true = columns.nonzero().flatten()
    return (int(true[0]), int(true[-1]) + 1) if len(true) else (0, 0)


def even_degrees(size: int, widths: Sequence[int], context: bool = False) -> list[Tensor]:
    """Degrees of hidden layers of these widths, spread evenly over all that are of use, and rising.

    Arguments:
        size: D, how many places there are.
        context: there is one, so that units which see it alone are of use.
    """
    least = least_degree(size, context)
    count = max(size - 1 - least, 1)
    return [least + torch.arange(width) * count // width for width in widths]


def random_degrees(size: int, widths: Sequence[int], seed: int, context: bool = False) -> list[Tensor]:
    """Degrees drawn with equal chances from those that are at least the lowest of the layer before, as published."""
    rng = Rng(seed, torch.zeros(1, dtype=torch.long)).stage("degrees")
    least, found = least_degree(size, context), list[Tensor]()
    for width in widths:
        drawn = least + rng.integers(max(size - 1 - least, 1), width)[0]
        found.append(drawn)
        least = int(drawn.min())
    return found


def least_degree(size: int, context: bool) -> int:
    """-1 where there is a context, or only one place, of which hidden units may see nothing; else 0."""
    return -1 if context or size == 1 else 0


class MADE(nn.Module):
    """A masked network: what it says of a place depends on the places before it in the order.

    Arguments:
        size: D, the places.
        outputs: F, the numbers that come out for a place.
        hidden: the widths of the hidden layers.
        numbers: N, the numbers that go in for a place.
        context: the width of what all places are told, 0 for nothing.
        order: (D,), the place that comes first, second and so on; None is 0 .. D - 1.
        random: the seed of random degrees; None spreads them evenly.
        direct: the inputs also reach the outputs without the hidden layers between.
        scale: of the last layer's first weights; 0 for zeros.
        activation: makes a nonlinearity.
    """

    def __init__(
        self,
        size: int,
        outputs: int,
        hidden: Sequence[int],
        numbers: int = 1,
        context: int = 0,
        order: Tensor | None = None,
        random: int | None = None,
        direct: bool = False,
        scale: float = 0.0,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        at_least_one(size=size, outputs=outputs, numbers=numbers, **{"hidden": min(hidden, default=1)})
        self.size, self.outputs, self.numbers = size, outputs, numbers
        sizes = [size * numbers, *hidden, size * outputs]
        scales = [1.0] * len(hidden) + [scale]
        blank = [torch.zeros(after, before) for before, after in pairwise(sizes)]
        self.layers = nn.ModuleList(MaskedLinear(mask, s) for mask, s in zip(blank, scales, strict=True))
        self.direct = MaskedLinear(torch.zeros(sizes[-1], sizes[0]), scale) if direct else None
        self.context = linear(context, sizes[1], scale if not hidden else 1.0) if context else None
        self.activation = activation()
        if random is None:
            degrees = even_degrees(size, hidden, context > 0)
        else:
            degrees = random_degrees(size, hidden, random, context > 0)
        self.assign(torch.arange(size) if order is None else order, degrees)

    def each(self) -> list[MaskedLinear]:
        """The layers between inputs and outputs, in order."""
        return [cast(MaskedLinear, layer) for layer in self.layers]

    def assign(self, order: Tensor, degrees: Sequence[Tensor]) -> None:
        """Take another order, and other degrees of the hidden layers; the weights stay with their places and units."""
        if not torch.equal(order.cpu().sort().values, torch.arange(self.size)):
            raise ValueError(f"order must hold each of 0 .. {self.size - 1} once")
        self.order = order.cpu()
        rank = self.order.argsort()
        self.ranks = rank
        self.degrees = [rank.repeat_interleave(self.numbers), *(d.cpu() for d in degrees)]
        last = rank.repeat_interleave(self.outputs)[:, None]
        *hidden, final = self.each()
        for layer, (before, after) in zip(hidden, pairwise(self.degrees), strict=True):
            layer.assign(after[:, None] >= before)
        final.assign(last > self.degrees[-1])
        if self.direct is not None:
            self.direct.assign(last > self.degrees[0])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(B, N, D) to (B, F, D), of which [:, :, d] depends on the places before d in the order.

        Arguments:
            context: (B, context).
        """
        x = x.transpose(1, 2).flatten(1)
        h = x
        for i, layer in enumerate(self.layers):
            h = layer(h if i == 0 else self.activation(h))
            if i == 0 and self.context is not None:
                h = h + self.context(context)
        if self.direct is not None:
            h = h + self.direct(x)
        return h.unflatten(1, (self.size, self.outputs)).transpose(1, 2)

    def start(self, batch: int, context: Tensor | None = None) -> "Places":
        """The same network, one place after another."""
        return Places(self, batch, context)


class Grown:
    """Rows of a matrix (count, B) that become known one after another.

    Without gradients they are written into one tensor; with them, where nothing may be overwritten, tensors are joined.
    """

    def __init__(self, count: int, batch: int, like: Tensor) -> None:
        self.writes = not torch.is_grad_enabled()
        self.values = like.new_empty(count if self.writes else 0, batch)
        self.count = 0

    def add(self, rows: Tensor) -> None:
        """The next rows (n, B)."""
        if self.writes:
            self.values[self.count : self.count + len(rows)] = rows
        else:
            self.values = torch.cat([self.values, rows])
        self.count += len(rows)

    def first(self, count: int) -> Tensor:
        return self.values[:count]


class Sorted:
    """A masked layer whose rows and columns are in the order in which they become known."""

    def __init__(self, layer: MaskedLinear, rows: Tensor, columns: Tensor) -> None:
        device = layer.weight.device
        self.rows, self.columns = (d.argsort(stable=True).to(device) for d in (rows, columns))
        self.weight = layer.masked()[self.rows][:, self.columns]
        self.bias = layer.bias[self.rows][:, None]

    def __call__(self, first: int, last: int, seen: Tensor) -> Tensor:
        """The rows from `first` to `last`, (n, B), from the columns that are known, (m, B)."""
        return torch.addmm(self.bias[first:last], self.weight[first:last, : len(seen)], seen)


class Places:
    """A MADE's outputs place by place, each hidden unit computed once. Values are kept as (units, B), so that what is
    known of all rows of the batch lies together.

    Arguments:
        made: the network.
        batch: B.
        context: (B, context).
    """

    def __init__(self, made: MADE, batch: int, context: Tensor | None = None) -> None:
        self.made, self.place = made, 0
        degrees = [*made.degrees, made.ranks.repeat_interleave(made.outputs)]
        ends = zip(made.each(), pairwise(degrees), strict=True)
        self.layers = [Sorted(layer, after, before) for layer, (before, after) in ends]
        self.direct = None if made.direct is None else Sorted(made.direct, degrees[-1], degrees[0])
        self.told = None if made.context is None else made.context(context).T[self.layers[0].rows]
        self.known = [Grown(len(d), batch, made.each()[0].weight) for d in degrees[:-1]]
        # How many units of each hidden layer are known once the inputs of a rank are, from rank -1 on.
        ranks = torch.arange(-1, made.size)
        self.until = [torch.searchsorted(d.sort().values, ranks, right=True).tolist() for d in made.degrees[1:]]

    def advance(self, values: Tensor | None = None) -> Tensor:
        """What the network says of the next place, (B, F).

        Arguments:
            values: those at the place before it, (B, N); None at the first.
        """
        if values is not None:
            self.known[0].add(values.T)
        seen = self.known[0].first(self.place * self.made.numbers)
        inputs = seen
        for i, until in enumerate(self.until):
            first, last = self.known[i + 1].count, until[self.place]
            if last > first:
                h = self.layers[i](first, last, seen)
                if i == 0 and self.told is not None:
                    h = h + self.told[first:last]
                self.known[i + 1].add(self.made.activation(h))
            seen = self.known[i + 1].first(last)
        rows = self.place * self.made.outputs, (self.place + 1) * self.made.outputs
        found = self.layers[-1](*rows, seen)
        if not self.until and self.told is not None:
            found = found + self.told[slice(*rows)]
        if self.direct is not None:
            found = found + self.direct(*rows, inputs)
        self.place += 1
        return found.T
