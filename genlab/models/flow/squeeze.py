"""Space becomes channels: each square of 2x2 pixels becomes one pixel with four times the channels.

    z[4 c + 2 i + j, h, w] = x[c, 2 h + i, 2 w + j]

This is the order of RealNVP's and of Glow's code. Before it gives half of the channels away RealNVP puts them into
another order, so that what is kept are two opposite corners of each square, for all of the channels: a checkerboard.

References:
    Density Estimation using Real NVP (Dinh, Sohl-Dickstein & Bengio, 2017), section 3.6, figures 3 and 4, and its code.
    Glow: Generative Flow with Invertible 1x1 Convolutions (Kingma & Dhariwal, 2018).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.flow.transform import Mapped, Shape, Transform

# The corners of a square as RealNVP orders them before a split: opposite ones stand together.
CORNERS = (0, 3, 1, 2)


class Squeeze(Transform):
    """The map above; it stretches nothing."""

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return F.pixel_unshuffle(x, 2), x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return F.pixel_shuffle(z, 2), z.new_zeros(len(z))

    def out_shape(self, shape: Shape) -> Shape:
        channels, height, width = shape
        return (4 * channels, height // 2, width // 2)


def corners_together(channels: int) -> Tensor:
    """The order of 4 C squeezed channels that has the top left corners of all C first, then the bottom right ones."""
    return torch.arange(4 * channels).view(channels, 4)[:, list(CORNERS)].T.flatten()


def check_sides(shape: Sequence[int], times: int, option: str, value: int) -> None:
    """Raise a UserError where data of this shape are no images whose sides can be halved so many times.

    Arguments:
        option, value: what asks for it, "levels" and how many.
    """
    if len(shape) != 3:
        raise UserError(
            f"it is for images (channels, height, width), and the data are of shape {tuple(shape)}; "
            "choose model=realnvp_vector"
        )
    _, height, width = shape
    if height % 2**times or width % 2**times:
        most = max(n for n in range(times) if height % 2**n == width % 2**n == 0)
        raise UserError(
            f"{option}={value}: data of {height}x{width} cannot be halved {times} times; set "
            f"transform.{option} to at most {most + value - times}, or have sides divisible by {2**times}, which "
            "data.pad gives to some data sets"
        )
