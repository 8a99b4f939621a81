"""StyleGAN2's generator: a learnt map of 4x4 grows to an image under styles that scale its filters.

    w = mapping(z, c)
    x_4 = conv(const),    x_2r = conv(up conv(x_r)),    y_4 = rgb(x_4),    y_2r = up(y_r) + rgb(x_2r)

Each convolution is demodulated, gets one noise image times a learnt strength, a bias, and a leaky rectifier; `up` is
smooth. The styles of some data in training change to those of another noise from some layer on, so that layers do not
learn to count on each other's.

References:
    Analyzing and Improving the Image Quality of StyleGAN (Karras et al., 2020), section 2 and 4.
    A Style-Based Generator Architecture for Generative Adversarial Networks (Karras, Laine & Aila, 2019), section 3.1,
        mixing, and appendix B, the mean style.
    Training Generative Adversarial Networks with Limited Data (Karras et al., 2020), appendix D.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from genlab.core.collectives import all_sum, world
from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.networks.adversarial.contract import Generator
from genlab.networks.adversarial.stylegan2_layers import ModulatedConv, leaky
from genlab.networks.adversarial.stylegan2_mapping import Mapping
from genlab.networks.condition import Condition
from genlab.networks.layers import BinomialUp, at_least_one

FIRST = 4
"""The side of the first map."""

FORGOTTEN = 0.002
"""Of the mean style in each step, for that of the step's own styles."""


