"""Plain layers, for data and codes that are vectors: those of the first variational autoencoders.

    h_0 = x,    h_i = f(W_i h_{i-1} + b_i),    out = W h_n + b

References:
    Auto-Encoding Variational Bayes (Kingma & Welling, 2014), appendix C.
    Importance Weighted Autoencoders (Burda, Grosse & Salakhutdinov, 2016), section 5, its two layers of 200.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from genlab.networks.layers import at_least_one, linear


def layers(sizes: Sequence[int], activation: Callable[[], nn.Module]) -> nn.Sequential:
    """An affine map from each size to the next, with an activation after all but the last."""
    at_least_one(**{"hidden": min(sizes)})
    parts = [part for pair in pairwise(sizes) for part in (linear(*pair), activation())]
    return nn.Sequential(*parts[:-1])


class MLPEncoder(nn.Module):
    """From a datum of any shape to a vector.

    Arguments:
        shape: of a datum.
        outputs: how many numbers come out.
        hidden: the widths of the layers between.
        activation: makes a nonlinearity.
    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int,
        hidden: Sequence[int] = (200, 200),
        activation: Callable[[], nn.Module] = nn.Tanh,
    ) -> None:
        super().__init__()
        self.layers = layers([math.prod(shape), *hidden, outputs], activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, *shape) to (B, outputs)."""
        return self.layers(x.flatten(1))


class MLPDecoder(nn.Module):
    """From a vector to the parameters of a datum.

    Arguments:
        shape: of a datum, (C, *).
        inputs: the length of a code.
        outputs: how many numbers each place of the datum gets.
        hidden: the widths of the layers between.
        activation: makes a nonlinearity.
    """

    def __init__(
        self,
        shape: Sequence[int],
        inputs: int,
        outputs: int,
        hidden: Sequence[int] = (200, 200),
        activation: Callable[[], nn.Module] = nn.Tanh,
    ) -> None:
        super().__init__()
        self.out_shape = (outputs, *shape[1:])
        self.layers = layers([inputs, *hidden, math.prod(self.out_shape)], activation)

    def forward(self, z: Tensor) -> Tensor:
        """(B, inputs) to (B, outputs, *shape[1:])."""
        return self.layers(z).unflatten(1, self.out_shape)
