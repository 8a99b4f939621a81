"""A decoder-only transformer over the values of a datum: of images, and as well of text and states.

    h_0 = start + V vector,    h_t = embedding(x_{t - 1}),    then + position(t)
    h -> h + W softmax(Q K^T / sqrt(d), of those not later) V,    Q, K, V of norm(h)
    h -> h + W2 gelu(W1 norm(h)),    y_t = W norm(h_t)

A token stands for one value: C L of them, the channels of a place one after the other, so that any distribution of a
value will do, and 784 for MNIST. With `joint` it stands for a place, L of them, whose channels are embedded together,
for a distribution that couples them. The token that asks for a value has the position of that value, and the value
before it.

Drawing keeps keys and values, so that a step costs one token.

References:
    Attention Is All You Need (Vaswani et al., 2017).
    Language Models are Unsupervised Multitask Learners (Radford et al., 2019), section 2.3: normalisation comes first.
    Generative Pretraining from Pixels (Chen et al., 2020).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.core.units import to_levels
from genlab.networks.attention import attend
from genlab.networks.causal.causal import Causal
from genlab.networks.condition import Condition, parts
from genlab.networks.layers import at_least_one, linear, variance_scaling_
from genlab.networks.transformer import positions

# The standard deviation of tables at first, as GPT-2 has it.
TABLE = 0.02


class ImageTransformer(Causal):
    """The network above.

    Arguments:
        shape: (C, *) of a datum.
        features: F, the numbers that a place's distribution needs, those of its first channel first.
        levels: that data take, each of which has a vector; None where they are real, and one vector is multiplied.
        width: D, divisible by `heads`, and by 4 for sinusoidal positions.
        depth: how many layers.
        heads: of attention.
        dropout: the probability that a number is left out of what a layer adds, and of the first features.
        positions: "learned", a vector for each row and one for each column, or "sinusoidal", for at most two axes.
        joint: the channels of a place are drawn together, by a distribution that couples them.
        vector: the width of condition.vector, 0 for none; it is added to the start.

    Raises ValueError where data have no places, and where widths do not divide as they must.
    """

    where: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        features: int,
        levels: int | None = 2,
        width: int = 128,
        depth: int = 6,
        heads: int = 4,
        dropout: float = 0.0,
        positions: Literal["learned", "sinusoidal"] = "learned",
        joint: bool = False,
        vector: int = 0,
    ) -> None:
        super().__init__()
        at_least_one(width=width, depth=depth, heads=heads)
        if width % heads:
            raise ValueError(f"width={width} must be divisible by heads={heads}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout} must be at least 0 and below 1")
        channels, *sides = shape
        if not sides:
            raise ValueError(f"shape={tuple(shape)} must be that of data with places, (C, L) or (C, H, W)")
        self.groups = 1 if joint else channels
        if features % self.groups:
            raise ValueError(f"features={features} cannot be those of {channels} channels; take joint=true")
        self.order = torch.arange(math.prod(sides))
        self.vector, self.each = vector, features // self.groups
        self.values = Values(channels // self.groups, levels, width)
        self.places = Places(sides, self.groups, width, positions)
        self.first = nn.Parameter(torch.empty(width).normal_(std=TABLE))
        self.told = linear(vector, width) if vector else None
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(Layer(width, heads, dropout, depth) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.last = linear(width, self.each, scale=0)

    def forward(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """(B, C, *) to (B, F, *)."""
        # The values of a place's groups stand next to each other: (B, L G, values of a group).
        values = x.flatten(2).transpose(1, 2).reshape(len(x), len(self.order) * self.groups, -1)
        h = torch.cat([self.begin(x, condition), self.values(values[:, :-1])], dim=1) + self.places()
        h = self.dropout(h)
        for layer in self.layers:
            h = layer(h)
        y = self.last(self.norm(h)).unflatten(1, (-1, self.groups))
        return y.permute(0, 2, 3, 1).flatten(1, 2).unflatten(2, x.shape[2:])

    def begin(self, x: Tensor, condition: Condition | None) -> Tensor:
        """The token before the first value, (B, 1, D)."""
        vector, _, _ = parts(condition, self.vector)
        first = self.first if self.told is None else self.first + self.told(vector)
        return first.expand(len(x), -1)[:, None]

    def start(self, x: Tensor, condition: Condition | None = None) -> "Told":
        token = self.begin(x, condition)
        where = self.places()
        return Told(token, where, [cast(Layer, layer).start(token, len(where)) for layer in self.layers])

    def at(self, state: "Told", place: int, known: Tensor) -> Tensor:
        group = state.asked
        found = self.last(self.norm(self.next(state, known)))[:, 0]
        return F.pad(found, (group * self.each, (self.groups - group - 1) * self.each))

    def put(self, state: "Told", place: int, value: Tensor) -> "Told":
        while state.asked < self.groups:
            self.next(state, value)
        state.token, state.asked = self.embedded(value, self.groups - 1), 0
        return state

    def next(self, state: "Told", value: Tensor) -> Tensor:
        """What the next token has become, (B, 1, D), of a place whose values of earlier groups are those of (B, C)."""
        if state.asked:
            state.token = self.embedded(value, state.asked - 1)
        h = state.token + state.where[state.count]
        for layer, kept in zip(self.layers, state.kept, strict=True):
            h = cast(Layer, layer).next(h, kept, state.count)
        state.asked, state.count = state.asked + 1, state.count + 1
        return h

    def embedded(self, value: Tensor, group: int) -> Tensor:
        """The token (B, 1, D) of a group of a place's values (B, C)."""
        return self.values(value.unflatten(1, (self.groups, -1))[:, group, None])


