"""Samples as a person can see them: image grids, strips, animations, and clouds of points."""

import io
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from genlab.core.files import replacing
from genlab.core.spec import Batch, Field
from genlab.core.units import to_uint8
from genlab.runner.sounds import spectrograms

# A grid of small images is enlarged until it has about this many pixels a side.
GRID_SIDE = 512
POINT_RANGE = 3.0
# The sides of a cloud of points that stands alone, and of one among others.
CLOUD, CLOUDS = 500, 200
GREY = 128
# Strips show at least so many samples, and as many as come to so many images.
FEWEST, IMAGES = 6, 128
# The name of the text in a PNG file that holds the numbers of a sample.
NOTE = "genlab"

Layout = tuple[tuple[str, ...], ...]
"""Rows of the keys that a picture shows, as `genlab.tasks.contract.Task` has it."""


def pixels(x: Tensor, field: Field) -> Tensor:
    """Values (N, *) in [-1, 1] as uint8, rounded to the data's levels."""
    return to_uint8(x.detach().cpu(), field.levels)


def viewable(field: Field) -> bool:
    """Whether there is a picture of such data."""
    return field.is_image or field.is_sound or is_sequence(field) or (len(field.shape) == 1 and field.shape[0] >= 2)


def is_sequence(field: Field) -> bool:
    """Discrete values in a row, which are seen as a line of pixels."""
    return len(field.shape) == 1 and field.levels is not None


def mosaic(x: Tensor, field: Field) -> Tensor:
    """Images, sounds, sequences or points (N, *) as one picture (1 or 3, H, W) in uint8."""
    if field.is_image:
        return grid(pixels(x, field))
    if field.is_sound:
        return grid(spectrograms(x, field))
    return grid(pixels(x, field)[None, None]) if is_sequence(field) else _cloud(x.detach().cpu(), CLOUD)


def grid(images: Tensor, gap: float = 0.5) -> Tensor:
    """Pictures (N, C, H, W) in uint8, side by side in about a square (3, H', W').

    Arguments:
        gap: between them, in pixels of theirs.
    """
    from torchvision.utils import make_grid

    height, width = images.shape[-2:]
    columns = min(len(images), max(1, round((len(images) * height / width) ** 0.5)))
    enlarge = max(1, GRID_SIDE // max(columns * width, height))
    images = images.repeat_interleave(enlarge, -1).repeat_interleave(enlarge, -2)
    return make_grid(images, nrow=columns, padding=max(1, int(enlarge * gap)), pad_value=GREY)


def grid_of_strips(pictures: Tensor, field: Field) -> Tensor:
    """What `strips` made of the first samples, in a grid of about as many images as one of single images has."""
    height, width = field.shape[-2:]
    images = max(1, pictures.shape[-2] * pictures.shape[-1] // (height * width))
    return grid(pictures[: max(FEWEST, IMAGES // images)], gap=0.5 if images == 1 else 2)


def pixels_of(key: str, x: Tensor, field: Field) -> Tensor:
    """What stands under a key of samples, (N, *) or (N, K, *), as uint8.

    Samples are rounded to the data's levels; what is shown beside them, and the way to them, may lie between levels.
    """
    is_sample = key == "x" and x.ndim == len(field.shape) + 1
    return to_uint8(x.detach().cpu(), field.levels if is_sample else None)


def strips(samples: Batch, layout: Layout, field: Field) -> Tensor:
    """One picture of each sample, (N, C, H, W) in uint8: its images as laid out, with a grey line between them."""
    return _laid_out([[pixels_of(key, x, field) for key, x in row] for row in _cells(samples, layout, field)])


def panels(samples: Batch, layout: Layout, field: Field) -> Tensor:
    """Sounds, sequences or points (N, *), all in one picture (3, H, W) for each thing that is shown, as laid out."""
    rows = _cells(samples, layout, field)
    if field.is_sound:
        return grid(_laid_out([[spectrograms(x, field) for _, x in row] for row in rows]))
    if is_sequence(field):
        return grid(_laid_out([[pixels_of(key, x, field)[None, None] for key, x in row] for row in rows]))
    side = CLOUD if layout == (("x",),) else CLOUDS
    return _laid_out([[_cloud(x.detach().cpu(), side)[None] for _, x in row] for row in rows])[0]


def _cells(samples: Batch, layout: Layout, field: Field) -> list[list[tuple[str, Tensor]]]:
    """Rows of what is shown, each with its key and (N, *); a key that holds several of each sample gives as many."""
    one = len(field.shape) + 1
    parts = {key: x.unbind(1) if x.ndim > one else [x] for key, x in samples.items() if any(key in k for k in layout)}
    return [[(key, x) for key in keys for x in parts[key]] for keys in layout]


def _laid_out(rows: list[list[Tensor]]) -> Tensor:
    """Pictures (N, C, H, W) side by side, row under row, with lines between them."""
    joined = [_joined(row, dim=-1) for row in rows]
    width = max(row.shape[-1] for row in joined)
    return _joined([F.pad(row, (0, width - row.shape[-1]), value=GREY) for row in joined], dim=-2)


def _joined(pictures: list[Tensor], dim: int) -> Tensor:
    line = torch.full_like(pictures[0].narrow(dim, 0, 1), GREY)
    return torch.cat([part for picture in pictures for part in (line, picture)][1:], dim)


def _cloud(points: Tensor, side: int) -> Tensor:
    """The first two coordinates of (N, D), D >= 2, as a scatter plot (3, side, side)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(side / 100, side / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.08, 0.06, 0.9, 0.92) if side == CLOUD else (0.01, 0.01, 0.98, 0.98))
    axes.scatter(points[:, 0].tolist(), points[:, 1].tolist(), s=4 if side == CLOUD else 1, alpha=0.6, linewidths=0)
    axes.set_xlim(-POINT_RANGE, POINT_RANGE)
    axes.set_ylim(-POINT_RANGE, POINT_RANGE)
    axes.set_aspect("equal")
    if side != CLOUD:
        axes.set_xticks([])
        axes.set_yticks([])
    canvas.draw()
    drawn = torch.frombuffer(bytearray(canvas.buffer_rgba()), dtype=torch.uint8).view(side, side, 4)
    return drawn[..., :3].permute(2, 0, 1)


def save_png(picture: Tensor, path: Path, note: str = "") -> None:
    """(C, H, W) in uint8, C = 1 or 3; whole or not at all. `note` goes into the file, for `read_note`."""
    with replacing(path) as file:
        file.write(png(picture, note))


def png(picture: Tensor, note: str = "") -> bytes:
    """(C, H, W) in uint8 as a PNG file's bytes."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    array, said = picture.permute(1, 2, 0).contiguous().numpy(), PngInfo()
    if note:
        said.add_text(NOTE, note, zip=True)
    buffer = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(buffer, "PNG", pnginfo=said)
    return buffer.getvalue()


def read_note(path: Path) -> str:
    """What a picture's file says of it; "" where it says nothing."""
    from PIL import Image

    with Image.open(path) as picture:
        return str(picture.info.get(NOTE, ""))


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
