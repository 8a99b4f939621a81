"""Codes whose numbers depend on each other: an inverse autoregressive flow from a normal posterior.

    z_0 = mu + sigma eps,    z_t = s_t(z_{t-1}, c) z_{t-1} + (1 - s_t(z_{t-1}, c)) m_t(z_{t-1}, c),    z = z_T
    log q(z | x) = log N(z_0; mu, sigma^2) - sum_t sum_i log s_{t,i}

mu, sigma and the context c are what the encoder says. The density of a draw is known as it is made, and is remembered
with it; that of any other z takes a step for each number of the code.

References:
    Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016), sections 3 and 4.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Field, Spec
from genlab.models.autoencoder.bottleneck import Bottleneck, Posterior
from genlab.models.autoencoder.gaussian import LOG_VARIANCE, log_normal
from genlab.models.flow.autoregressive import Order
from genlab.models.flow.iaf import gates
from genlab.models.flow.transform import Transform


class FlowPosterior(Posterior):
    """A normal distribution that went through a flow, with the standard normal prior.

    Arguments:
        mean, log_variance: (B, D), of z_0.
        context: (B, V), which the flow hears.
        flow: from z_0 to z.
    """

    def __init__(self, mean: Tensor, log_variance: Tensor, context: Tensor | None, flow: Transform) -> None:
        self.mean, self.log_variance, self.context, self.flow = mean, log_variance, context, flow
        self.drawn: tuple[Tensor, Tensor] | None = None

    def _context(self, k: int) -> Tensor | None:
        return None if self.context is None else self.context.repeat_interleave(k, 0)

    def _log_normal(self, z_0: Tensor) -> Tensor:
        return log_normal(z_0, self.mean[:, None], self.log_variance[:, None])

    def sample(self, rng: Rng, k: int = 1) -> Tensor:
        eps = rng.normal(k, *self.mean.shape[1:], dtype=self.mean.dtype)
        z_0 = self.mean[:, None] + (self.log_variance / 2).exp()[:, None] * eps
        z, log_det = self.flow(z_0.flatten(0, 1), self._context(k))
        z = z.unflatten(0, (-1, k))
        self.drawn = z, self._log_normal(z_0) - log_det.unflatten(0, (-1, k))
        return z

    def mode(self) -> Tensor:
        """The z of z_0 = mu, which need not be that of highest density."""
        z: Tensor = self.flow(self.mean, self.context)[0]
        return z

    def log_prob(self, z: Tensor) -> Tensor:
        if self.drawn is not None and self.drawn[0] is z:
            return self.drawn[1]
        k = z.shape[1]
        z_0, log_det = self.flow.inverse(z.flatten(0, 1), self._context(k))
        return self._log_normal(z_0.unflatten(0, (-1, k))) + log_det.unflatten(0, (-1, k))

    def log_prior(self, z: Tensor) -> Tensor:
        return -(z.square().sum(2) + z.shape[2] * math.log(2 * math.pi)) / 2


class InverseAutoregressive(Bottleneck):
    """Codes of a flow.

    Arguments:
        size: D, of a code.
        steps: T.
        hidden: the widths of a step's layers.
        order: "reversed" turns the order around from step to step; "random" draws it.
        context: V, the width of what the encoder tells the flow; 0 tells it nothing.
    """

    def __init__(
        self,
        size: int,
        steps: int = 4,
        hidden: Sequence[int] = (256,),
        order: Order = "reversed",
        context: int = 64,
    ) -> None:
        super().__init__()
        for name, value, least in (("size", size, 1), ("context", context, 0)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, not {value}")
        self.size, self.inputs, self.outputs = size, 2 * size + context, size
        self.flow = gates(size, steps, hidden, order, context)

    def forward(self, h: Tensor, step: int | None = None) -> FlowPosterior:
        if h.ndim != 2:
            raise UserError(
                "bottleneck=iaf: its codes are vectors, and this encoder makes maps; choose encoder=mlp, or conv"
            )
        mean, log_variance, context = h.split([self.size, self.size, self.inputs - 2 * self.size], dim=1)
        heard = context if context.shape[1] else None
        return FlowPosterior(mean, log_variance.clamp(*LOG_VARIANCE), heard, self.flow)

    def fields(self, shape: torch.Size) -> Spec:
        return {"z": Field(tuple(shape))}
