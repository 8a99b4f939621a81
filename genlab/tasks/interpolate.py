"""From one datum to another by way of their codes.

    z(w) = sin((1 - w) a) / sin a z_0 + sin(w a) / sin a z_1,    cos a = z_0 z_1 / (|z_0| |z_1|),    w in [0, 1]

Normal codes in many dimensions have nearly one length, and on a great circle they keep it; a straight line would lead
through codes that are shorter than any that the model knows. Of codes that are also told as numbers in a codebook, the
vectors are mixed, and the model takes for each point's the nearest that it has.

References:
    Denoising Diffusion Implicit Models (Song et al., 2021), section 5.3 and appendix D.5.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from genlab.core.spec import Batch
from genlab.models.contract import Model, Watch
from genlab.tasks.codes import codes
from genlab.tasks.contract import SplitName, Task, given, sampling

Pairs = list[int] | list[list[int]]

# Two codes at a smaller angle, in radians, are joined by a line.
SMALLEST_ANGLE = 1e-4


def spherical(z_0: Tensor, z_1: Tensor, w: Tensor) -> Tensor:
    """The points (B, K, *) at w (K,) on the arcs between codes z_0 and z_1 (B, *)."""
    flat_0, flat_1 = z_0.flatten(1).double(), z_1.flatten(1).double()
    cosine = (flat_0 * flat_1).sum(1) / (flat_0.norm(dim=1) * flat_1.norm(dim=1)).clamp(min=1e-30)
    angle, w = cosine.clamp(-1, 1).arccos()[:, None], w.double()
    near = angle < SMALLEST_ANGLE
    safe = torch.where(near, torch.ones_like(angle), angle)
    of_0 = torch.where(near, 1 - w, ((1 - w) * safe).sin() / safe.sin())
    of_1 = torch.where(near, w, (w * safe).sin() / safe.sin())
    return _mixed(flat_0, flat_1, of_0, of_1).reshape(len(z_0), len(w), *z_0.shape[1:]).to(z_0)


def straight(z_0: Tensor, z_1: Tensor, w: Tensor) -> Tensor:
    """The points (B, K, *) at w (K,) on the lines between codes z_0 and z_1 (B, *)."""
    of_1 = w.double().expand(len(z_0), -1)
    points = _mixed(z_0.flatten(1).double(), z_1.flatten(1).double(), 1 - of_1, of_1)
    return points.reshape(len(z_0), len(w), *z_0.shape[1:]).to(z_0)


def _mixed(flat_0: Tensor, flat_1: Tensor, of_0: Tensor, of_1: Tensor) -> Tensor:
    return of_0[..., None] * flat_0[:, None] + of_1[..., None] * flat_1[:, None]


PATHS = {"spherical": spherical, "straight": straight}


class Interpolate(Task):
    """Rows of data on the way from one to another. A datum of the nearer end says what a point is asked to be.

    Arguments:
        images: a pair of the split's data by their numbers, or a list of pairs; None is (0, 1), (2, 3) and on. They are
            encoded, and stand beside the ends of the row that is decoded.
        samples: instead, a pair of numbers of samples, or a list of pairs, whose own noise the row leads between.
        points: in a row, both ends among them.
        path: "spherical" or "straight".
        split: of the data set.
        label: see `Task`.

    There are at most as many rows as pairs are given.
    """

    needs = frozenset()

    def __init__(
        self,
        images: Pairs | None = None,
        samples: Pairs | None = None,
        points: int = 9,
        path: Literal["spherical", "straight"] = "spherical",
        split: SplitName = "test",
        label: int | list[int] | None = None,
    ) -> None:
        if points < 2:
            raise ValueError(f"points must be at least 2, not {points}: the two ends")
        if images is not None and samples is not None:
            raise ValueError("either images or samples may be given, not both")
        self.images, self.samples = _pairs("images", images), _pairs("samples", samples)
        self.points, self.path, self.label, self.width = points, PATHS[path], label, points
        if samples is None:
            self.split = split
            self.layout = (("start", "x", "end"),)

    def count(self, n: int) -> int:
        pairs = self.images or self.samples
        return n if pairs is None else min(n, len(pairs))

    def pairs(self, index: Tensor) -> Tensor:
        """The numbers (B, 2) that the rows numbered `index` (B,) lead between."""
        pairs = self.images or self.samples
        if pairs is None:
            return torch.stack([2 * index, 2 * index + 1], dim=1)
        return torch.tensor(pairs, device=index.device)[index % len(pairs)]

    def data(self, index: Tensor) -> Tensor | None:
        return None if self.samples is not None else self.pairs(index)

    def check(self, model: Model, sampler: Any) -> None:
        super().check(model, sampler)
        coder = codes(model, sampler)
        if self.samples is None:
            coder.check()

    def __call__(
        self,
        model: Model,
        index: Tensor,
        seed: int,
        sampler: Any,
        watch: Watch | None = None,
        batch: Batch | None = None,
    ) -> Batch:
        coder, pairs = codes(model, sampler), self.pairs(index)
        if self.samples is None:
            batch, ends = given(self, batch), sampling(seed, index.repeat_interleave(2))
            told = self.conditions(model, sampler, index.repeat_interleave(2), batch)
            code = coder.encode(batch, told, ends)
            shown = {"start": batch["x"][0::2], "end": batch["x"][1::2]}
        else:
            ends = sampling(seed, pairs.flatten())
            told = self.conditions(model, sampler, pairs.flatten())
            code, shown = coder.draw(told, ends), {}
        w = torch.linspace(0, 1, self.points, device=index.device)
        mixed = {key: z for key, z in code.items() if z.is_floating_point()}
        rows = {key: self.path(z[0::2], z[1::2], w).flatten(0, 1) for key, z in mixed.items()}
        # The row's own noise at each of its points, so that a sampler that adds noise does not break the path.
        rng = sampling(seed, index.repeat_interleave(self.points))
        nearer = (2 * torch.arange(len(index), device=index.device)[:, None] + (w > 0.5)).flatten()
        x = coder.decode(rows, {key: value[nearer] for key, value in told.items()}, rng, watch)
        return {"x": x.unflatten(0, (-1, self.points)), **shown}


def _pairs(name: str, pairs: Pairs | None) -> list[list[int]] | None:
    """A list of pairs; an error where it is none."""
    if pairs is None:
        return None
    listed: list[Any] = pairs if pairs and isinstance(pairs[0], list) else [pairs]
    if not all(isinstance(pair, list) and len(pair) == 2 and min(pair) >= 0 for pair in listed):
        raise ValueError(
            f"{name}={pairs}: name two numbers of at least 0, as [3,8], or pairs of them, as [[3,8],[1,2]]"
        )
    return listed
