"""A level for each element, from one number a level: the "256-way" softmax of 8-bit data.

    p(x_i = v | l) = exp(l_iv) / sum_u exp(l_iu)

References:
    Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner & Kavukcuoglu, 2016), section 2, pixels as
    discrete variables.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from genlab.core.rng import Rng
from genlab.core.units import from_levels, to_levels
from genlab.models.outputs.output import Output, check_levels


def choose(logits: Tensor, u: Tensor, dim: int) -> Tensor:
    """An index along `dim`, int64, with the probabilities softmax(logits), by uniform numbers u of the other sizes."""
    first = logits.shape[dim] - 1
    steps = logits.softmax(dim).cumsum(dim).narrow(dim, 0, first)
    return (steps < u.to(steps).unsqueeze(dim)).sum(dim)


class Categorical(Output):
    """Any probabilities for the levels of each element, which are independent given the parameters.

    Arguments:
        shape: (C, *) of a datum.
        levels: that it takes.

    The parameters are C times `levels` logits, those of the first channel first. Raises UserError where the data have
    no levels.
    """

    by_channel = True
    values: Tensor

    def __init__(self, shape: Sequence[int], levels: int | None = 256) -> None:
        super().__init__()
        self.layout = (shape[0], check_levels("categorical", levels))
        self.features = self.layout[0] * self.layout[1]
        self.register_buffer("values", from_levels(torch.arange(self.layout[1]), self.layout[1]), persistent=False)

    def logits(self, parameters: Tensor) -> Tensor:
        """(B, C, levels, *)."""
        return parameters.unflatten(1, self.layout)

    def log_probs(self, parameters: Tensor, x: Tensor) -> Tensor:
        v = to_levels(x, self.layout[1])
        logits = self.logits(parameters).flatten(0, 1)
        return -F.cross_entropy(logits, v.flatten(0, 1), reduction="none").view(v.shape).sum(1)

    def mean(self, parameters: Tensor) -> Tensor:
        p = self.logits(parameters).softmax(2)
        return torch.einsum("bcl...,l->bc...", p, self.values.to(p.dtype))

    def sample(self, parameters: Tensor, rng: Rng, temperature: float = 1.0) -> Tensor:
        logits = self.logits(parameters) / temperature
        index = choose(logits, rng.uniform(self.layout[0], *parameters.shape[2:]), 2)
        return from_levels(index, self.layout[1], parameters.dtype)
