"""The small parts that every network here is made of: embeddings of the noise level, initialisation, resampling.

Embeddings turn one number n a datum, what the network is told of the noise level, into many:

    sinusoidal   sin(s n w_i), cos(s n w_i)              with w_i = 10000^(-i / (half - 1)), i = 0 .. half - 1
    fourier      sin(2 pi s n w_i), cos(2 pi s n w_i)    with w_i ~ N(0, 1), drawn once

Resampling by two keeps to what was published: learned 3x3 filters, plain means and copies, or the binomial filter
[1, 3, 3, 1] / 8 along each axis, which lets less alias.

References:
    Denoising Diffusion Probabilistic Models (Ho, Jain & Abbeel, 2020).
    Fourier Features Let Networks Learn High Frequency Functions (Tancik et al., 2020).
    Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), appendix H.
    Analyzing and Improving the Image Quality of StyleGAN (Karras et al., 2020).
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def variance_scaling_(weight: Tensor, scale: float = 1.0) -> None:
    """Uniform with variance scale / mean(fan_in, fan_out): DDPM's initialisation; 0 where scale is 0.

    Arguments:
        weight: (out, in, *kernel), filled in place.
    """
    area = weight[0, 0].numel() if weight.ndim > 2 else 1
    fan_average = area * (weight.shape[0] + weight.shape[1]) / 2
    bound = math.sqrt(3 * scale / fan_average)
    with torch.no_grad():
        weight.uniform_(-bound, bound)


def linear(inputs: int, outputs: int, scale: float = 1.0) -> nn.Linear:
    """An affine map with DDPM's initialisation, which is zero for scale = 0."""
    layer = nn.Linear(inputs, outputs)
    variance_scaling_(layer.weight, scale)
    nn.init.zeros_(layer.bias)
    return layer


