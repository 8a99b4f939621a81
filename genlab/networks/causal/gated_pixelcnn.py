"""Gated PixelCNN: a vertical stack that sees the rows above, and a horizontal one that sees the row and hears it.

    u_l = conv_{n x n}(v_{l-1}) + V_l g,           v_l = gate(u_l),    gate(a, b) = tanh(a) * sigmoid(b)
    w_l = conv_{1 x n}(h_{l-1}) + N_l u_l + H_l g, h_l = h_{l-1} + R_l gate(w_l)
    y = conv1 relu conv1 relu h_L

v_l at row i is computed from the rows above i alone, all of their columns, so that nothing is masked in it and no spot
is blind; h_l sees to the left, under the mask A in the first layer and B in the others. The first layer's h_0 is no
residual, since it would be the value itself. g is the condition, told to all places.

References:
    Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016), sections 2.1 to 2.3.
"""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from genlab.networks.causal.causal import Causal
from genlab.networks.causal.masked_conv import CausalConv, Kept, from_above
from genlab.networks.causal.scan import Scan, channel_groups, image_places
from genlab.networks.condition import Condition, parts
from genlab.networks.layers import at_least_one


def gate(y: Tensor, groups: int = 1) -> Tensor:
    """tanh(a) * sigmoid(b), where each group of y's channels has its a first and its b last."""
    a, b = y.unflatten(1, (groups, 2, -1)).unbind(2)
    return (a.tanh() * b.sigmoid()).flatten(1, 2)


class Layer(nn.Module):
    """A layer of both stacks.

    Arguments:
        inputs: channels of both stacks' inputs.
        width: channels of their outputs.
        kernel: n, odd.
        groups: of channels.
        vector: the width of g; 0 for none.
        first: the layer's inputs are the image, moved down by a row for the vertical stack.
    """

    def __init__(self, inputs: int, width: int, kernel: int, groups: int, vector: int, first: bool) -> None:
        super().__init__()
        self.groups, self.first = groups, first
        reach = kernel // 2
        # The image that the first vertical layer sees is moved down, so that it has a row less to see.
        self.vertical = CausalConv(inputs, 2 * width, (max(1, reach if first else reach + 1), kernel), right=reach)
        self.between = CausalConv(2 * width, 2 * width)
        self.horizontal = CausalConv(inputs, 2 * width, (1, reach + 1), mask="A" if first else "B", groups=groups)
        self.out = CausalConv(width, width, mask="B", groups=groups)
        self.told = nn.Linear(vector, 4 * width, bias=False) if vector else None

    def above(self, v: Tensor, told: Tensor | None, kept: Kept | None = None) -> tuple[Tensor, Tensor]:
        """v_l, and N_l u_l + H_l g, which the horizontal stack hears, of a map or of its next row."""
        u = self.vertical(v, kept)
        if told is None:
            return gate(u), self.between(u, kept)
        for_vertical, for_horizontal = told.chunk(2, 1)
        u = u + for_vertical
        return gate(u), self.between(u, kept) + for_horizontal

    def beside(self, h: Tensor, heard: Tensor, kept: Kept | None = None) -> Tensor:
        """h_l of a map or of its next place."""
        y = self.out(gate(self.horizontal(h, kept) + heard, self.groups), kept)
        return y if self.first else h + y


class GatedPixelCNN(Causal):
    """Two stacks of gated convolutions of images, told a condition.

    Arguments:
        shape: (C, H, W) of an image.
        features: how many numbers a place's distribution needs, those of its first channel first.
        width: channels of either stack.
        layers: after the first.
        head: channels of the layer before the last.
        first_kernel: n of the first layer, odd.
        kernel: n of the others, odd.
        joint: the channels of a place are drawn together, by a distribution that couples them.
        vector: the width of condition.vector, g; 0 for none.
    """

    order: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        features: int,
        width: int = 48,
        layers: int = 7,
        head: int = 48,
        first_kernel: int = 7,
        kernel: int = 3,
        joint: bool = False,
        vector: int = 0,
    ) -> None:
        super().__init__()
        self.register_buffer("order", image_places("gated_pixelcnn", shape), persistent=False)
        at_least_one(layers=layers)
        for name, size in (("first_kernel", first_kernel), ("kernel", kernel)):
            if size < 3 or size % 2 == 0:
                raise ValueError(f"{name}={size} must be odd and at least 3")
        groups = self.groups = channel_groups(features, shape[0], joint, width=width, head=head)
        self.vector = vector
        self.layers = nn.ModuleList(
            Layer(width if n else shape[0], width, kernel if n else first_kernel, groups, vector, first=n == 0)
            for n in range(layers + 1)
        )
        self.head = CausalConv(width, head, mask="B", groups=groups)
        self.last = CausalConv(head, features, mask="B", groups=groups)

    def forward(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """(B, features, H, W) for x (B, C, H, W)."""
        return self.beside(x, self.above(from_above(x), self.told(condition)))

    @property
    def each(self) -> list[Layer]:
        """The layers."""
        return [cast(Layer, layer) for layer in self.layers]

    def told(self, condition: Condition | None) -> list[Tensor | None]:
        """What each layer is told, (B, 4 width, 1, 1)."""
        vector, _, _ = parts(condition, self.vector)
        if vector is None:
            return [None] * len(self.layers)
        return [cast(nn.Linear, layer.told)(vector)[..., None, None] for layer in self.each]

    def above(self, v: Tensor, told: Sequence[Tensor | None], kept: Kept | None = None) -> list[Tensor]:
        """What each layer of the horizontal stack hears of the rows above."""
        heard = []
        for layer, g in zip(self.each, told, strict=True):
            v, found = layer.above(v, g, kept)
            heard.append(found)
        return heard

    def beside(self, h: Tensor, heard: Sequence[Tensor], kept: Kept | None = None) -> Tensor:
        """The parameters of a map, or of its next place."""
        for layer, above in zip(self.each, heard, strict=True):
            h = layer.beside(h, above, kept)
        return self.last(self.head(h.relu(), kept).relu(), kept)

    def start(self, x: Tensor, condition: Condition | None = None) -> "Stacks":
        return Stacks(self, x, self.told(condition))

    def at(self, state: "Stacks", place: int, known: Tensor) -> Tensor:
        return state.at(place, known)

    def put(self, state: "Stacks", place: int, value: Tensor) -> Scan:
        return state.put(place, value)


class Stacks(Scan):
    """A GatedPixelCNN that goes through an image: the vertical stack comes in rows, the horizontal one in places.

    Arguments:
        network: whose layers these are.
        x: (B, C, H, W), of the data's shape and type.
        told: to each layer.
    """

    def __init__(self, network: GatedPixelCNN, x: Tensor, told: Sequence[Tensor | None]) -> None:
        super().__init__(x, network.groups)
        self.network, self.told = network, told
        self.heard: list[Tensor] = []

    def begin(self) -> None:
        self.heard = self.network.above(self.above, self.told, self.rows[0])

    def step(self, value: Tensor) -> Tensor:
        column = self.places[0].column
        return self.network.beside(value, [heard[..., column, None] for heard in self.heard], self.places[0])

    def settle(self, value: Tensor) -> None:
        self.network.each[0].horizontal.put(value, self.places[0])
