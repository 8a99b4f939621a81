"""PixelCNN++: two stacks of residual networks that halve the sides and double them again.

    u = Stack(rows above),    y = W elu(Stack(what is left and above, told u))
    Stack:  n blocks, half the sides, .., n blocks, and back, where each block is told of its partner on the way down
    block:  h + a sigmoid(b),   (a, b) = conv(drop(f(conv(f(h)) + N f(s)))) + V g,   f(h) = elu((h, -h))

u sees the rows above, all columns (kernels 2x3); the other stack sees what is left too (kernels 2x2). s is what a block
is told of the other stack, and on the way up of its own way down. Coarse places (I, J) see the fine ones that come
before (2I, 2J), so that nothing is masked. g is the condition, told to all places. A channel of ones tells the border
from values. Weights are plain, where its code normalises them and starts from data.

Drawn from, a coarse row or place is computed at the first of its fine ones, and gives to the others what it gave to
that: of 3 scales 3 of 4 places compute one, and 1 of 16 all.

References:
    PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood and Other Modifications (Salimans et
    al., 2017), sections 2.3 to 2.5.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.networks.causal.causal import Causal
from genlab.networks.causal.masked_conv import CausalConv, CausalUp, Kept, from_above, from_left
from genlab.networks.causal.scan import Scan, image_places
from genlab.networks.condition import Condition, parts
from genlab.networks.layers import at_least_one

# The last convolution of a block starts so much smaller than others.
SMALL = 0.1


def concat_elu(h: Tensor) -> Tensor:
    """elu of h and of -h, which are twice the channels."""
    return F.elu(torch.cat([h, -h], dim=1))


class Block(nn.Module):
    """A gated residual block.

    Arguments:
        width: channels.
        told: channels of s, 0 for none.
        right: columns that its kernels see to the right: 1 for kernels 2x3, 0 for 2x2.
        vector: the width of g; 0 for none.
        dropout: the probability that an inner feature is silent in training.
    """

    def __init__(self, width: int, told: int, right: int, vector: int, dropout: float) -> None:
        super().__init__()
        kernel = (2, 2 + right)
        self.first = CausalConv(2 * width, width, kernel, right)
        self.told = CausalConv(2 * told, width) if told else None
        self.last = CausalConv(2 * width, 2 * width, kernel, right)
        self.vector = nn.Linear(vector, 2 * width, bias=False) if vector else None
        self.dropout = dropout
        with torch.no_grad():
            self.last.weight *= SMALL

    def forward(self, h: Tensor, told: Sequence[Tensor], vector: Tensor | None, kept: Kept | None = None) -> Tensor:
        """Of a map, or of its next row or place."""
        y = self.first(concat_elu(h), kept)
        if self.told is not None:
            y = y + self.told(concat_elu(torch.cat(list(told), dim=1)), kept)
        y = self.last(F.dropout(concat_elu(y), self.dropout, self.training), kept)
        if self.vector is not None and vector is not None:
            y = y + self.vector(vector)[..., None, None]
        a, b = y.chunk(2, 1)
        return h + a * b.sigmoid()


@dataclass
class Made:
    """The features that a stack has made at one scale, on its way down and on its way up."""

    down: list[Tensor] = field(default_factory=list)
    up: list[Tensor] = field(default_factory=list)


class Scale(nn.Module):
    """The blocks of a stack at one scale, and the ways to the next one and back.

    Arguments:
        width: channels.
        blocks: n, on the way down; on the way up one more but at the last scale.
        last: there is no next scale.
        beside: it is told of another stack's features, and sees to the left; else it sees to both sides.
        vector: the width of g; 0 for none.
        dropout: of the blocks.
    """

    def __init__(self, width: int, blocks: int, last: bool, beside: bool, vector: int, dropout: float) -> None:
        super().__init__()
        right, other = int(not beside), width * int(beside)
        up = blocks if last else blocks + 1
        self.down = nn.ModuleList(Block(width, other, right, vector, dropout) for _ in range(blocks))
        self.up = nn.ModuleList(Block(width, other + width, right, vector, dropout) for _ in range(up))
        self.smaller = None if last else CausalConv(width, width, (2, 2 + right), right, stride=2)
        self.larger = None if last else CausalUp(width, width, beside=not beside)


class Stack(nn.Module):
    """Blocks at several scales.

    Arguments:
        width: channels.
        blocks: n.
        scales: how many, each of half the sides.
        beside: as of a scale.
        vector: the width of g; 0 for none.
        dropout: of the blocks.
    """

    def __init__(self, width: int, blocks: int, scales: int, beside: bool, vector: int, dropout: float) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            Scale(width, blocks, number == scales - 1, beside, vector, dropout) for number in range(scales)
        )

    def forward(
        self,
        h: Tensor,
        vector: Tensor | None,
        made: list[Made],
        other: Sequence[Made] | None = None,
        kept: Sequence[Kept] | None = None,
        scale: int = 0,
    ) -> Tensor:
        """The features of a map, or of its next row or place.

        Arguments:
            h: (B, width, *), what the first layer made.
            vector: (B, vector), g.
            made: for each scale, what was made, which is replaced where it is made anew.
            other: what the stack beside it has made.
            kept: for each scale, what is kept of its map.
            scale: where it goes on from.
        """
        own, here = None if kept is None else kept[scale], cast(Scale, self.scales[scale])

        def heard(features: str, number: int) -> list[Tensor]:
            """The other stack's, of the place or the map."""
            if other is None:
                return []
            feature = getattr(other[scale], features)[number]
            return [feature if own is None else feature[..., own.column, None]]

        now = made[scale]
        now.down, now.up = [h], []
        for number, block in enumerate(here.down):
            h = block(h, heard("down", number + 1), vector, own)
            now.down.append(h)
        # At the last scale the way up begins where the way down ends.
        skips = now.down[-2::-1]
        smaller, larger = here.smaller, here.larger
        if smaller is not None and larger is not None:
            skips = now.down[::-1]
            if own is None:
                h = larger(self(smaller(h), vector, made, other, kept, scale + 1))
            else:
                smaller.put(h, own)
                if own.row % 2 == 0 and (own.column or 0) % 2 == 0:
                    larger.put(self(smaller.read(own), vector, made, other, kept, scale + 1), own)
                h = larger.read(own)
        for number, (block, skip) in enumerate(zip(here.up, skips, strict=True)):
            h = block(h, [*heard("up", number), skip], vector, own)
            now.up.append(h)
        return h