def conv(inputs: int, outputs: int, kernel: int = 3, scale: float = 1.0, stride: int = 1) -> nn.Conv2d:
    """A convolution with DDPM's initialisation, zero for scale = 0, that keeps the sides where stride is 1.

    With stride 2 it pads nothing, for the caller knows on which side.
    """
    layer = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2 if stride == 1 else 0)
    variance_scaling_(layer.weight, scale)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class GroupNorm(nn.GroupNorm):
    """Group normalisation in the type of its input, mixed precision or not: the kernels sum in float32 anyway.

    Arguments:
        channels: C.
        groups: at most so many: the largest number that divides the channels and leaves four to a group. A group of one
            channel would undo whatever is added to each channel before it, as the embedding of the noise level is.
    """

    def __init__(self, channels: int, groups: int = 32) -> None:
        most = max(1, min(groups, channels // 4))
        super().__init__(max(g for g in range(1, most + 1) if channels % g == 0), channels, eps=1e-6)

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, *) to the same."""
        weight, bias = self.weight.to(input.dtype), self.bias.to(input.dtype)
        with torch.autocast(input.device.type, enabled=False):
            return F.group_norm(input, self.num_groups, weight, bias, self.eps)


def at_least_one(**numbers: int) -> None:
    """Raise a ValueError that names the first of these options which is below 1."""
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, not {number}")


def _check_even(width: int) -> None:
    if width < 2 or width % 2:
        raise ValueError(f"width must be even and at least 2, not {width}: half of it are sines, half cosines")


class SinusoidalEmbedding(nn.Module):
    """sin(s n w_i) in the first half and cos(s n w_i) in the second, as in DDPM's code.

    Arguments:
        width: how many numbers come out; even.
        scale: s, multiplies the noise level: 1 for step indices 0 .. 999, 1000 for times in [0, 1].
    """

    frequencies: Tensor

    def __init__(self, width: int, scale: float = 1.0) -> None:
        super().__init__()
        _check_even(width)
        half = width // 2
        self.scale = scale
        exponents = torch.arange(half, dtype=torch.float64) / max(half - 1, 1)
        self.register_buffer("frequencies", (10_000.0**-exponents).float(), persistent=False)

    def forward(self, noise: Tensor) -> Tensor:
        """(B,) to (B, width)."""
        angle = (self.scale * noise.to(self.frequencies.dtype))[:, None] * self.frequencies
        return torch.cat([angle.sin(), angle.cos()], dim=1)


class FourierEmbedding(nn.Module):
    """sin and cos of 2 pi s n w_i with fixed random frequencies w_i ~ N(0, 1).

    Arguments:
        width: how many numbers come out; even.
        scale: s, the standard deviation of the frequencies: 16 where n is of the order of 1.
        seed: of the frequencies, which are part of the checkpoint.
    """

    frequencies: Tensor

    def __init__(self, width: int, scale: float = 16.0, seed: int = 0) -> None:
        super().__init__()
        _check_even(width)
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("frequencies", 2 * math.pi * scale * torch.randn(width // 2, generator=generator))

    def forward(self, noise: Tensor) -> Tensor:
        """(B,) to (B, width)."""
        angle = noise.to(self.frequencies.dtype)[:, None] * self.frequencies
        return torch.cat([angle.sin(), angle.cos()], dim=1)


EMBEDDINGS: dict[str, Callable[..., nn.Module]] = {"sinusoidal": SinusoidalEmbedding, "fourier": FourierEmbedding}


class NoiseEmbedding(nn.Module):
    """W2 swish(W1 e(n)) + W3 vector: what all layers of a network are told.

    Arguments:
        width: of e(n).
        outputs: how many numbers come out.
        vector: the width of the condition's vector, 0 for none.
        kind: of e, "sinusoidal" or "fourier".
        scale: multiplies n; None for 1 in sinusoids and 16 in Fourier features.
    """

    def __init__(
        self,
        width: int,
        outputs: int,
        vector: int = 0,
        kind: Literal["sinusoidal", "fourier"] = "sinusoidal",
        scale: float | None = None,
    ) -> None:
        super().__init__()
        features = EMBEDDINGS[kind](width) if scale is None else EMBEDDINGS[kind](width, scale)
        self.noise = nn.Sequential(features, linear(width, outputs), nn.SiLU(), linear(outputs, outputs))
        self.vector = linear(vector, outputs) if vector else None

    def forward(self, noise: Tensor, vector: Tensor | None = None) -> Tensor:
        """noise (B,) and vector (B, vector) to (B, outputs)."""
        embedded = self.noise(noise)
        return embedded if self.vector is None else embedded + self.vector(vector)


class FourierFeatures(nn.Module):
    """x with sin(2^n pi x) and cos(2^n pi x) stacked on its channels, so that a network sees its last digits.

    References:
        Variational Diffusion Models (Kingma et al., 2021), appendix C.

    Arguments:
        exponents: the n, each of which adds two channels for one.
    """

    def __init__(self, exponents: tuple[int, ...] = (7, 8)) -> None:
        super().__init__()
        self.exponents = exponents

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C (1 + 2 len(exponents)), H, W)."""
        angles = [2**n * math.pi * x for n in self.exponents]
        return torch.cat([x, *(a.sin() for a in angles), *(a.cos() for a in angles)], dim=1)


class Upsample(nn.Module):
    """Each pixel copied to 2x2, then a 3x3 convolution.

    Both together are one transposed convolution with stride 2, whose 4x4 filter is the 3x3 filter summed over the four
    shifts by (0 or 1, 0 or 1): 4 products a pixel instead of 9, and no copy of the enlarged input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, 2H, 2W)."""
        w = F.pad(self.conv.weight.flip(2, 3).transpose(0, 1), (1, 1, 1, 1))
        rows = w[:, :, 1:] + w[:, :, :-1]
        return F.conv_transpose2d(x, rows[..., 1:] + rows[..., :-1], self.conv.bias, stride=2, padding=1)


class Downsample(nn.Module):
    """A 3x3 convolution with stride 2, padded on the right and at the bottom alone, as TensorFlow did for DDPM."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv(channels, channels, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H/2, W/2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Copy(nn.Module):
    """Each pixel copied to 2x2."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, 2H, 2W)."""
        return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Mean(nn.Module):
    """The mean of each 2x2."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H/2, W/2)."""
        return F.avg_pool2d(x, 2)


class Binomial(nn.Module):
    """A filter with the weights [1, 3, 3, 1] / 8 along each axis."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        tap = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", torch.outer(tap, tap)[None, None], persistent=False)

    def weight(self, x: Tensor) -> Tensor:
        """(C, 1, 4, 4), the same filter for each channel of x."""
        return self.kernel.to(x.dtype).expand(x.shape[1], 1, 4, 4)


class BinomialDown(Binomial):
    """Filters with [1, 3, 3, 1] / 8 and keeps every other pixel."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H/2, W/2)."""
        return F.conv2d(x, self.weight(x), stride=2, padding=1, groups=x.shape[1])


class BinomialUp(Binomial):
    """Puts zeros between the pixels and filters with [1, 3, 3, 1] / 4."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, 2H, 2W)."""
        return F.conv_transpose2d(x, 4 * self.weight(x), stride=2, padding=1, groups=x.shape[1])


class BinomialConv(Binomial):
    """Filters with [1, 3, 3, 1] / 8, then a 3x3 convolution with stride 2.

    Arguments:
        inputs, outputs: the channels before and after.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = conv(inputs, outputs, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H/2, W/2)."""
        return self.conv(F.conv2d(x, self.weight(x), padding=2, groups=x.shape[1]))
