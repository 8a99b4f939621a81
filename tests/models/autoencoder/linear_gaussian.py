"""An autoencoder whose likelihood is known: linear maps and normal distributions.

    p(z) = N(0, I),    p(x | z) = N(x; W z + b, s^2 I)
    p(x) = N(x; b, W W^T + s^2 I),    p(z | x) = N(v W^T (x - b) / s^2, v),    v = (I + W^T W / s^2)^-1

The columns of W are at right angles to each other, so that v is diagonal.
"""

import math

import torch
from torch import Tensor, nn

from genlab.core.spec import Field
from genlab.models.autoencoder.gaussian import DiagonalGaussian, Gaussian
from genlab.models.autoencoder.model import Autoencoder
from genlab.models.autoencoder.objective import Elbo, Likelihood
from genlab.models.outputs import gaussian

DIMENSIONS, SIZE, SCALE = 6, 3, 0.5
_generator = torch.Generator().manual_seed(0)
W = torch.linalg.qr(torch.randn(DIMENSIONS, SIZE, generator=_generator, dtype=torch.float64))[0] * torch.tensor(
    [1.5, 0.8, 0.3], dtype=torch.float64
)
B = torch.randn(DIMENSIONS, generator=_generator, dtype=torch.float64)
VARIANCE = 1 / (1 + W.square().sum(0) / SCALE**2)
MARGINAL = torch.distributions.MultivariateNormal(B, W @ W.T + SCALE**2 * torch.eye(DIMENSIONS, dtype=torch.float64))


def data(rows: int) -> Tensor:
    """From p(x), (rows, D)."""
    generator = torch.Generator().manual_seed(1)
    z, eps = (torch.randn(rows, n, generator=generator, dtype=torch.float64) for n in (SIZE, DIMENSIONS))
    return z @ W.T + B + SCALE * eps


def exact(x: Tensor) -> Tensor:
    """-log p(x), (rows,)."""
    return -MARGINAL.log_prob(x.double())


def likelihood(x: Tensor, w: Tensor = W) -> Likelihood:
    """log p(x | z), of z (B, k, L) or of other shapes of as many numbers."""

    def log_prob(z: Tensor) -> Tensor:
        off = (x[:, None] - z.flatten(2) @ w.T - B) / SCALE
        return -(off.square() + 2 * math.log(SCALE) + math.log(2 * math.pi)).sum(2) / 2

    return log_prob


def posterior(x: Tensor, shift: float | Tensor = 0.0, widen: float | Tensor = 1.0) -> DiagonalGaussian:
    """p(z | x) itself, or one whose means are moved and whose standard deviations are multiplied."""
    mean = VARIANCE * ((x - B) @ W) / SCALE**2 + shift
    return DiagonalGaussian(mean, (VARIANCE.log() + 2 * torch.as_tensor(widen).log()).expand_as(mean))


def model(shift: float = 0.0, widen: float = 1.0) -> Autoencoder:
    """The same as an autoencoder of linear layers, in single precision."""
    made = Autoencoder(
        {"x": Field((DIMENSIONS,))},
        lambda outputs: nn.Linear(DIMENSIONS, outputs),
        Gaussian(SIZE),
        lambda inputs, outputs: nn.Linear(inputs, outputs),
        gaussian.Gaussian((DIMENSIONS,), scale=SCALE),
        Elbo(),
    )
    to_mean = (W * VARIANCE / SCALE**2).T
    with torch.no_grad():
        made.encoder.weight.copy_(torch.cat([to_mean, torch.zeros_like(to_mean)]))
        made.encoder.bias.copy_(torch.cat([shift - to_mean @ B, VARIANCE.log() + 2 * math.log(widen)]))
        made.decoder.weight.copy_(W)
        made.decoder.bias.copy_(B)
    return made.eval()
