"""The variational bottleneck: independent normal codes.

    q(z | x) = N(mu, diag sigma^2),    p(z) = N(0, I),    KL = 1/2 sum (mu^2 + sigma^2 - 1 - log sigma^2)

References:
    Auto-Encoding Variational Bayes (Kingma & Welling, 2014), appendices B and C.
"""

import math

import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.core.spec import Field, Spec
from genlab.models.autoencoder.bottleneck import Bottleneck, Posterior

# A variance beyond these overflows single precision, or hides a code altogether.
LOG_VARIANCE = (-30.0, 20.0)


def log_normal(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log N(z; mean, exp(log_variance)) of z (B, k, *), with mean and log-variance (B, 1, *) or (B, k, *): (B, k)."""
    squared = ((z - mean) * (-log_variance / 2).exp()).square()
    return -(squared.flatten(2).sum(2) + (log_variance + math.log(2 * math.pi)).flatten(2).sum(2)) / 2


class DiagonalGaussian(Posterior):
    """N(mean, diag exp(log_variance)), with the standard normal prior.

    Arguments:
        mean, log_variance: (B, *).
    """

    def __init__(self, mean: Tensor, log_variance: Tensor) -> None:
        self.mean, self.log_variance = mean, log_variance

    def sample(self, rng: Rng, k: int = 1) -> Tensor:
        eps = rng.normal(k, *self.mean.shape[1:], dtype=self.mean.dtype)
        return self.mean[:, None] + (self.log_variance / 2).exp()[:, None] * eps

    def mode(self) -> Tensor:
        return self.mean

    def log_prob(self, z: Tensor) -> Tensor:
        return log_normal(z, self.mean[:, None], self.log_variance[:, None])

    def log_prior(self, z: Tensor) -> Tensor:
        z = z.flatten(2)
        return -(z.square().sum(2) + z.shape[2] * math.log(2 * math.pi)) / 2

    def held(self) -> "DiagonalGaussian":
        return DiagonalGaussian(self.mean.detach(), self.log_variance.detach())

    def kl_of_each(self) -> Tensor:
        """The KL divergence of each number of the code, (B, *), of which `kl` is the sum."""
        return (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance) / 2

    def kl(self) -> Tensor:
        return self.kl_of_each().flatten(1).sum(1)


class Gaussian(Bottleneck):
    """Normal codes of independent numbers.

    Arguments:
        size: of a code, or of each place of it where codes are maps.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"size must be at least 1, not {size}: a code has at least one number")
        self.inputs, self.outputs = 2 * size, size

    def forward(self, h: Tensor, step: int | None = None) -> DiagonalGaussian:
        # In half precision a variance would have two digits, and a divergence none of worth.
        mean, log_variance = h.to(torch.promote_types(h.dtype, torch.float32)).chunk(2, dim=1)
        return DiagonalGaussian(mean, log_variance.clamp(*LOG_VARIANCE))

    def fields(self, shape: torch.Size) -> Spec:
        return {"z": Field(tuple(shape))}
