"""Two levels of codes: a coarse map for the whole, and a fine one for what the coarse one leaves open.

    z_top    = quantize(down(h)),                 of half the sides of h
    z_bottom = quantize(W [up(z_top), h]),        of the sides of h
    the decoder takes [enlarge(z_top), z_bottom]

References:
    Generating Diverse High-Fidelity Images with VQ-VAE-2 (Razavi, van den Oord & Vinyals, 2019), algorithm 1, figure 2.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Spec
from genlab.models.autoencoder.bottleneck import Bottleneck
from genlab.models.autoencoder.codebook import Point
from genlab.models.autoencoder.quantized import Quantized
from genlab.networks.coders.conv import double
from genlab.networks.coders.vq import downward, upward
from genlab.networks.layers import conv

T = TypeVar("T")


class TwoLevel(Bottleneck):
    """Two codebooks, the second of which is told what the first has said.

    Arguments:
        top, bottom: the codebooks.
        size: how many numbers the encoder gives for each place.
        width: the channels within the networks between the levels.
        hidden: those within a residual block of theirs.
        blocks: residual blocks in each.

    A code has "z_top", "index_top", "z_bottom" and "index_bottom". Raises UserError where the encoder makes no map, or
    one whose sides are odd.
    """

    def __init__(
        self, top: Quantized, bottom: Quantized, size: int = 128, width: int = 128, hidden: int = 32, blocks: int = 2
    ) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"size must be at least 1, not {size}: a place has at least one number")
        self.top, self.bottom = top, bottom
        self.inputs, self.outputs = size, top.outputs + bottom.outputs
        self.down = downward(size, top.inputs, 1, width, hidden, blocks)
        self.up = upward(top.outputs, size, 1, width, hidden, blocks)
        self.merge = conv(2 * size, bottom.inputs, kernel=1)
        self.enlarge = double(top.outputs, top.outputs)

    def coarse(self, h: Tensor) -> Tensor:
        """What the top codebook quantizes, (B, top.inputs, H/2, W/2)."""
        if h.ndim != 4:
            raise UserError(
                "bottleneck=two_level: is for codes that are maps; choose encoder=vq, decoder=vq or both residual"
            )
        if h.shape[2] % 2 or h.shape[3] % 2:
            raise UserError(
                f"bottleneck=two_level: its top level halves the encoder's map, and {h.shape[2]}x{h.shape[3]} is not "
                "divisible by 2; choose a smaller encoder.factor, or data.pad=32 where the data have it"
            )
        return self.down(h)

    def fine(self, h: Tensor, z_top: Tensor) -> Tensor:
        """What the bottom codebook quantizes, (B, bottom.inputs, H, W)."""
        return self.merge(torch.cat([self.up(z_top), h], dim=1))

    def joined(self, z_top: Tensor, z_bottom: Tensor) -> Tensor:
        """What the decoder takes, (B, outputs, H, W)."""
        return torch.cat([self.enlarge(z_top), z_bottom], dim=1)

    def prepare(self, batches: Iterable[Tensor]) -> None:
        few = list(batches)
        self.top.prepare(self.coarse(h) for h in few)
        self.bottom.prepare(self.fine(h, self.top(self.coarse(h)).z) for h in few)

    def forward(self, h: Tensor, step: int | None = None) -> Point:
        top = self.top(self.coarse(h), step)
        bottom = self.bottom(self.fine(h, top.z), step)
        return Point(
            self.joined(top.z, bottom.z),
            named(top.given, bottom.given),
            top.information + bottom.information,
            named(top.penalties, bottom.penalties),
            named(top.notes, bottom.notes),
        )

    def fields(self, shape: torch.Size) -> Spec:
        fine, coarse = shape[1:], [side // 2 for side in shape[1:]]
        top = self.top.fields(torch.Size([self.top.outputs, *coarse]))
        bottom = self.bottom.fields(torch.Size([self.bottom.outputs, *fine]))
        return named(top, bottom)

    def prior(self, fields: Spec, rng: Rng) -> Batch:
        top = self.top.prior(of("top", fields), rng.stage("top"))
        bottom = self.bottom.prior(of("bottom", fields), rng.stage("bottom"))
        return named(top, bottom)

    def vectors(self, codes: Batch) -> Tensor:
        return self.joined(self.top.vectors(of("top", codes)), self.bottom.vectors(of("bottom", codes)))

    def after_step(self, step: int) -> None:
        self.top.after_step(step)
        self.bottom.after_step(step)


def named(top: Mapping[str, T], bottom: Mapping[str, T]) -> dict[str, T]:
    """What is said of each level, under its name and the level's: the top's "z" as "z_top"."""
    return {f"{key}_top": value for key, value in top.items()} | {
        f"{key}_bottom": value for key, value in bottom.items()
    }


def of(level: str, found: Mapping[str, T]) -> dict[str, T]:
    """What is said of one level, by the names that it has there."""
    return {key.removesuffix(f"_{level}"): value for key, value in found.items() if key.endswith(f"_{level}")}
