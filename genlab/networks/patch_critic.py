"""A critic that judges patches: a number for each of many overlapping parts of an image.

    conv 4x4 stride 2, leaky;   n - 1 times: conv 4x4 stride 2, norm, leaky;   conv 4x4, norm, leaky;   conv 4x4

Of n layers each number sees patches of 70x70 pixels (n = 3), 34x34 (n = 2) or 16x16 (n = 1). With width=64 and batch
normalisation it is the critic of pix2pix and of latent diffusion, of 2,765,633 parameters for colour images.

References:
    Image-to-Image Translation with Conditional Adversarial Networks (Isola et al., 2017), section 3.2.2.
    Taming Transformers for High-Resolution Image Synthesis (Esser, Rombach & Ommer, 2021), section 3.1.
"""

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.networks.layers import GroupNorm, at_least_one, variance_scaling_

# What a layer's width is multiplied by at most.
WIDEST = 8

NORMS: dict[str, Callable[[int, int], nn.Module]] = {
    "group": GroupNorm,
    "batch": lambda channels, groups: nn.BatchNorm2d(channels),
    "none": lambda channels, groups: nn.Identity(),
}
"""(channels, groups) to a normalisation."""


def four(inputs: int, outputs: int, stride: int, bias: bool = True) -> nn.Conv2d:
    """A 4x4 filter, which halves the sides or takes one pixel of them."""
    layer = nn.Conv2d(inputs, outputs, 4, stride, padding=1, bias=bias)
    variance_scaling_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class PatchCritic(nn.Module):
    """The critic above.

    Arguments:
        shape: (C, H, W) of a datum.
        width: the channels of the first layer; they double from layer to layer, up to eight times.
        layers: n, how often the sides are halved: 3 for photographs, 2 or 1 for images of 28 or 32 pixels.
        norm: "group", "none", or "batch" as published, which makes what is said of an image depend on its batch.
        groups: of the group normalisations, at most.

    Raises UserError where the sides are too small for so many layers.
    """

    def __init__(
        self,
        shape: Sequence[int],
        width: int = 64,
        layers: int = 3,
        norm: Literal["group", "batch", "none"] = "group",
        groups: int = 32,
    ) -> None:
        super().__init__()
        at_least_one(width=width, layers=layers, groups=groups)
        check_sides(shape, layers)
        parts, now = [four(shape[0], width, 2), nn.LeakyReLU(0.2)], width
        for layer in range(1, layers + 1):
            wide = width * min(2**layer, WIDEST)
            # Batch normalisation would take a bias away again.
            parts += [four(now, wide, 2 if layer < layers else 1, bias=norm != "batch"), NORMS[norm](wide, groups)]
            parts, now = [*parts, nn.LeakyReLU(0.2)], wide
        self.layers = nn.Sequential(*parts, four(now, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, 1, H', W'), high for what looks like data."""
        return self.layers(x)


def check_sides(shape: Sequence[int], layers: int) -> None:
    """Raise a UserError unless a number is left."""
    if len(shape) != 3:
        raise UserError(f"critic=patch: is for images, (channels, height, width), not {list(shape)}")
    side = min(shape[1:])
    fits = [n for n in range(1, layers + 1) if side >> n >= 3]
    if layers not in fits:
        right = f"give at most {fits[-1]}" if fits else "it needs sides of at least 6"
        raise UserError(f"critic.layers={layers}: leaves nothing of {shape[1]}x{shape[2]} pixels; {right}")