class PixelCNNPP(Causal):
    """PixelCNN++ of images, whose channels are drawn together by an output that couples them.

    Arguments:
        shape: (C, H, W) of an image, whose sides halve scales - 1 times.
        features: how many numbers a place's distribution needs.
        width: channels.
        blocks: of a scale.
        scales: how many, each of half the sides.
        dropout: the probability that an inner feature of a block is silent in training.
        vector: the width of condition.vector, g; 0 for none.
    """

    order: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        features: int,
        width: int = 160,
        blocks: int = 5,
        scales: int = 3,
        dropout: float = 0.5,
        vector: int = 0,
    ) -> None:
        super().__init__()
        self.register_buffer("order", image_places("pixelcnn_pp", shape), persistent=False)
        at_least_one(width=width, blocks=blocks, scales=scales)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout} must be at least 0 and below 1")
        factor = 2 ** (scales - 1)
        if shape[1] % factor or shape[2] % factor:
            raise UserError(
                f"causal.scales={scales}: the sides of images must divide by {factor}, and theirs are "
                f"{shape[1]} and {shape[2]}; take fewer scales"
            )
        self.scales, self.width = scales, vector
        seen = shape[0] + 1
        self.first_above = CausalConv(seen, width, (2, 3), right=1)
        self.first_row = CausalConv(seen, width, (1, 3), right=1)
        self.first_left = CausalConv(seen, width, (2, 1))
        self.above = Stack(width, blocks, scales, False, vector, dropout)
        self.beside = Stack(width, blocks, scales, True, vector, dropout)
        self.last = CausalConv(width, features)

    def forward(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """(B, features, H, W) for x (B, C, H, W)."""
        vector, _, _ = parts(condition, self.width)
        x = with_ones(x)
        above, made = from_above(x), [Made() for _ in range(self.scales)]
        self.above(self.first_above(above), vector, made)
        h = self.first_row(above) + self.first_left(from_left(x))
        h = self.beside(h, vector, [Made() for _ in range(self.scales)], made)
        return self.last(F.elu(h))

    def start(self, x: Tensor, condition: Condition | None = None) -> "Scales":
        vector, _, _ = parts(condition, self.width)
        return Scales(self, x, vector)

    def at(self, state: "Scales", place: int, known: Tensor) -> Tensor:
        return state.at(place, known)

    def put(self, state: "Scales", place: int, value: Tensor) -> Scan:
        return state.put(place, value)


def with_ones(x: Tensor) -> Tensor:
    """x (B, C, H, W) with a further channel of ones."""
    return F.pad(x, (0, 0, 0, 0, 0, 1), value=1.0)


class Scales(Scan):
    """A PixelCNN++ that goes through an image: one stack comes in rows, the other in places, at every scale.

    Arguments:
        network: whose layers these are.
        x: (B, C, H, W), of the data's shape and type.
        vector: (B, vector), g.
    """

    def __init__(self, network: PixelCNNPP, x: Tensor, vector: Tensor | None) -> None:
        super().__init__(x, levels=network.scales)
        self.network, self.vector = network, vector
        self.made = [Made() for _ in range(network.scales)]
        self.made_beside = [Made() for _ in range(network.scales)]
        self.row = x

    def begin(self) -> None:
        # Above the first row there is nothing, not even ones.
        above = with_ones(self.above) if self.rows[0].row else torch.zeros_like(with_ones(self.above))
        self.network.above(self.network.first_above(above, self.rows[0]), self.vector, self.made, kept=self.rows)
        self.row = self.network.first_row(above, self.rows[0])

    def step(self, value: Tensor) -> Tensor:
        column = self.places[0].column or 0
        left = with_ones(self.own[..., column - 1, None])
        if column == 0:
            left = torch.zeros_like(left)
        h = self.row[..., column, None] + self.network.first_left(left, self.places[0])
        h = self.network.beside(h, self.vector, self.made_beside, self.made, self.places)
        return self.network.last(F.elu(h), self.places[0])

    def settle(self, value: Tensor) -> None:
        pass