@dataclass
class Told:
    """Where drawing has come to.

    Arguments:
        token: (B, 1, D), the value before, or the start.
        where: (N, D), the positions of all tokens.
        kept: for each layer the keys and values of the tokens before, (2, B, heads, N, D / heads), of which the first
            `count` are so.
        count: how many tokens were before.
        asked: how many groups of channels of the place were asked for.
    """

    token: Tensor
    where: Tensor
    kept: list[Tensor]
    count: int = 0
    asked: int = 0


class Layer(nn.Module):
    """Attention to the tokens before and to oneself, then a network on each token.

    Arguments:
        width: D.
        heads: how many, each D / heads wide.
        dropout: of what is added.
        depth: how many layers there are, 2 additions each, whose sum starts no larger for it.
    """

    def __init__(self, width: int, heads: int, dropout: float, depth: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values = linear(width, 3 * width)
        for weight in self.queries_keys_values.weight.split(width):
            variance_scaling_(weight)
        self.out = linear(width, width, scale=1 / (2 * depth))
        self.first, self.second = linear(width, 4 * width), linear(4 * width, width, scale=1 / (2 * depth))
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor) -> Tensor:
        """(B, N, D) to the same."""
        queries, keys, values = self.queries_keys_values(self.attention_norm(h)).chunk(3, dim=2)
        return self.rest(h, attend(queries, keys, values, self.heads, causal=True))

    def start(self, token: Tensor, count: int) -> Tensor:
        """Room for the keys and values of so many tokens like this one, (2, B, heads, count, D / heads)."""
        return token.new_empty(2, len(token), self.heads, count, token.shape[2] // self.heads)

    def next(self, h: Tensor, kept: Tensor, count: int) -> Tensor:
        """The same of a token h (B, 1, D), after `count` others whose keys and values are kept, as its own will be."""
        # (3, B, heads, 1, D / heads)
        new = self.queries_keys_values(self.attention_norm(h)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        kept[:, :, :, count] = new[1:, :, :, 0]
        keys, values = kept[:, :, :, : count + 1]
        return self.rest(h, F.scaled_dot_product_attention(new[0], keys, values).transpose(1, 2).flatten(2))

    def rest(self, h: Tensor, attended: Tensor) -> Tensor:
        h = h + self.dropout(self.out(attended))
        return h + self.dropout(self.second(F.gelu(self.first(self.norm(h)), approximate="tanh")))


class Values(nn.Module):
    """The sum of a vector for each of a group's values.

    Arguments:
        size: how many values a group has.
        levels: that they take; None where they are real, each of which is multiplied with a vector.
        width: D.
    """

    first: Tensor

    def __init__(self, size: int, levels: int | None, width: int) -> None:
        super().__init__()
        self.levels = levels
        self.table = nn.Embedding(size * (levels or 1), width)
        nn.init.normal_(self.table.weight, std=TABLE)
        self.register_buffer("first", (levels or 1) * torch.arange(size), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, size) to (B, N, D)."""
        if self.levels is None:
            return x @ self.table.weight
        return self.table(to_levels(x, self.levels) + self.first).sum(2)


class Places(nn.Module):
    """A vector for each token, of the row and the column that it asks for, and of the group of channels.

    Arguments:
        sides: of a datum.
        groups: G, of channels; the vectors of several are learned.
        width: D.
        kind: "learned" or "sinusoidal".
    """

    waves: Tensor

    def __init__(self, sides: Sequence[int], groups: int, width: int, kind: Literal["learned", "sinusoidal"]) -> None:
        super().__init__()
        if kind == "sinusoidal" and (len(sides) > 2 or width % 4):
            raise ValueError(
                f"positions=sinusoidal are for rows and columns, with a width divisible by 4, and data have "
                f"{len(sides)} axes, and width={width}; take positions=learned"
            )
        learned = list(sides) if kind == "learned" else []
        self.tables = nn.ParameterList(torch.empty(side, width).normal_(std=TABLE) for side in learned)
        # As large as what is learned at first.
        waves = (
            math.sqrt(2) * TABLE * positions(math.prod(sides[:-1]), sides[-1], width) if kind == "sinusoidal" else None
        )
        self.register_buffer("waves", waves, persistent=False)
        self.group = nn.Parameter(torch.empty(groups, width).normal_(std=TABLE)) if groups > 1 else None

    def forward(self) -> Tensor:
        """(N, D), of the groups of a place one after the other."""
        found = self.waves
        for table in self.tables:
            # Each axis is told to all that was there before it.
            found = table if found is None else (found[:, None] + table).flatten(0, 1)
        return found if self.group is None else (found[:, None] + self.group).flatten(0, 1)
