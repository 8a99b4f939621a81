"""The layers of StyleGAN2: weights scaled when they are used, filters that a style modulates, smooth resampling.

    equalized     y = (g / sqrt(n)) W x + g b,    W ~ N(0, 1) / g, of n inputs: all weights learn at one rate, g times
                  that of others
    modulated     w'_oik = s_i w_oik,    y = w' * x
    demodulated   w''_oik = w'_oik / sqrt(sum_ik w'_oik^2 + 1e-8), so that outputs of unit inputs have variance one

A modulated filter is of its row alone. Since convolutions are linear, s scales the channels that go in and the root
those that come out, and one filter serves all rows.

References:
    Progressive Growing of GANs (Karras et al., 2018), sections 4.1 and 4.2.
    Analyzing and Improving the Image Quality of StyleGAN (Karras et al., 2020), section 2.2 and appendix B.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.networks.layers import Binomial

SMALL = 1e-8


def leaky(x: Tensor) -> Tensor:
    """A leaky rectifier that keeps the mean square of normal numbers about 1."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def normalized(x: Tensor) -> Tensor:
    """x (B, D) with a mean square of 1."""
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    return (exact * (exact.square().mean(1, keepdim=True) + SMALL).rsqrt()).to(x.dtype)


class EqualLinear(nn.Module):
    """An affine map whose weights are scaled when it is used.

    Arguments:
        inputs, outputs: numbers before and after.
        bias: what the bias starts at; None for no bias.
        rate: g, of learning.
    """

    def __init__(self, inputs: int, outputs: int, bias: float | None = 0.0, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = None if bias is None else nn.Parameter(torch.full((outputs,), bias / rate))
        self.scale, self.rate = rate / math.sqrt(inputs), rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) to (B, outputs)."""
        return F.linear(x, self.weight * self.scale, None if self.bias is None else self.bias * self.rate)


class EqualConv(Binomial):
    """A convolution whose weights are scaled when it is used, after a smooth halving where it goes down.

    Arguments:
        inputs, outputs: channels before and after.
        side: of the filter, odd.
        down: the sides are halved: [1, 3, 3, 1] / 8 along each axis, then every other place.
        bias: there is one, of 0 at first.
    """

    def __init__(self, inputs: int, outputs: int, side: int = 3, down: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.filter = nn.Parameter(torch.randn(outputs, inputs, side, side))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale, self.side, self.down = 1 / math.sqrt(inputs * side**2), side, down

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W), or half the sides."""
        w = self.filter * self.scale
        if not self.down:
            return F.conv2d(x, w, self.bias, padding=self.side // 2)
        # Of a filter of one place nothing but every other place is asked for.
        stride = 2 if self.side == 1 else 1
        x = F.conv2d(x, self.weight(x), stride=stride, padding=1 + self.side // 2, groups=x.shape[1])
        return F.conv2d(x, w, self.bias, stride=3 - stride)


class ModulatedConv(Binomial):
    """A convolution whose filter a style scales.

    Arguments:
        inputs, outputs: channels before and after.
        style: W, numbers of a style.
        side: of the filter, odd.
        up: the sides are doubled: zeros between the places, the filter, then [1, 3, 3, 1] / 4 along each axis.
        demodulate: as above.
    """

    def __init__(
        self, inputs: int, outputs: int, style: int, side: int = 3, up: bool = False, demodulate: bool = True
    ) -> None:
        super().__init__()
        self.filter = nn.Parameter(torch.randn(outputs, inputs, side, side))
        self.affine = EqualLinear(style, inputs, bias=1.0)
        self.scale, self.side, self.up, self.demodulate = 1 / math.sqrt(inputs * side**2), side, up, demodulate

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """(B, inputs, H, W) and styles (B, W) to (B, outputs, H, W), or twice the sides."""
        s, filter = self.affine(w), self.filter * self.scale
        x = x * s.to(x.dtype)[:, :, None, None]
        if self.up:
            x = F.conv_transpose2d(x, filter.transpose(0, 1), stride=2)
            x = F.conv2d(x, 4 * self.weight(x), padding=2 - self.side // 2, groups=x.shape[1])
        else:
            x = F.conv2d(x, filter, padding=self.side // 2)
        if not self.demodulate:
            return x
        with torch.autocast(x.device.type, enabled=False):
            power = s.to(filter.dtype).square() @ filter.square().sum((2, 3)).T
            return x * (power + SMALL).rsqrt().to(x.dtype)[:, :, None, None]
