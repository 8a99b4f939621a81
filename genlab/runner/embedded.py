"""Codes of data for a person to look at: a plot in the colours of labels or factors, and TensorBoard's projector."""

import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genlab.core.files import replacing
from genlab.core.spec import Batch
from genlab.core.units import to_uint8
from genlab.data.contract import DataSet, Factored, Split
from genlab.tasks.contract import Scatter

# Beyond so many kinds, or values of a factor, a colour is a shade, and there is a scale in the place of a legend.
KINDS, VALUES = 20, 6
# What the projector is given: with thumbnails, and without.
THUMBNAILS, VECTORS = 2500, 10_000
# The side of a thumbnail in pixels, at most; all of them are one picture, of at most 8,192 a side.
SIDE = 64
BATCH = 256


@dataclass(frozen=True)
class Colouring:
    """What points are coloured by.

    Arguments:
        name: of the label or the factor.
        values: (N,) int64.
        count: how many values there are.
        most: of the values that have a colour each.
        names: of the values, where they have any.
    """

    name: str
    values: Tensor
    count: int
    most: int = KINDS
    names: Sequence[str] | None = None

    def said(self, value: int) -> str:
        return str(value) if self.names is None else self.names[value]


def colourings(rows: Batch, dataset: DataSet) -> list[Colouring]:
    """By the label, or where the factors of data are known by each of those that vary."""
    if "factors" in rows and isinstance(dataset, Factored):
        sizes: Mapping[str, int] = dataset.factors
        columns = zip(sizes.items(), rows["factors"].unbind(1), strict=True)
        return [Colouring(name, values, size, VALUES) for (name, size), values in columns if size > 1]
    if "label" in rows:
        return [Colouring("label", rows["label"], dataset.spec["label"].classes or 1, KINDS, dataset.classes)]
    return []


def save_scatter(scatter: Scatter, by: Sequence[Colouring], title: str, path: Path) -> None:
    """A panel for each colouring, or one of a single colour."""
    with replacing(path) as file:
        file.write(plotted(scatter, by, title))


def plotted(scatter: Scatter, by: Sequence[Colouring], title: str) -> bytes:
    """A PNG file's bytes."""
    from matplotlib.figure import Figure

    panels = max(1, len(by))
    columns = min(panels, 3)
    lines = -(-panels // columns)
    figure = Figure(figsize=(6.4 * columns, 5.2 * lines), dpi=120, layout="constrained")
    all_axes = figure.subplots(lines, columns, squeeze=False).flatten()
    for number, axes in enumerate(all_axes):
        if number >= panels:
            axes.set_axis_off()
            continue
        _panel(axes, scatter, by[number] if by else None)
    figure.suptitle(f"{title}\n{scatter.how}", fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _panel(axes: Any, scatter: Scatter, by: Colouring | None) -> None:
    across, up = scatter.places.T.tolist()
    size = max(5.0, min(16.0, 16_000 / len(across)))
    if by is None:
        axes.scatter(across, up, s=size, alpha=0.7, linewidths=0)
    else:
        named, kinds = by.count <= by.most, 10 if by.count <= 10 else KINDS
        colours, last = (f"tab{kinds}", kinds - 1) if named else ("viridis", by.count - 1)
        values = by.values.tolist()
        drawn = axes.scatter(across, up, s=size, c=values, cmap=colours, vmin=0, vmax=last, alpha=0.7, linewidths=0)
        if named:
            for value in range(by.count):
                axes.scatter([], [], color=drawn.to_rgba(value), label=by.said(value))
            axes.legend(title=by.name, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        else:
            axes.figure.colorbar(drawn, ax=axes, label=by.name)
    axes.set_xlabel(scatter.axes[0])
    axes.set_ylabel(scatter.axes[1])
    if not any(scatter.axes):
        axes.set_xticks([])
        axes.set_yticks([])
    axes.grid(alpha=0.3)


def thumbnails(data: Split, numbers: Tensor, levels: int | None) -> Tensor:
    """Small pictures (N, 3, side, side) in [0, 1] of the images with these numbers; grey makes them square."""
    found = []
    for index in numbers.split(BATCH):
        x = to_uint8(data.batch(index)["x"], levels).float() / 255
        height, width = x.shape[-2:]
        side = max(height, width)
        x = F.pad(x, (*_halves(side - width), *_halves(side - height)), value=0.5)
        if side > SIDE:
            x = F.interpolate(x, size=(SIDE, SIDE), mode="area")
        found.append(x.expand(-1, 3, -1, -1))
    return torch.cat(found)


def _halves(margin: int) -> tuple[int, int]:
    return margin // 2, margin - margin // 2


def save_projector(
    vectors: Tensor, numbers: Tensor, by: Sequence[Colouring], pictures: Tensor | None, folder: Path
) -> None:
    """What `tensorboard --logdir` shows under Projector.

    Arguments:
        vectors: (N, D).
        numbers: (N,) of the data that they are the codes of.
        by: what is told of them.
        pictures: of the data, as `thumbnails` makes them.
    """
    from torch.utils.tensorboard import SummaryWriter

    shutil.rmtree(folder, ignore_errors=True)
    columns = [[str(number) for number in numbers.tolist()], *([c.said(v) for v in c.values.tolist()] for c in by)]
    # A table of one column has no header.
    header = ["datum", *(c.name for c in by)] if by else None
    told = [list(row) for row in zip(*columns, strict=True)] if by else columns[0]
    with SummaryWriter(str(folder)) as writer:
        writer.add_embedding(vectors, told, pictures, tag="codes", metadata_header=header)
