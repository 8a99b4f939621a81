"""Images seen through an affine map, with little aliasing: twice as many places, a linear map between them, and back.

    y = H^T bilinear_A(H x)

H puts zeros between the places and filters with a wavelet of unit length whose shifts by two places are orthogonal,
H^T H = 1, so that nothing is lost where A is the identity. What lies outside is what a mirror at the edge shows.

References:
    Training Generative Adversarial Networks with Limited Data (Karras et al., 2020), appendix B.
    Ten Lectures on Wavelets (Daubechies, 1992), table 8.3, the least asymmetric one with six vanishing moments.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

WAVELET = (
    *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466),
    *(0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578),
    *(0.0017677118642428036, -0.007800708325034148),
)
LENGTH = len(WAVELET)
CENTRE = sum(k * h for k, h in enumerate(WAVELET)) / sum(WAVELET)
"""The place in the filter that slow changes are not moved from."""

REACH, MARGIN = 3, 8
"""How far outside an image the filter looks on its way back, and how much must be there for it on its way up."""


def mirrored(place: Tensor, side: int) -> Tensor:
    """Where in 0 .. side - 1 a mirror at the edges, half a place outside, shows any place, whole or between."""
    turned = (place + 0.5).remainder(2 * side)
    return torch.minimum(turned, 2 * side - turned) - 0.5


def mirrored_index(place: Tensor, side: int) -> Tensor:
    """The same of whole places, int64."""
    turned = place.remainder(2 * side)
    return torch.minimum(turned, 2 * side - 1 - turned)


def doubled(x: Tensor) -> Tensor:
    """H of x (B, C, H, W) with a margin: place i becomes 2 (i + MARGIN) + k for each k of the filter."""
    for axis in (2, 3):
        side = x.shape[axis]
        index = mirrored_index(torch.arange(-MARGIN, side + MARGIN, device=x.device), side)
        x = x.index_select(axis, index)
    return _filtered(x, F.conv_transpose2d)


def halved(x: Tensor) -> Tensor:
    """H^T of x, without a margin: place i is what stands at 2 i + k."""
    return _filtered(x, F.conv2d)


def _filtered(x: Tensor, by: Callable[..., Tensor]) -> Tensor:
    """Along columns, then along rows."""
    taps = x.new_tensor(WAVELET)
    channels, x = x.shape[1], x.flatten(0, 1)[:, None]
    x = by(x, taps.view(1, 1, LENGTH, 1), stride=(2, 1))
    x = by(x, taps.view(1, 1, 1, LENGTH), stride=(1, 2))
    return x[:, 0].unflatten(0, (-1, channels))


def warped(x: Tensor, matrix: Tensor) -> Tensor:
    """Images whose place o shows what x (B, C, H, W) has at A o.

    Arguments:
        matrix: A (B, 2, 3), of places (column, row, 1) counted from the middle of the image.
    """
    fine, sides = doubled(x), x.shape[2:]
    counts = (torch.arange(2 * side + LENGTH - 2, dtype=matrix.dtype, device=x.device) for side in sides)
    rows, columns = ((count - CENTRE) / 2 for count in counts)
    middle = [(side - 1) / 2 for side in sides]
    v, u = torch.meshgrid(rows - middle[0], columns - middle[1], indexing="ij")
    places = torch.stack([u, v, torch.ones_like(u)], dim=-1)
    seen = torch.einsum("hwj,bij->bhwi", places, matrix)
    scaled = []
    for axis in (0, 1):
        side = sides[1 - axis]
        place = seen[..., axis] + middle[1 - axis]
        near = (place - middle[1 - axis]).abs() < side / 2 + REACH
        place = 2 * (torch.where(near, place, mirrored(place, side)) + MARGIN) + CENTRE
        scaled.append(2 * place / (fine.shape[3 - axis] - 1) - 1)
    grid = torch.stack(scaled, dim=-1).to(fine.dtype)
    return halved(F.grid_sample(fine, grid, mode="bilinear", align_corners=True))