def widths_of(shape: Sequence[int], width: int, product: int, part: str) -> list[int]:
    """The channels of the maps with sides 4, 8 and so on up to those of (C, H, W).

    Raises UserError where the sides are not one power of two.
    """
    at_least_one(width=width)
    if len(shape) != 3:
        raise UserError(f"{part}: is for images, (channels, height, width), not {list(shape)}; take {part}=mlp")
    side = shape[1]
    if side != shape[2] or side < 2 * FIRST or side & (side - 1):
        right = 1 << (max(side, shape[2], 2 * FIRST) - 1).bit_length()
        raise UserError(
            f"{part}: cannot make {shape[1]}x{shape[2]} pixels, whose sides must be one power of two, 8 or more; pad "
            f"the data (data.pad={right}), or take {part}=dcgan"
        )
    sides = [FIRST << n for n in range((side // FIRST).bit_length())]
    if product < side:
        raise UserError(f"{part}.product={product}: leaves no channel of {side}x{side} pixels; give at least {side}")
    return [min(product // side, width) for side in sides]


class StyledLayer(nn.Module):
    """A modulated convolution, noise, a bias and a leaky rectifier.

    Arguments:
        inputs, outputs: channels before and after.
        style: W, numbers of a style.
        up: the sides are doubled.
    """

    def __init__(self, inputs: int, outputs: int, style: int, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, style, up=up)
        self.bias = nn.Parameter(torch.zeros(outputs, 1, 1))
        self.strength = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """A map, styles (B, style) and noise (B, H, W) to another map."""
        x = self.conv(x, w)
        if noise is not None:
            x = x + (self.strength * noise[:, None]).to(x.dtype)
        return leaky(x + self.bias.to(x.dtype))


class Colours(nn.Module):
    """From a map to an image, by a modulated filter of one place.

    Arguments:
        inputs, outputs: channels before and after.
        style: W, numbers of a style.
    """

    def __init__(self, inputs: int, outputs: int, style: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, style, side=1, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(outputs, 1, 1))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        image = self.conv(x, w)
        return image.to(self.bias.dtype) + self.bias


class StyleGAN2Generator(Generator):
    """From noise to images by way of styles.

    Arguments:
        shape: (C, H, W) of a datum, with sides of one power of two, 8 or more.
        size: of the noise.
        style: W, numbers of a style.
        mapping: layers between noise and style.
        width: channels of a map, at most.
        product: of a map's side and its channels, where these then are fewer.
        mixing: the probability that a datum in training changes its style on the way. The other style is of normal
            noise.
        vector: the width of condition.vector, 0 for none.

    Attributes:
        layers: how many styles an image takes.
        mean_style: (style,), a moving average of the styles that training made.

    Raises UserError where it cannot make such sides.
    """

    mean_style: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        size: int,
        style: int = 512,
        mapping: int = 8,
        width: int = 512,
        product: int = 16384,
        mixing: float = 0.9,
        vector: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= mixing <= 1:
            raise ValueError(f"mixing={mixing} must be in [0, 1]")
        widths = widths_of(shape, width, product, "generator")
        self.size, self.mixing = size, mixing
        self.mapping = Mapping(size, style, mapping, vector)
        self.const = nn.Parameter(torch.randn(widths[0], FIRST, FIRST))
        convs = [StyledLayer(widths[0], widths[0], style)]
        for inputs, outputs in pairwise(widths):
            convs += [StyledLayer(inputs, outputs, style, up=True), StyledLayer(outputs, outputs, style)]
        self.convs = nn.ModuleList(convs)
        self.colours = nn.ModuleList(Colours(channels, shape[0], style) for channels in widths)
        self.up = BinomialUp()
        # The last image has one more than there are convolutions; images before share theirs with the next of these.
        self.layers = len(convs) + 1
        self.register_buffer("mean_style", torch.zeros(style))

    def forward(self, z: Tensor, condition: Condition | None = None, rng: Rng | None = None) -> Tensor:
        w = self.styles(z, condition)
        if self.training:
            self._remember(w)
            if self.mixing and rng is not None:
                w = self.mixed(w, condition, rng)
        return self.synthesize(w, rng)

    def styles(self, z: Tensor, condition: Condition | None = None) -> Tensor:
        """w (B, style) of noise z (B, size)."""
        return self.mapping(z, condition)

    def mixed(self, w: Tensor, condition: Condition | None, rng: Rng) -> Tensor:
        """Styles (B, layers, style): those of w (B, style) up to some layer, where mixed, and others after it."""
        others = self.styles(self._other(rng), condition)
        change = self._change(rng)
        first = torch.arange(self.layers, device=w.device) < change[:, None]
        return torch.where(first[..., None], w[:, None], others[:, None])

    def synthesize(self, w: Tensor, rng: Rng | None = None) -> Tensor:
        """Data (B, *shape) of styles w (B, style), or (B, layers, style); no noise is added without `rng`."""
        of = (w if w.ndim == 3 else w[:, None].expand(-1, self.layers, -1)).unbind(1)
        noises = [None] * len(self.convs) if rng is None else self._noises(rng)
        x = self.const.expand(len(w), -1, -1, -1)
        x = self.convs[0](x, of[0], noises[0])
        image = self.colours[0](x, of[1])
        for step in range(1, len(self.colours)):
            for number in (2 * step - 1, 2 * step):
                x = self.convs[number](x, of[number], noises[number])
            image = self.up(image) + self.colours[step](x, of[2 * step + 1])
        return image

    # What is drawn cannot be compiled.
    @torch.compiler.disable
    def _noises(self, rng: Rng) -> list[Tensor]:
        """One image for each convolution, (B, H, W)."""
        sides = [FIRST << (number + 1) // 2 for number in range(len(self.convs))]
        every = rng.stage("noise").normal(sum(side**2 for side in sides))
        parts = every.split([side**2 for side in sides], dim=1)
        return [part.unflatten(1, (side, side)) for part, side in zip(parts, sides, strict=True)]

    @torch.compiler.disable
    def _other(self, rng: Rng) -> Tensor:
        """Another noise for each row, (B, size)."""
        return rng.stage("other z").normal(self.size)

    @torch.compiler.disable
    def _change(self, rng: Rng) -> Tensor:
        """The layer from which on each row has another style, (B,); as many as there are for none."""
        change = 1 + rng.stage("change").integers(self.layers - 1)
        return torch.where(rng.stage("whether").uniform() < self.mixing, change, self.layers)

    @torch.no_grad()
    def _remember(self, w: Tensor) -> None:
        mean = all_sum(w.detach().float().mean(0)) / world()[1]
        self.mean_style.lerp_(mean.to(self.mean_style.dtype), FORGOTTEN)
