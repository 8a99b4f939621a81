"""What a diffusion model's likelihood is computed by: a bound of T steps, one in continuous time, or an ODE.

A bound is a mean over times, and so it can be trained as well as measured:

    -log p(x_0) <= E_{t, eps} term(t) + ends,    t uniform over the steps of a table, or over (0, 1)
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.models.contract import Nll
from genlab.models.diffusion.denoiser import Denoised, Denoiser
from genlab.models.diffusion.schedule import Schedule


class Estimator(ABC):
    """Minus the log-likelihood of data, from what a denoiser says of them."""

    @abstractmethod
    def __call__(
        self, schedule: Schedule, denoise: Denoiser, x_0: Tensor, field: Field, rng: Rng, bounded: bool
    ) -> Nll:
        """That of each of x_0 (B, *).

        Models call it without gradients; where it needs those of `denoise` it turns them on itself.

        Arguments:
            denoise: gives x_0 from x_t; may be called under `torch.enable_grad`.
            field: the shape and the levels of a datum.
            rng: one row a datum.
            bounded: the data lie in [-1, 1], so that estimates of x_0 may be kept there.
        """


class Bound(Estimator):
    """An upper bound on minus the log-likelihood, which a model may be trained by."""

    @abstractmethod
    def check(self, schedule: Schedule, outputs: int) -> None:
        """Raise a UserError where a model cannot be trained by it.

        Arguments:
            schedule: the model's.
            outputs: 2 where its network says variances.
        """

    @abstractmethod
    def term(self, schedule: Schedule, x_0: Tensor, t: Tensor, denoised: Denoised, field: Field) -> Tensor:
        """term(t) above in nats, (B,) in double, with gradients.

        Arguments:
            x_0: (B, *), the data.
            t: (B,), the times at which they were noised.
            denoised: what the network made of them there.
        """

    @abstractmethod
    def ends(self, schedule: Schedule, x_0: Tensor, field: Field, rng: Rng) -> Mapping[str, Tensor]:
        """What does not ask the network, in nats, each (B,) in double, with gradients."""


def within(denoised: Denoised, bounded: bool) -> Denoised:
    """With the estimate of x_0 kept in [-1, 1] where data are bounded."""
    return denoised._replace(x_0=denoised.x_0.clamp(-1, 1)) if bounded else denoised


def stratified(k: int, count: int, x_0: Tensor, rng: Rng) -> Tensor:
    """k of the numbers 0 .. count - 1 for each of x_0 (B, *), uniform in each of k equal parts: (B, k) int64.

    All of them in order, and nothing drawn, where k = count.
    """
    offset = rng.uniform(k, dtype=torch.float64) if k < count else x_0.new_zeros(len(x_0), k, dtype=torch.float64)
    strata = torch.arange(k, dtype=torch.float64, device=x_0.device)
    # A whole number must not be floored to the one below where rounding leaves it short.
    return ((strata + offset) * (count / k) + 1e-9).long().clamp(max=count - 1)
