"""What the codes of data are distributed like, found after training where nothing held them to a prior.

    p(z) = sum_k pi_k N(z; mu_k, L_k L_k^T)

References:
    From Variational to Deterministic Autoencoders (Ghosh et al., 2020), section 4: ex-post density estimation.
"""

import math
import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from genlab.core.collectives import of_first
from genlab.core.errors import UserError
from genlab.core.rng import Rng


class CodeDensity(nn.Module):
    """A mixture of normal distributions, by scikit-learn; it travels with the weights.

    Arguments:
        size: of a code, all its numbers in a row.
        components: K.
        data: how many codes it is fitted to, at most.
    """

    weights: Tensor
    means: Tensor
    factors: Tensor
    fitted: Tensor

    def __init__(self, size: int, components: int = 10, data: int = 10_000) -> None:
        super().__init__()
        for name, value in (("components", components), ("data", data)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        self.components, self.data = components, data
        self.register_buffer("weights", torch.zeros(components, dtype=torch.float64))
        self.register_buffer("means", torch.zeros(components, size, dtype=torch.float64))
        self.register_buffer("factors", torch.zeros(components, size, size, dtype=torch.float64))
        self.register_buffer("fitted", torch.tensor(False))

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Fit it to codes (B, *) as they come; all processes get what the first one finds.

        Raises UserError where there are fewer codes than components, or they are not finite.
        """
        found = of_first(lambda: self._found(batches))
        for buffer, value in zip((self.weights, self.means, self.factors), found, strict=True):
            buffer.copy_(value)
        self.fitted.fill_(True)

    def forget(self) -> None:
        """Be as it was before it was fitted."""
        for buffer in self.buffers():
            buffer.zero_()

    def _found(self, batches: Iterable[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        codes, count = [], 0
        for batch in batches:
            codes.append(batch.flatten(1).double().cpu())
            count += len(batch)
            if count >= self.data:
                break
        z = torch.cat(codes)[: self.data]
        if len(z) < self.components:
            raise UserError(
                f"model.density.components={self.components}: there are {len(z)} training data to fit it to"
            )
        if not z.isfinite().all():
            raise UserError(
                "model.density: the codes of training data are not finite numbers, so nothing can be fitted to them; a "
                "smaller optim.lr or optim.gradient_clip may help"
            )
        scale = float(z.var(0).mean()) if len(z) > 1 else 0.0
        mixture = GaussianMixture(self.components, reg_covar=max(1e-6 * scale, 1e-12), random_state=0)
        with warnings.catch_warnings():
            # A mixture that would still improve a little serves as well.
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(z.numpy())
        covariances = torch.from_numpy(mixture.covariances_)
        return (
            torch.from_numpy(mixture.weights_),
            torch.from_numpy(mixture.means_),
            torch.linalg.cholesky(covariances),
        )

    def sample(self, rng: Rng, shape: tuple[int, ...]) -> Tensor:
        """A code of this shape for each row of `rng`, (B, *shape)."""
        u = rng.stage("component").uniform(dtype=torch.float64)
        component = torch.searchsorted(self.weights.cumsum(0), u).clamp(max=self.components - 1)
        eps = rng.stage("code").normal(math.prod(shape), dtype=torch.float64)
        z = self.means[component] + torch.einsum("bij,bj->bi", self.factors[component], eps)
        return z.reshape(len(z), *shape).float()

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) of codes (B, *), (B,) in nats, in double."""
        apart = z.flatten(1).double()[:, None] - self.means
        white = torch.linalg.solve_triangular(self.factors, apart[..., None], upper=False)[..., 0]
        volume = self.factors.diagonal(dim1=1, dim2=2).log().sum(1) + math.log(2 * math.pi) * self.means.shape[1] / 2
        return torch.logsumexp(self.weights.log() - volume - white.square().sum(2) / 2, 1)
