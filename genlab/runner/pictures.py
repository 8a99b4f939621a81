"""Samples as a person can see them: image grids, animations, and clouds of points."""

import io
from pathlib import Path

import torch
from torch import Tensor

from genlab.core.files import replacing
from genlab.core.spec import Field
from genlab.core.units import to_uint8

# A grid of small images is enlarged until it has about this many pixels a side.
GRID_SIDE = 512
POINT_RANGE = 3.0


def pixels(x: Tensor, field: Field) -> Tensor:
    """Images (N, C, H, W) in [-1, 1] as uint8, rounded to the data's levels."""
    return to_uint8(x.detach().cpu(), field.levels)


def mosaic(x: Tensor, field: Field) -> Tensor:
    """Images or points (N, *) as one picture (3, H, W) in uint8."""
    return _mosaic_of_images(pixels(x, field)) if field.is_image else _cloud(x.detach().cpu())


def _mosaic_of_images(images: Tensor) -> Tensor:
    from torchvision.utils import make_grid

    columns = max(1, round(len(images) ** 0.5))
    enlarge = max(1, GRID_SIDE // (columns * images.shape[-1]))
    images = images.repeat_interleave(enlarge, -1).repeat_interleave(enlarge, -2)
    return make_grid(images, nrow=columns, padding=max(1, enlarge // 2), pad_value=128)


def _cloud(points: Tensor) -> Tensor:
    """The first two coordinates of (N, D), D >= 2, as a scatter plot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.08, 0.06, 0.9, 0.92))
    axes.scatter(points[:, 0].tolist(), points[:, 1].tolist(), s=4, alpha=0.6, linewidths=0)
    axes.set_xlim(-POINT_RANGE, POINT_RANGE)
    axes.set_ylim(-POINT_RANGE, POINT_RANGE)
    axes.set_aspect("equal")
    canvas.draw()
    drawn = torch.frombuffer(bytearray(canvas.buffer_rgba()), dtype=torch.uint8).view(500, 500, 4)
    return drawn[..., :3].permute(2, 0, 1)


def viewable(field: Field) -> bool:
    """Whether there is a picture of such data."""
    return field.is_image or (len(field.shape) == 1 and field.shape[0] >= 2)


def save_png(picture: Tensor, path: Path) -> None:
    """(C, H, W) in uint8, C = 1 or 3; whole or not at all."""
    with replacing(path) as file:
        file.write(png(picture))


def png(picture: Tensor) -> bytes:
    """(C, H, W) in uint8 as a PNG file's bytes."""
    from PIL import Image

    array = picture.permute(1, 2, 0).contiguous().numpy()
    buffer = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(buffer, "PNG")
    return buffer.getvalue()


def save_gif(frames: list[Tensor], path: Path, seconds: float = 4.0) -> None:
    """Pictures (3, H, W) in uint8 as an animation that dwells on its last frame."""
    from PIL import Image

    images = [Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy()) for frame in frames]
    each = int(1000 * seconds / len(images))
    buffer = io.BytesIO()
    images[0].save(
        buffer, "GIF", save_all=True, append_images=images[1:], duration=[each] * (len(images) - 1) + [1500], loop=0
    )
    with replacing(path) as file:
        file.write(buffer.getvalue())
