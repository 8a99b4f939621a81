"""What data cost a flow: exact where they are real numbers, and a bound where noise was added to levels.

    -log p(x) <= -E log 1/k sum_i p(y_i) / q(y_i | x),    y_i ~ q(y | x), dequantized data

The bound comes down to the true value as k grows. Real data have no y, and the value is exact.

References:
    Flow++: Improving Flow-Based Generative Models with Variational Dequantization and Architecture Design (Ho et al.,
    2019), section 3.1 and appendix B.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.contract import Nll

Terms = Callable[[Rng], Mapping[str, Tensor]]
"""From the rng of a draw to the terms whose sum is minus the log-density, (B,) each."""


class FlowLikelihood:
    """The change of variables.

    Arguments:
        draws: k, of the noise of dequantized data, a datum.
    """

    def __init__(self, draws: int = 1) -> None:
        if draws < 1:
            raise ValueError(f"draws must be at least 1, not {draws}")
        self.draws = draws

    def __call__(self, terms: Terms, noisy: bool, rng: Rng) -> Nll:
        """That of each datum.

        Arguments:
            noisy: the terms depend on noise.
        """
        if not noisy or self.draws == 1:
            parts = {name: nats.double() for name, nats in terms(rng.stage("draw 0")).items()}
            how = "change of variables" + (", 1 draw of dequantizing noise a datum" if noisy else "")
            return Nll(torch.stack(list(parts.values())).sum(0), "upper" if noisy else "exact", parts, how)
        total: Tensor | None = None
        for draw in range(self.draws):
            found = terms(rng.stage(f"draw {draw}"))
            log_p = -torch.stack([nats.double() for nats in found.values()]).sum(0)
            total = log_p if total is None else torch.logaddexp(total, log_p)
        assert total is not None
        how = f"change of variables, importance-weighted over {self.draws} draws of dequantizing noise a datum"
        return Nll(math.log(self.draws) - total, "upper", {}, how)
