"""The diffusion transformer: an image is a sequence of patches, and what steers it scales, shifts and gates each layer.

    c = V2 swish(V1 e(noise)) + V3 vector,    (shift, scale, gate) = W swish(c), with W zero at first
    h -> h + gate attention(norm(h) (1 + scale) + shift)
    h -> h + cross_attention(norm(h), context)                    where there is a context
    h -> h + gate' W2 gelu(W1 (norm(h) (1 + scale') + shift'))

Because W is zero at first each layer starts as the identity ("adaLN-zero").

References:
    Scalable Diffusion Models with Transformers (Peebles & Xie, 2023).
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.networks.attention import attend
from genlab.networks.condition import Condition, parts
from genlab.networks.layers import NoiseEmbedding, at_least_one, linear


def positions(height: int, width: int, channels: int) -> Tensor:
    """Where each patch stands, as sines and cosines of its column and of its row.

    Arguments:
        height, width: of the grid of patches.
        channels: D, divisible by 4; the frequencies are 10000^(-i / (D / 4)), i = 0 .. D / 4 - 1.

    Returns:
        (height width, D): a quarter each of sin column, cos column, sin row, cos row.
    """
    quarter = channels // 4
    frequencies = 10_000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    angles = [place.flatten()[:, None] * frequencies for place in (column, row)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1).float()


def modulate(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """norm(h) (1 + scale) + shift, for h (B, N, D) and the others (B, 1, D)."""
    return torch.addcmul(shift, F.layer_norm(h, h.shape[-1:], eps=1e-6), 1 + scale)


class Layer(nn.Module):
    """Attention among the patches, then to the context where there is one, then a network on each patch.

    Arguments:
        width: D.
        heads: how many, each D / heads wide.
        context: the width of the context's tokens, 0 for none.
    """

    def __init__(self, width: int, heads: int, context: int = 0) -> None:
        super().__init__()
        self.heads = heads
        self.queries_keys_values, self.out = linear(width, 3 * width), linear(width, width)
        self.first, self.second = linear(width, 4 * width), linear(4 * width, width)
        self.cross_queries = linear(width, width) if context else None
        self.cross_keys_values = linear(context, 2 * width) if context else None
        self.cross_out = linear(width, width, scale=0) if context else None

    def forward(self, h: Tensor, modulation: Tensor, context: Tensor | None) -> Tensor:
        """h (B, N, D), modulation (B, 6 D) and context (B, L, C) to (B, N, D)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation[:, None].chunk(6, dim=2)
        queries, keys, values = self.queries_keys_values(modulate(h, shift1, scale1)).chunk(3, dim=2)
        h = torch.addcmul(h, gate1, self.out(attend(queries, keys, values, self.heads)))
        if self.cross_queries is not None and self.cross_keys_values is not None and self.cross_out is not None:
            keys, values = self.cross_keys_values(context).chunk(2, dim=2)
            queries = self.cross_queries(F.layer_norm(h, h.shape[-1:], eps=1e-6))
            h = h + self.cross_out(attend(queries, keys, values, self.heads))
        return torch.addcmul(h, gate2, self.second(F.gelu(self.first(modulate(h, shift2, scale2)), approximate="tanh")))


class DiT(nn.Module):
    """The diffusion transformer above.

    Arguments:
        shape: (C, H, W) of a datum.
        patch: the side of a patch; H and W must be divisible by it.
        width: D, divisible by 4 and by `heads`.
        depth: how many layers.
        heads: of attention.
        out_channels: of an output; None for C.
        outputs: how many come out, stacked on the channels: 2 where variances are learned as well.
        vector, context, concat: the widths of the condition's three parts, 0 for none.
        embedding: of the noise level, "sinusoidal" or "fourier".
        embedding_scale: multiplies the noise level there; None for 1 in sinusoids and 16 in Fourier features.

    Raises UserError where shape, patch, width and heads do not divide as they must.
    """

    def __init__(
        self,
        shape: Sequence[int],
        patch: int = 2,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        out_channels: int | None = None,
        outputs: int = 1,
        vector: int = 0,
        context: int = 0,
        concat: int = 0,
        embedding: Literal["sinusoidal", "fourier"] = "sinusoidal",
        embedding_scale: float | None = None,
    ) -> None:
        super().__init__()
        at_least_one(patch=patch, width=width, depth=depth, heads=heads, outputs=outputs)
        if len(shape) != 3 or shape[1] % patch or shape[2] % patch:
            raise UserError(f"network.patch={patch} does not divide the sides of data of shape {tuple(shape)}")
        if width % 4 or width % heads:
            raise UserError(f"network.width={width} must be divisible by 4 and by network.heads={heads}")
        self.vector_width, self.context_width, self.concat_width = vector, context, concat
        # The layer whose output is the network's own summary of its input.
        self.inner = f"layers.{(depth - 1) // 2}"
        self.patch, self.grid = patch, (shape[1] // patch, shape[2] // patch)
        self.embedding = NoiseEmbedding(min(width, 256), width, vector, embedding, embedding_scale)
        self.first = linear((shape[0] + concat) * patch**2, width)
        self.register_buffer("positions", positions(*self.grid, width), persistent=False)
        self.layers = nn.ModuleList(Layer(width, heads, context) for _ in range(depth))
        self.modulation = linear(width, (6 * depth + 2) * width, scale=0)
        self.modulations = [6 * width] * depth + [2 * width]
        channels = outputs * (shape[0] if out_channels is None else out_channels)
        self.last = linear(width, channels * patch**2, scale=0)

    positions: Tensor

    def forward(self, x: Tensor, noise: Tensor, condition: Condition | None = None) -> Tensor:
        """What the network predicts.

        Arguments:
            x: (B, C, H, W).
            noise: (B,), the noise level as the network is told it.
            condition: with the parts that the network was built for.

        Returns:
            (B, outputs * out_channels, H, W).
        """
        vector, context, concat = parts(condition, self.vector_width, self.context_width, self.concat_width)
        *modulations, final = self.modulation(F.silu(self.embedding(noise, vector))).split(self.modulations, dim=1)
        if concat is not None:
            x = torch.cat([x, concat], dim=1)
        h = self.first(F.pixel_unshuffle(x, self.patch).flatten(2).transpose(1, 2)) + self.positions
        for layer, modulation in zip(self.layers, modulations, strict=True):
            h = layer(h, modulation, context)
        shift, scale = final[:, None].chunk(2, dim=2)
        patches = self.last(modulate(h, shift, scale)).transpose(1, 2).unflatten(2, self.grid)
        return F.pixel_shuffle(patches, self.patch)
