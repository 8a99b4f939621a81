"""Independent bits.

log p(x | l) = sum_i log sigmoid(x_i l_i),    x_i in {-1, 1}
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.outputs.output import Output


class _LogSigmoid(torch.autograd.Function):
    """(v - |v|) / 2 - log(1 + exp(-|v|)), of gradient sigmoid(-v)."""

    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        ctx.save_for_backward(v)
        size = v.abs()
        return (v - size).mul_(0.5).sub_(size.neg_().exp_().add_(1).log_())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (v,) = ctx.saved_tensors
        return gradient * (-v).sigmoid()


def log_sigmoid(v: Tensor) -> Tensor:
    """log sigmoid(v), to within rounding of 1.

    PyTorch's own has a logarithm of 1 + x that takes as long, on a CPU, as all else in a small decoder together.
    """
    return _LogSigmoid.apply(v) if v.device.type == "cpu" else F.logsigmoid(v)


class Bernoulli(Output):
    """A bit for each element, from its log-odds.

    Arguments:
        shape: (C, *) of a datum.
        levels: that it takes, which must be 2.

    The parameters are log-odds, one for each element, in the order of the elements. Raises UserError where the data
    have other than two levels.
    """

    by_channel = True

    def __init__(self, shape: Sequence[int], levels: int | None = 2) -> None:
        super().__init__()
        if levels != 2:
            has = "are real numbers" if levels is None else f"have {levels} levels"
            raise UserError(
                f"levels: output=bernoulli is for data of two levels, and these {has}; choose output=gaussian, "
                "categorical or logistic_mixture, or black and white data such as data=binarized_mnist"
            )
        self.features = shape[0]

    def log_probs(self, parameters: Tensor, x: Tensor) -> Tensor:
        return log_sigmoid(parameters * x).sum(1)

    def mean(self, parameters: Tensor) -> Tensor:
        return 2 * parameters.sigmoid() - 1

    def sample(self, parameters: Tensor, rng: Rng, temperature: float = 1.0) -> Tensor:
        u = rng.uniform(*parameters.shape[1:]).to(parameters)
        return torch.where(u < (parameters / temperature).sigmoid(), 1.0, -1.0).to(parameters)
