"""Adaptive augmentation: all that the critic sees is changed with a probability that grows while it memorises.

    r = E sign(C(x)) over data,    p <- p + sign(r - target) n / images,  n the data since p last moved

A critic that knows its data by heart takes all of them to be real, r = 1. Each of these changes happens with the
probability p to each datum, independently, in this order:

    blit        mirrored columns; a turn by 0 to 3 quarters; a shift by whole pixels, at most 1/8 of the sides
    geometry    scaled by 2^(0.2 n); turned by any angle; columns scaled by 2^(0.2 n) and rows by its inverse; turned
                again; shifted by 1/8 n of the sides;  each n ~ N(0, 1), and a turn with probability 1 - sqrt(1 - p)
    colours     brightness + 0.2 n; contrast times 2^(0.5 n); grey turned over, (1 - 2 v v^T) x with v = 1 / sqrt(C);
                three channels turned around v by any angle; what differs from grey times 2^n

References:
    Training Generative Adversarial Networks with Limited Data (Karras et al., 2020), sections 2 and 3, appendix B.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from genlab.core.collectives import all_sum
from genlab.core.rng import Rng
from genlab.models.adversarial.augment import Augmentation
from genlab.models.adversarial.diffaug import image_shape
from genlab.models.adversarial.warp import mirrored_index, warped

SHIFT, SCALE, BRIGHTNESS, CONTRAST, SATURATION = 0.125, 0.2, 0.2, 0.5, 1.0


class AdaptiveAugment(Augmentation):
    """Changes with a probability that adapts.

    Arguments:
        shape: (C, H, W) of a datum.
        blit, geometry, color: which changes there are.
        target: of r; None leaves p as it starts.
        start: p at first.
        images: in which p can go from 0 to 1.
        every: the critic's steps from one move of p to the next.

    Attributes:
        p: the probability.
    """

    p: Tensor
    signs: Tensor
    steps: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        blit: bool = True,
        geometry: bool = True,
        color: bool = True,
        target: float | None = 0.6,
        start: float = 0.0,
        images: int = 500_000,
        every: int = 4,
    ) -> None:
        super().__init__()
        image_shape(shape, "ada")
        if target is not None and not -1 < target < 1:
            raise ValueError(f"target={target} must be between -1 and 1, or null for a p that stays")
        if not 0 <= start <= 1:
            raise ValueError(f"start={start} must be in [0, 1]")
        for name, number in {"images": images, "every": every}.items():
            if number < 1:
                raise ValueError(f"{name}={number} must be at least 1")
        self.blit, self.geometry, self.color = blit, geometry, color
        self.adapts, self.target, self.images, self.every = target is not None, target, images, every
        self.register_buffer("p", torch.tensor(float(start)))
        # Since p last moved: the sum of signs and their number, and steps.
        self.register_buffer("signs", torch.zeros(2))
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Tensor, rng: Rng, step: int) -> Tensor:
        # Places in half precision would be whole pixels off.
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(torch.promote_types(x.dtype, torch.float32))
            if self.blit:
                x = x.flatten(2).gather(2, self._blit_index(x, rng.stage("blit"))).view_as(x)
            if self.geometry:
                matrix, changed = self._matrix(x, rng.stage("geometry"))
                x = torch.where(changed[:, None, None, None], warped(x, matrix), x)
            return self._recoloured(x, rng.stage("color")) if self.color else x

    @torch.no_grad()
    def observe(self, score: Tensor) -> None:
        if self.training and self.target is not None:
            self.signs += torch.stack([score.sign().sum(), score.new_tensor(len(score))])

    @torch.no_grad()
    def after_step(self) -> None:
        if self.target is None:
            return
        self.steps += 1
        total, count = all_sum(self.signs)
        # Asked on the device, so that no step waits for the answer.
        due = (self.steps >= self.every).to(self.p.dtype)
        by = (total / count.clamp(min=1) - self.target).sign() * count / self.images
        self.p.add_(due * by).clamp_(0, 1)
        self.signs.mul_(1 - due)
        self.steps.mul_(1 - due)

    def shown(self) -> dict[str, Tensor]:
        return {"augmented": self.p.clone()}

    def _happens(self, rng: Rng, p: Tensor | None = None) -> Tensor:
        """Of each datum whether a change happens to it, (B,)."""
        return rng.stage("whether").uniform() < (self.p if p is None else p)

    def _blit_index(self, x: Tensor, rng: Rng) -> Tensor:
        """(B, C, H W), the place in x of each place of what comes out."""
        height, width = x.shape[2:]
        rows, columns = (torch.arange(side, device=x.device) for side in (height, width))
        flip, turn, shift = (rng.stage(name) for name in ("flip", "turn", "shift"))
        moved = self._happens(shift)
        by = []
        for axis, side in (("rows", height), ("columns", width)):
            most = int(side * SHIFT)
            by.append(torch.where(moved, shift.stage(axis).integers(2 * most + 1) - most, 0)[:, None])
        # Twice the distance from the middle, which is whole.
        v = 2 * mirrored_index(rows - by[0], height)[:, :, None] - (height - 1)
        u = 2 * mirrored_index(columns - by[1], width)[:, None, :] - (width - 1)
        kinds = 4 if height == width else 2
        quarters = torch.where(self._happens(turn), turn.stage("by").integers(kinds) * (4 // kinds), 0)
        cos, sin = (u.new_tensor(of)[quarters][:, None, None] for of in ((1, 0, -1, 0), (0, 1, 0, -1)))
        u, v = cos * u + sin * v, cos * v - sin * u
        mirror = torch.where(self._happens(flip), 1 - 2 * flip.stage("by").integers(2), 1)
        u = mirror[:, None, None] * u
        index = (v + height - 1) // 2 * width + (u + width - 1) // 2
        return index.flatten(1)[:, None].expand(-1, x.shape[1], -1)

    def _matrix(self, x: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
        """(B, 2, 3), of where each place of what comes out looks; and which data are changed at all, (B,)."""
        names = ("scale", "before", "stretch", "after", "shift")
        scale, before, stretch, after, shift = (rng.stage(name) for name in names)
        turn = 1 - (1 - self.p).sqrt()
        happens = [self._happens(scale), self._happens(before, turn), self._happens(stretch)]
        happens += [self._happens(after, turn), self._happens(shift)]

        def if_so(number: int, value: Tensor) -> Tensor:
            return torch.where(happens[number], value, 0.0)

        one = torch.ones(len(x), device=x.device)
        size = (if_so(0, scale.normal()) * SCALE).exp2()
        wide = (if_so(2, stretch.normal()) * SCALE).exp2()
        angles = [if_so(1, math.pi * (2 * before.uniform() - 1)), if_so(3, math.pi * (2 * after.uniform() - 1))]
        # What comes out is made by these in turn; where it looks, by their inverses in the other order.
        linear = _diagonal(one / size, one / size) @ _turn(angles[0]) @ _diagonal(one / wide, wide) @ _turn(angles[1])
        sides = x.new_tensor([x.shape[3], x.shape[2]])
        by = torch.where(happens[4][:, None], shift.normal(2) * SHIFT * sides, 0.0)
        moved = -(linear @ by[:, :, None])
        return torch.cat([linear, moved], dim=2), torch.stack(happens).any(0)

    def _recoloured(self, x: Tensor, rng: Rng) -> Tensor:
        channels, names = x.shape[1], ("brightness", "contrast", "flip", "hue", "saturation")
        brightness, contrast, flip, hue, saturation = (rng.stage(name) for name in names)

        def if_so(stream: Rng, value: Tensor) -> Tensor:
            return torch.where(self._happens(stream), value, 0.0)

        more = if_so(brightness, brightness.normal()) * BRIGHTNESS
        times = (if_so(contrast, contrast.normal()) * CONTRAST).exp2()
        over = if_so(flip, flip.integers(2).float())
        vivid = (if_so(saturation, saturation.normal()) * SATURATION).exp2()
        whole = torch.eye(channels, device=x.device)
        grey = torch.full((channels, channels), 1 / channels, device=x.device)
        matrix = times[:, None, None] * (whole - 2 * over[:, None, None] * grey)
        if channels == 3:
            matrix = _around_grey(if_so(hue, math.pi * (2 * hue.uniform() - 1))) @ matrix
        matrix = (grey + vivid[:, None, None] * (whole - grey)) @ matrix
        x = x + more.view(-1, 1, 1, 1).to(x.dtype)
        changed = torch.einsum("bij,bjhw->bihw", matrix.to(x.dtype), x)
        return torch.where(((matrix - whole) != 0).any(2).any(1)[:, None, None, None], changed, x)


def _diagonal(u: Tensor, v: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([u, v], dim=1))


def _turn(angle: Tensor) -> Tensor:
    """(B, 2, 2), a turn by minus the angle."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, sin], dim=1), torch.stack([-sin, cos], dim=1)], dim=1)


def _around_grey(angle: Tensor) -> Tensor:
    """(B, 3, 3), a turn around (1, 1, 1), by Rodrigues' formula."""
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    axis = 1 / math.sqrt(3)
    across = angle.new_tensor([[0, -axis, axis], [axis, 0, -axis], [-axis, axis, 0]])
    whole = torch.eye(3, device=angle.device)
    return cos * whole + sin * across + (1 - cos) / 3
