"""The variational bound of bits that are flipped in T steps.

    -log p(x_0) <= L_T + sum_{i=2..T} L_{i-1} + L_0
    L_T     = KL(q(x_T | x_0) || fair coins)
    L_{i-1} = E KL(q(x_{i-1} | x_i, x_0) || p(x_{i-1} | x_i))
    L_0     = E -log p(x_0 | x_1)

Each KL is that of single bits and has a closed form. L_0 is the formula of L_{i-1} at i = 1, where q is certain of x_0.

References:
    Deep Unsupervised Learning using Nonequilibrium Thermodynamics (Sohl-Dickstein et al., 2015), section 2.4.
"""

from typing import Literal

import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.contract import Nll
from genlab.models.diffusion.bits import (
    Beliefs,
    flipped,
    kl,
    posterior_log_odds,
    prior_kl,
    reverse_log_probabilities,
    steps_of,
)
from genlab.models.diffusion.estimator import stratified
from genlab.models.diffusion.schedule import Schedule


class BinomialBound:
    """The bound, in full or from k of its T terms.

    With t = k the terms L_1 .. L_{T-1} are estimated, without bias, from one uniform draw in each of k equal strata
    of the times, and L_T and L_0 are always computed; the error of the mean over data is measured by evaluation.

    Arguments:
        t: "all", or k.
    """

    def __init__(self, t: int | Literal["all"] = 20) -> None:
        if isinstance(t, int) and t < 1:
            raise ValueError(f"t must be at least 1 or all, not {t}")
        self.t = t

    @staticmethod
    def term(schedule: Schedule, x_0: Tensor, x_t: Tensor, t: Tensor, belief: Tensor) -> Tensor:
        """L_{i-1} in nats at t = i / T, from one x_t, (B,) in double, with gradients.

        Arguments:
            belief: (B, *), the log-odds of x_0 = 1 at x_t.
        """
        steps = steps_of(schedule)
        number = (t * steps).round()
        t, s = number / steps, (number - 1) / steps
        one, other = reverse_log_probabilities(schedule, x_t, belief, t, s)
        return kl(posterior_log_odds(schedule, x_t, x_0, t, s), one, other).flatten(1).sum(1)

    def __call__(self, schedule: Schedule, beliefs: Beliefs, x_0: Tensor, rng: Rng) -> Nll:
        """The bound for each of x_0 (B, *), for a schedule of T steps."""
        steps = steps_of(schedule)
        count = steps - 1
        k = count if self.t == "all" else min(self.t, count)
        rng = rng.stage("bound")
        number = stratified(k, count, x_0, rng) + 2

        def at(number: Tensor) -> Tensor:
            t = number.double() / steps
            x_t = flipped(schedule, x_0, t, rng.uniform(*x_0.shape[1:], dtype=torch.float64))
            return self.term(schedule, x_0, x_t, t, beliefs(x_t, t))

        l_0 = at(torch.ones_like(number[:, 0]))
        between = torch.stack([at(column) for column in number.unbind(1)], dim=1) * (count / k)
        l_end = prior_kl(schedule, x_0)
        terms = {"L_T": l_end, "L_1..T-1": between.sum(1), "L_0": l_0}
        if self.t == "all":
            terms["L_t"] = torch.cat([l_0[:, None], between, l_end[:, None]], dim=1)
        how = "variational bound of flipped bits, " + (
            f"all {steps} steps" if self.t == "all" else f"{k} stratified of {steps} steps a datum"
        )
        return Nll(l_end + l_0 + between.sum(1), "upper", terms, how)
