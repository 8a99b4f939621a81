"""The divergence of codes from their prior in three parts, and a weight for the one that says how dependent they are.

    E_x KL(q(z | x) | p(z)) =   KL(q(z, x) | q(z) p(x))          what codes tell of which datum it is
                              + KL(q(z) | prod_j q(z_j))         total correlation
                              + sum_j KL(q(z_j) | p(z_j))        how far each number is from its prior

    loss = E[-log p(x | z)] + information + beta total correlation + dimension-wise

Here q(z) = 1/N sum_n q(z | x_n) over the N data of the training set. In training it is found from the M data of a
batch, among which the one that z was drawn for is for sure:

    weighted      q(z) ~ 1/(N M) sum_m q(z | x_m)
    stratified    q(z) ~ 1/N q(z | x) + (N - 1) / (N (M - 1)) sum of q(z | x_m) over the others

The first is far too small where N is much larger than M, by a factor that its gradient hardly feels. The second is
right in the mean; it is the published one, averaged over the orders that a batch may have.

References:
    Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018), eq. 2 to 4, appendix C.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from genlab.core.collectives import all_cat, all_cat_with_gradients
from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.autoencoder.bottleneck import Posterior
from genlab.models.autoencoder.gaussian import DiagonalGaussian
from genlab.models.autoencoder.objective import Likelihood, Objective


class TotalCorrelation(Objective):
    """The bound with a weight before the total correlation: that of a beta-TCVAE.

    A batch's q(z) is taken over the rows of all processes, so they learn what one would from the whole batch.

    Arguments:
        data_size: N, how many data the training set has.
        beta: 1 is the bound.
        sampling: "weighted" or "stratified", above.
    """

    whole_batch = True
    needs_prior = True

    def __init__(
        self, data_size: int, beta: float = 6.0, sampling: Literal["weighted", "stratified"] = "weighted"
    ) -> None:
        if data_size < 2:
            raise ValueError(f"data_size must be at least 2, not {data_size}")
        if not 0 <= beta < math.inf:
            raise ValueError(f"beta must be a number of at least 0, not {beta}")
        self.data_size, self.beta, self.sampling = data_size, beta, sampling

    def __call__(self, likelihood: Likelihood, posterior: Posterior, rng: Rng, step: int) -> dict[str, Tensor]:
        if not isinstance(posterior, DiagonalGaussian):
            raise UserError(
                "objective=total_correlation: is for codes of independent numbers; choose bottleneck=gaussian"
            )
        z = posterior.sample(rng)
        distortion, parts = -likelihood(z)[:, 0], self.split(posterior, z, rng.index)
        information, correlation, dimension_wise = parts.values()
        loss = distortion + information + self.beta * correlation + dimension_wise + sum(posterior.penalties.values())
        return {"loss": loss, "distortion": distortion, **parts, **posterior.penalties}

    def split(self, posterior: DiagonalGaussian, z: Tensor, index: Tensor) -> dict[str, Tensor]:
        """The three parts of log q(z | x) / p(z), (B,) each.

        Arguments:
            posterior: of the batch.
            z: (B, 1, *), drawn from it.
            index: (B,), the numbers of its rows among those of all processes.
        """
        own = index[:, None] == all_cat(index)
        # Half precision, should the encoder run in it, is too little for the logarithm of a sum.
        precise = torch.promote_types(z.dtype, torch.float32)
        mean, log_variance = (
            all_cat_with_gradients(value.flatten(1).to(precise)) for value in (posterior.mean, posterior.log_variance)
        )
        away = z.flatten(1).to(precise)[:, None] - mean
        # Of each number of z under each q, (B, M, D).
        each = -(math.log(2 * math.pi) + log_variance + away.square() * (-log_variance).exp()) / 2
        weights = self.log_weights(own).to(each)
        log_q = torch.logsumexp(weights + each.sum(2), 1)
        log_product = torch.logsumexp(weights[:, :, None] + each, 1).sum(1)
        return {
            "information": posterior.log_prob(z)[:, 0] - log_q,
            "total_correlation": log_q - log_product,
            "dimension_wise": log_product - posterior.log_prior(z)[:, 0],
        }

    def log_weights(self, own: Tensor) -> Tensor:
        """Of each q(z | x_m) in q(z), (B, M); `own` says which of them z was drawn from."""
        rows, of_all = own.shape[1], torch.zeros_like(own, dtype=torch.float64)
        if self.sampling == "weighted":
            return of_all - math.log(self.data_size * rows)
        others = (self.data_size - 1) / (self.data_size * max(1, rows - 1))
        return torch.where(own, of_all - math.log(self.data_size), math.log(others))
