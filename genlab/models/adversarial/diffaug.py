"""Differentiable augmentation: colours, shifts and holes for all that the critic sees.

    colours        brightness x + u, u in (-1/2, 1/2);  saturation m + 2u (x - m), m the mean of a pixel's channels;
                   contrast M + (1/2 + u) (x - M), M the mean of the datum;  the last u in (0, 1)
    translation    by a whole number of pixels, zeros where nothing is left
    cutout         zeros in a rectangle somewhere

Both what is made and data are changed, and the generator learns through the change, so that it learns the data and not
their changes.

References:
    Differentiable Augmentation for Data-Efficient GAN Training (Zhao et al., 2020), section 3.2.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.adversarial.augment import Augmentation


def image_shape(shape: Sequence[int], name: str) -> tuple[int, int, int]:
    """(C, H, W); a UserError for data that are no images."""
    if len(shape) != 3:
        raise UserError(f"augment={name}: is for images, (channels, height, width), not {list(shape)}; leave it out")
    channels, height, width = shape
    return channels, height, width


class DiffAugment(Augmentation):
    """Each of these changes, always.

    Arguments:
        shape: (C, H, W) of a datum.
        color: brightness, saturation and contrast change.
        translation: along each axis, at most this part of the side; 0 for none.
        cutout: the sides of the hole, in those of the datum; 0 for none.
    """

    def __init__(
        self, shape: Sequence[int], color: bool = True, translation: float = 0.125, cutout: float = 0.5
    ) -> None:
        super().__init__()
        for name, part in {"translation": translation, "cutout": cutout}.items():
            if not 0 <= part < 1:
                raise ValueError(f"{name}={part} must be at least 0 and below 1")
        _, height, width = image_shape(shape, "diffaug")
        self.color = color
        self.most = [int(side * translation + 0.5) for side in (height, width)]
        self.hole = [int(side * cutout + 0.5) for side in (height, width)]

    def forward(self, x: Tensor, rng: Rng, step: int) -> Tensor:
        if self.color:
            x = _recoloured(x, rng.stage("color"))
        if any(self.most):
            x = self._moved(x, rng.stage("translation"))
        return self._cut(x, rng.stage("cutout")) if all(self.hole) else x

    def _moved(self, x: Tensor, rng: Rng) -> Tensor:
        for axis, most in zip((2, 3), self.most, strict=True):
            by = rng.integers(2 * most + 1)[:, None] - most
            place = torch.arange(x.shape[axis], device=x.device) + by
            inside = (place >= 0) & (place < x.shape[axis])
            shape = [len(x), 1, 1, 1]
            shape[axis] = x.shape[axis]
            index = place.clamp(0, x.shape[axis] - 1).view(shape).expand_as(x)
            x = x.gather(axis, index) * inside.view(shape).to(x.dtype)
        return x

    def _cut(self, x: Tensor, rng: Rng) -> Tensor:
        within = []
        for side, hole in zip(x.shape[2:], self.hole, strict=True):
            # The hole may reach over the edge by half of itself.
            first = rng.integers(side + 1 - hole % 2)[:, None] - hole // 2
            place = torch.arange(side, device=x.device)
            within.append((place >= first) & (place < first + hole))
        cut = within[0][:, None, :, None] & within[1][:, None, None, :]
        return x * (~cut).to(x.dtype)


def _recoloured(x: Tensor, rng: Rng) -> Tensor:
    brightness, saturation, contrast = rng.uniform(3, dtype=x.dtype).view(-1, 3, 1, 1, 1).unbind(1)
    x = x + brightness - 0.5
    grey = x.mean(1, keepdim=True)
    x = grey + 2 * saturation * (x - grey)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (contrast + 0.5) * (x - mean)
