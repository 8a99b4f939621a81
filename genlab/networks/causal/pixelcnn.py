"""PixelCNN: masked convolutions in residual blocks.

    h_0 = conv7_A(x),    h_l = h_{l-1} + conv1_B relu conv3_B relu conv1_B relu h_{l-1}
    y = conv1_B relu conv1_B relu h_L

The features fall into as many groups as there are channels, the first of which is told nothing of the place, the next
what is the first channel's value, and so on: so red, green and blue are drawn one after the other.

Its known fault is a blind spot: to the right 3x3 kernels under their mask see one column for each row that they go up,
so that of what lies above and right, beyond the first layer's reach, all below that slope is seen at no depth.
GatedPixelCNN has none.

References:
    Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner & Kavukcuoglu, 2016), sections 3.3 to 3.5 and 5.2.
    Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016), section 2.2, on the blind spot.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from genlab.networks.causal.causal import Causal
from genlab.networks.causal.masked_conv import CausalConv, Kept
from genlab.networks.causal.scan import Scan, channel_groups, image_places
from genlab.networks.condition import Condition, parts
from genlab.networks.layers import at_least_one


class Residual(nn.Module):
    """conv1 relu conv3 relu conv1 relu, added to its input.

    Arguments:
        width: channels, of which the middle layers have half.
        groups: of channels.
    """

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        half = width // 2
        self.first = CausalConv(width, half, mask="B", groups=groups)
        self.middle = CausalConv(half, half, (2, 3), right=1, mask="B", groups=groups)
        self.last = CausalConv(half, width, mask="B", groups=groups)

    def forward(self, h: Tensor, kept: Kept | None = None) -> Tensor:
        y = self.first(h.relu(), kept)
        y = self.middle(y.relu(), kept)
        return h + self.last(y.relu(), kept)


class PixelCNN(Causal):
    """Masked convolutions of images.

    Arguments:
        shape: (C, H, W) of an image.
        features: how many numbers a place's distribution needs, those of its first channel first.
        width: 2h, channels of the blocks.
        blocks: L.
        head: channels of the layer before the last.
        kernel: of the first layer, odd.
        joint: the channels of a place are drawn together, by a distribution that couples them.
        vector: the width of condition.vector, which is told to all places; 0 for none.
    """

    order: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        features: int,
        width: int = 48,
        blocks: int = 7,
        head: int = 48,
        kernel: int = 7,
        joint: bool = False,
        vector: int = 0,
    ) -> None:
        super().__init__()
        self.register_buffer("order", image_places("pixelcnn", shape), persistent=False)
        at_least_one(blocks=blocks, kernel=kernel)
        if kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} must be odd")
        groups = self.groups = channel_groups(features, shape[0], joint, width=width, head=head)
        if width % (2 * groups):
            raise ValueError(f"width={width} must be a multiple of {2 * groups}, for blocks have half of it inside")
        reach = kernel // 2
        self.first = CausalConv(shape[0], width, (reach + 1, kernel), right=reach, mask="A", groups=groups)
        self.blocks = nn.ModuleList(Residual(width, groups) for _ in range(blocks))
        self.head = CausalConv(width, head, mask="B", groups=groups)
        self.last = CausalConv(head, features, mask="B", groups=groups)
        self.width, self.vector = vector, nn.Linear(vector, width, bias=False) if vector else None

    def forward(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """(B, features, H, W) for x (B, C, H, W)."""
        return self.layers(x, self.told(condition))

    def told(self, condition: Condition | None) -> Tensor | None:
        """What all places are told, (B, width, 1, 1)."""
        vector, _, _ = parts(condition, self.width)
        return None if self.vector is None or vector is None else self.vector(vector)[..., None, None]

    def layers(self, x: Tensor, told: Tensor | None, kept: Kept | None = None) -> Tensor:
        """The parameters of a map, or of a place of one of which something is kept."""
        h = self.first(x, kept)
        if told is not None:
            h = h + told
        for block in self.blocks:
            h = block(h, kept)
        return self.last(F.relu(self.head(F.relu(h), kept)), kept)

    def start(self, x: Tensor, condition: Condition | None = None) -> "Places":
        return Places(self, x, self.told(condition))

    def at(self, state: "Places", place: int, known: Tensor) -> Tensor:
        return state.at(place, known)

    def put(self, state: "Places", place: int, value: Tensor) -> Scan:
        return state.put(place, value)


class Places(Scan):
    """A PixelCNN that goes through an image: every layer comes in places.

    Arguments:
        network: whose layers these are.
        x: (B, C, H, W), of the data's shape and type.
        told: to all places.
    """

    def __init__(self, network: PixelCNN, x: Tensor, told: Tensor | None) -> None:
        super().__init__(x, network.groups)
        self.network, self.told = network, told

    def begin(self) -> None:
        pass

    def step(self, value: Tensor) -> Tensor:
        return self.network.layers(value, self.told, self.places[0])

    def settle(self, value: Tensor) -> None:
        self.network.first.put(value, self.places[0])
