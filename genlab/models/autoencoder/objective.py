"""What an autoencoder minimises, in nats a datum, sums over all pixels and all numbers of the code.

    elbo          E_q[-log p(x | z)] + beta KL(q(z | x) | p(z)) + penalties
    capacity      E_q[-log p(x | z)] + gamma |KL(q(z | x) | p(z)) - C| + penalties
    importance    -log 1/k sum_i p(x | z_i) p(z_i) / q(z_i | x) + penalties,    z_i ~ q(z | x)

With beta = 1 the first is a bound on minus the log-likelihood, and the third with k draws a tighter one.

References:
    Auto-Encoding Variational Bayes (Kingma & Welling, 2014), section 2.2.
    beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework (Higgins et al., 2017), eq. 4.
    Importance Weighted Autoencoders (Burda, Grosse & Salakhutdinov, 2016), eq. 8.
    Ladder Variational Autoencoders (Sonderby et al., 2016), section 2.3, the warm-up.
    Understanding disentangling in beta-VAE (Burgess et al., 2018), eq. 8.
    Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives (Tucker et al., 2019), eq. 6.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.autoencoder.bottleneck import Posterior

Likelihood = Callable[[Tensor], Tensor]
"""From codes z (B, k, *) to log p(x | z) of the batch's own x, (B, k) in nats."""


def divergence(posterior: Posterior, z: Tensor) -> Tensor:
    """KL(q(z | x) | p(z)), (B,): in closed form where there is one, else its estimate by z (B, k, *)."""
    closed = posterior.kl()
    return (posterior.log_prob(z) - posterior.log_prior(z)).mean(1) if closed is None else closed


def log_weights(likelihood: Likelihood, posterior: Posterior, z: Tensor) -> Tensor:
    """log p(x | z) p(z) / q(z | x) of z (B, k, *), (B, k)."""
    return likelihood(z) + posterior.log_prior(z) - posterior.log_prob(z)


class Objective(ABC):
    """What is minimised.

    Attributes:
        whole_batch: what a datum gives depends on the other data of its batch, in all processes.
        needs_prior: it is for codes that are drawn and have a prior, and not for points.
    """

    whole_batch: bool = False
    needs_prior: bool = False

    def check(self, variational: bool) -> None:
        """Raise a UserError where a bottleneck without a prior, or with one, does not suit it."""
        if self.needs_prior and not variational:
            raise UserError(
                f"objective: {type(self).__name__} is for codes that have a prior, and these are points; choose "
                "objective=elbo"
            )

    @abstractmethod
    def __call__(self, likelihood: Likelihood, posterior: Posterior, rng: Rng, step: int) -> dict[str, Tensor]:
        """What is minimised as "loss", and what is logged beside it, (B,) each.

        Arguments:
            posterior: q(z | x) of the batch.
            rng: one row a datum.
            step: of training.
        """


class Elbo(Objective):
    """The bound with a weight before its divergence.

    Arguments:
        beta: 1 is the bound.
        draws: of z, a datum.
        warmup_steps: over which the weight rises linearly to beta; 0 begins with beta.
    """

    def __init__(self, beta: float = 1.0, draws: int = 1, warmup_steps: int = 0) -> None:
        if not 0 <= beta < math.inf:
            raise ValueError(f"beta must be a number of at least 0, not {beta}")
        if draws < 1:
            raise ValueError(f"draws must be at least 1, not {draws}")
        if warmup_steps < 0:
            raise ValueError(f"warmup_steps must be at least 0, not {warmup_steps}")
        self.beta, self.draws, self.warmup_steps = beta, draws, warmup_steps

    def __call__(self, likelihood: Likelihood, posterior: Posterior, rng: Rng, step: int) -> dict[str, Tensor]:
        z = posterior.sample(rng, self.draws)
        distortion, rate = -likelihood(z).mean(1), divergence(posterior, z)
        beta = self.beta * min(1.0, (step + 1) / max(1, self.warmup_steps))
        parts = {"distortion": distortion, "rate": rate, **posterior.penalties}
        return {"loss": distortion + beta * rate + sum(posterior.penalties.values()), **parts}


class Capacity(Objective):
    """The divergence of each datum is held at C nats, which rise linearly from 0: what a code may tell grows.

    Arguments:
        capacity: C at the end, in nats.
        steps: over which C rises.
        gamma: what a nat away from C costs.
    """

    needs_prior = True

    def __init__(self, capacity: float = 25.0, steps: int = 100_000, gamma: float = 1000.0) -> None:
        for name, value in (("capacity", capacity), ("gamma", gamma)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a number of at least 0, not {value}")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        self.capacity, self.steps, self.gamma = capacity, steps, gamma

    def __call__(self, likelihood: Likelihood, posterior: Posterior, rng: Rng, step: int) -> dict[str, Tensor]:
        z = posterior.sample(rng)
        distortion, rate = -likelihood(z)[:, 0], divergence(posterior, z)
        away = (rate - self.capacity * min(1.0, step / self.steps)).abs()
        parts = {"distortion": distortion, "rate": rate, **posterior.penalties}
        return {"loss": distortion + self.gamma * away + sum(posterior.penalties.values()), **parts}


class ImportanceWeighted(Objective):
    """The bound of k importance samples.

    Arguments:
        k: draws of z, a datum.
        gradient: "standard" is the bound's own; "doubly_reparametrized" gives the encoder one of the same mean whose
            noise does not drown it as k grows, and the decoder the same.
    """

    needs_prior = True

    def __init__(self, k: int = 50, gradient: Literal["standard", "doubly_reparametrized"] = "standard") -> None:
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        self.k, self.gradient = k, gradient

    def __call__(self, likelihood: Likelihood, posterior: Posterior, rng: Rng, step: int) -> dict[str, Tensor]:
        z = posterior.sample(rng, self.k)
        standard = self.gradient == "standard"
        weights = log_weights(likelihood, posterior if standard else posterior.held(), z)
        if not standard and z.requires_grad:
            share = weights.detach().softmax(1)
            # d loss / d z_i has one share before it, and the encoder is to get its square.
            z.register_hook(lambda slope: slope * share.view(*share.shape, *[1] * (slope.ndim - 2)).to(slope))
        bound = math.log(self.k) - torch.logsumexp(weights, 1)
        return {"loss": bound + sum(posterior.penalties.values()), "elbo": weights.detach().mean(1)}
