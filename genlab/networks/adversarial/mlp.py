"""Plain layers: the players of the first adversarial networks, and of points in the plane.

    G: [z, c] -> ReLU layers -> x (tanh where data have levels)        C: [x, c] -> leaky layers, dropout -> s

The condition stands beside what goes in, as in the first conditional networks.

References:
    Generative Adversarial Nets (Goodfellow et al., 2014), section 5.
    Conditional Generative Adversarial Nets (Mirza & Osindero, 2014), section 3.2.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genlab.core.rng import Rng
from genlab.networks.adversarial.contract import Critic, Generator, Judged
from genlab.networks.adversarial.head import WRAPS, Head, plain
from genlab.networks.condition import Condition
from genlab.networks.layers import at_least_one


def beside(x: Tensor, condition: Condition | None) -> Tensor:
    """x (B, D) with the condition's vector, where there is one."""
    if condition is None or condition.vector is None:
        return x
    return torch.cat([x, condition.vector.to(x.dtype)], dim=1)


class MLPGenerator(Generator):
    """From noise to data of any shape.

    Arguments:
        shape: of a datum.
        levels: that data take; a tanh then keeps what is made in [-1, 1]. None for data without bounds.
        size: of the noise.
        hidden: the widths of the layers between.
        norm: "batch" or "none", after each of them.
        vector: the width of condition.vector, 0 for none.
    """

    def __init__(
        self,
        shape: Sequence[int],
        levels: int | None,
        size: int,
        hidden: Sequence[int] = (256, 512, 1024),
        norm: str = "none",
        vector: int = 0,
    ) -> None:
        super().__init__()
        at_least_one(**{"hidden": min(hidden)})
        if norm not in ("batch", "none"):
            raise ValueError(f"norm={norm} must be batch or none")
        parts: list[nn.Module] = []
        now = size + vector
        for width in hidden:
            parts += [nn.Linear(now, width, bias=norm == "none")]
            parts += [nn.BatchNorm1d(width)] if norm == "batch" else []
            parts += [nn.ReLU()]
            now = width
        self.layers = nn.Sequential(*parts, nn.Linear(now, math.prod(shape)))
        self.shape, self.bounded = tuple(shape), levels is not None

    def forward(self, z: Tensor, condition: Condition | None = None, rng: Rng | None = None) -> Tensor:
        x = self.layers(beside(z, condition)).unflatten(1, self.shape)
        return x.tanh() if self.bounded else x


class MLPCritic(Critic):
    """From data of any shape to a score.

    Arguments:
        shape: of a datum.
        hidden: the widths of the layers.
        dropout: the probability that a hidden unit is silent in training.
        norm: "spectral" or "none".
        minibatch: numbers of minibatch discrimination, 0 for none.
        vector: the width of condition.vector, 0 for none.
    """

    def __init__(
        self,
        shape: Sequence[int],
        hidden: Sequence[int] = (512, 256),
        dropout: float = 0.0,
        norm: str = "none",
        minibatch: int = 0,
        vector: int = 0,
    ) -> None:
        super().__init__()
        at_least_one(**{"hidden": min(hidden)})
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout} must be at least 0 and below 1")
        if norm not in ("spectral", "none"):
            raise ValueError(f"norm={norm} must be spectral or none")
        wrap = WRAPS.get(norm, plain)
        parts: list[nn.Module] = []
        now = math.prod(shape) + vector
        for width in hidden:
            parts += [wrap(nn.Linear(now, width)), nn.LeakyReLU(0.2)] + ([nn.Dropout(dropout)] if dropout else [])
            now = width
        self.layers = nn.Sequential(*parts)
        self.head = Head(now, 0, minibatch, wrap=wrap)
        self.whole_batch = minibatch > 0

    def forward(self, x: Tensor, condition: Condition | None = None) -> Judged:
        return self.head(self.layers(beside(x.flatten(1), condition)))
