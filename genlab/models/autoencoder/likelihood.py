"""What an autoencoder's data cost: bounds on, and estimates of, minus the log-likelihood.

    elbo          E_q[-log p(x | z)] + KL(q(z | x) | p(z))  >=  -log p(x)
    importance    -log 1/k sum_i p(x | z_i) p(z_i) / q(z_i | x),    z_i ~ q(z | x)

The second is above -log p(x) in expectation, too, and comes down to it as k grows. Its draws are seen a few at a time,
so memory does not grow with k.

References:
    Importance Weighted Autoencoders (Burda, Grosse & Salakhutdinov, 2016), section 3 and its theorem 1.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.autoencoder.bottleneck import Posterior
from genlab.models.autoencoder.objective import Likelihood, divergence, log_weights
from genlab.models.contract import Nll

# Codes that are drawn together, a datum.
DRAWN = 50


class Estimator(ABC):
    """Minus the log-likelihood of data from what an autoencoder says of them."""

    @abstractmethod
    def __call__(self, likelihood: Likelihood, posterior: Posterior, rng: Rng) -> Nll:
        """That of each datum of the posterior's batch.

        Models call it without gradients; where it needs any it turns them on itself.
        """


class Elbo(Estimator):
    """The evidence lower bound.

    Arguments:
        draws: of z, a datum.
    """

    def __init__(self, draws: int = 1) -> None:
        if draws < 1:
            raise ValueError(f"draws must be at least 1, not {draws}")
        self.draws = draws

    def __call__(self, likelihood: Likelihood, posterior: Posterior, rng: Rng) -> Nll:
        z = posterior.sample(rng, self.draws)
        terms = {"distortion": -likelihood(z).mean(1).double(), "rate": divergence(posterior, z).double()}
        form = "in closed form" if posterior.kl() is not None else "by the same draws"
        how = f"evidence lower bound, {self.draws} draws of z a datum, the divergence {form}"
        how += f"; {posterior.nature}" if posterior.nature else ""
        return Nll(terms["distortion"] + terms["rate"], "upper", terms, how)


class ImportanceWeighted(Estimator):
    """The importance-weighted estimate.

    Arguments:
        k: draws of z, a datum.
        chunk: of these, how many are decoded at once; changes memory and speed alone. A CPU wants few, so that what is
            computed of them stays in its cache.
    """

    def __init__(self, k: int = 5000, chunk: int = 10) -> None:
        for name, value in (("k", k), ("chunk", chunk)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        self.k, self.chunk = k, chunk

    def __call__(self, likelihood: Likelihood, posterior: Posterior, rng: Rng) -> Nll:
        total: Tensor | None = None
        for z in self.drawn(posterior, rng):
            part = torch.logsumexp(log_weights(likelihood, posterior, z).double(), 1)
            total = part if total is None else torch.logaddexp(total, part)
        assert total is not None
        how = f"importance-weighted estimate, {self.k} draws of z a datum"
        how += f"; {posterior.nature}" if posterior.nature else ""
        return Nll(math.log(self.k) - total, "estimate", {}, how)

    def drawn(self, posterior: Posterior, rng: Rng) -> Iterator[Tensor]:
        """All k draws, (B, at most chunk, *) at a time.

        They are made so many at a time, whatever the chunk, that each is the same one with any.
        """
        made = max(1, self.chunk // DRAWN) * DRAWN
        for first in range(0, self.k, made):
            last = min(self.k, first + made)
            parts = [posterior.sample(rng, min(DRAWN, last - start)) for start in range(first, last, DRAWN)]
            yield from torch.cat(parts, 1).split(self.chunk, 1)
