"""A residual network on vectors, for data without neighbours: points in the plane, codes.

    h -> h + W2 swish(W1 norm(h) + W swish(embedding)),    embedding = V2 swish(V1 e(noise)) + V3 vector

References:
    Deep Residual Learning for Image Recognition (He et al., 2016).
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from genlab.networks.condition import Condition, parts
from genlab.networks.layers import NoiseEmbedding, at_least_one, linear, variance_scaling_


class ResidualLayer(nn.Module):
    """h + W2 dropout(swish(W1 norm(h) + modulation)), the identity at first."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first, self.second = linear(width, width), linear(width, width, scale=0)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, modulation: Tensor) -> Tensor:
        """(B, width) twice to (B, width)."""
        return h + self.second(self.dropout(F.silu(self.first(self.norm(h)) + modulation)))


class MLP(nn.Module):
    """The residual network above; a datum of any shape is one vector to it.

    Arguments:
        shape: of a datum; its first number counts the channels.
        width: of the hidden vectors.
        layers: residual layers.
        dropout: the probability, in every residual layer.
        out_channels: the first number of an output's shape; None for that of the input.
        outputs: how many come out, stacked on that dimension: 2 where variances are learned as well.
        vector: the width of the condition's vector, 0 for none.
        embedding: of the noise level, "sinusoidal" or "fourier".
        embedding_scale: multiplies the noise level there; None for 1 in sinusoids and 16 in Fourier features.
    """

    def __init__(
        self,
        shape: Sequence[int],
        width: int = 256,
        layers: int = 4,
        dropout: float = 0.0,
        out_channels: int | None = None,
        outputs: int = 1,
        vector: int = 0,
        embedding: Literal["sinusoidal", "fourier"] = "sinusoidal",
        embedding_scale: float | None = None,
    ) -> None:
        super().__init__()
        at_least_one(width=width, layers=layers, outputs=outputs)
        self.vector_width = vector
        # The layer whose output is the network's own summary of its input.
        self.inner = f"layers.{(layers - 1) // 2}"
        self.out_shape = (outputs * (shape[0] if out_channels is None else out_channels), *shape[1:])
        self.embedding = NoiseEmbedding(width, width, vector, embedding, embedding_scale)
        self.modulation = linear(width, layers * width)
        for weight in self.modulation.weight.split(width):
            variance_scaling_(weight)
        self.first = linear(math.prod(shape), width)
        self.layers = nn.ModuleList(ResidualLayer(width, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.last = linear(width, math.prod(self.out_shape), scale=0)

    def forward(self, x: Tensor, noise: Tensor, condition: Condition | None = None) -> Tensor:
        """What the network predicts.

        Arguments:
            x: (B, *shape).
            noise: (B,), the noise level as the network is told it.
            condition: with the parts that the network was built for.

        Returns:
            (B, outputs * out_channels, *shape[1:]).
        """
        vector, _, _ = parts(condition, self.vector_width)
        modulations = self.modulation(F.silu(self.embedding(noise, vector))).chunk(len(self.layers), dim=1)
        h = self.first(x.flatten(1))
        for layer, modulation in zip(self.layers, modulations, strict=True):
            h = layer(h, modulation)
        return self.last(F.silu(self.norm(h))).unflatten(1, self.out_shape)
