"""The units that likelihoods and images are given in.

    bits/dim = nats / (D ln 2),    x = 2 v / (L - 1) - 1 for a value v of 0 .. L - 1

and an error of data in [-1, 1], whose range is 2, in decibels: PSNR = 10 log10(4 / MSE). Nothing else knows ln 2 or
127.5.
"""

import math

import torch
from torch import Tensor

from genlab.core.spec import Field

NATS_PER_BIT = math.log(2)
# A mean square below that of single precision's errors is none.
SMALLEST = 1e-12


def bits_per_dim(nats: Tensor, field: Field) -> Tensor:
    """Nats per datum in bits per original dimension."""
    return nats / (field.dimensions * NATS_PER_BIT)


def to_levels(x: Tensor, levels: int) -> Tensor:
    """The integers 0 .. levels - 1 nearest to x in [-1, 1], int64; what lies outside is clipped."""
    return ((x.double() + 1) * ((levels - 1) / 2)).round().clamp(0, levels - 1).long()


def from_levels(v: Tensor, levels: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Integers 0 .. levels - 1 as evenly spaced values in [-1, 1]."""
    return (v.to(torch.float64) * (2 / (levels - 1)) - 1).to(dtype)


def to_uint8(x: Tensor, levels: int | None = 256) -> Tensor:
    """[-1, 1] as 0 .. 255 by rounding, first to the data's own levels where they are fewer."""
    if levels is not None and levels < 256:
        x = from_levels(to_levels(x, levels), levels)
    return to_levels(x, 256).to(torch.uint8)


def half_bin(levels: int) -> float:
    """Half the distance of two neighbouring levels in [-1, 1]: 1/255 for 256."""
    return 1 / (levels - 1)


def in_grey_levels(difference: Tensor) -> Tensor:
    """A difference of values in [-1, 1] as one of the 256 levels that images are kept in."""
    return difference * 127.5


def psnr(mse: Tensor) -> Tensor:
    """The peak signal-to-noise ratio in dB, of the mean square error of data in [-1, 1]."""
    return 10 * (4 / mse.clamp(min=SMALLEST)).log10()
