"""Where styles come from: noise, and what the condition says, through plain layers that learn slowly.

    w = f(n(z), n(A c)),    n(v) = v / sqrt(mean v^2)

A critic's view of the condition is made alike, of the condition alone.

References:
    A Style-Based Generator Architecture for Generative Adversarial Networks (Karras, Laine & Aila, 2019), section 2.
    Training Generative Adversarial Networks with Limited Data (Karras et al., 2020), appendix D.1, class conditions.
"""

import torch
from torch import Tensor, nn

from genlab.networks.adversarial.stylegan2_layers import EqualLinear, leaky, normalized
from genlab.networks.condition import Condition, parts
from genlab.networks.layers import at_least_one

RATE = 0.01
"""Of learning, of what others learn at."""


class Mapping(nn.Module):
    """From noise to styles.

    Arguments:
        size: of the noise, 0 for none.
        style: W, numbers of a style.
        depth: layers.
        vector: the width of condition.vector, 0 for none; noise or a condition there must be.
    """

    def __init__(self, size: int, style: int, depth: int = 8, vector: int = 0) -> None:
        super().__init__()
        at_least_one(style=style, mapping=depth)
        self.vector = vector
        told = (size or style) if vector else 0
        self.embed = EqualLinear(vector, told) if vector else None
        widths = [size + told, *[style] * depth]
        self.layers = nn.ModuleList(EqualLinear(inputs, style, rate=RATE) for inputs in widths[:-1])

    def forward(self, z: Tensor | None, condition: Condition | None = None) -> Tensor:
        """w (B, style) of noise z (B, size)."""
        found = [] if z is None else [normalized(z)]
        vector = parts(condition, self.vector)[0]
        if self.embed is not None and vector is not None:
            found.append(normalized(self.embed(vector)))
        w = torch.cat(found, dim=1)
        for layer in self.layers:
            w = leaky(layer(w))
        return w
