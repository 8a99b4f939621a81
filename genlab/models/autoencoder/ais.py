"""Annealed importance sampling of an autoencoder's likelihood.

    f_b(z) = q_0(z)^(1 - b) (p(z) p(x | z))^b,    0 = b_0 < .. < b_T = 1
    log w = sum_t (b_t - b_{t-1}) log [p(z_{t-1}) p(x | z_{t-1}) / q_0(z_{t-1})],    -log p(x) ~ -log 1/k sum_i w_i

z_0 is drawn from q_0, which is the prior or the encoder's q, and z_t from z_{t-1} by a step that leaves f_{b_t} as it
is: Hamiltonian Monte Carlo,

    p ~ N(0, I),    L times p += e/2 s grad log f,  z += e s p,  p += e/2 s grad log f,    kept with min(1, exp(-dH))

where 1/s^2 goes from q_0's precision to q's. The b_t are the values of a sigmoid at even places from -4 to 4, stretched
to reach from 0 to 1.

E[w] = p(x) whatever the steps do, so long as their sizes do not depend on what these very chains have done. Sizes e are
therefore found by a short run beforehand, with other random numbers, that for each datum seeks an acceptance of 65%.

References:
    Annealed Importance Sampling (Neal, 2001).
    MCMC using Hamiltonian dynamics (Neal, 2011), sections 2.3 and 4.4.
    On the Quantitative Analysis of Decoder-Based Generative Models (Wu et al., 2017), section 3 and appendix D.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.autoencoder.bottleneck import Posterior
from genlab.models.autoencoder.gaussian import DiagonalGaussian
from genlab.models.autoencoder.likelihood import Estimator
from genlab.models.autoencoder.objective import Likelihood
from genlab.models.contract import Nll

# What the sizes of steps are changed to reach, and how fast their logarithms follow.
ACCEPTANCE, RATE = 0.65, 0.5
# By how much, at most, the size of each step differs from what was found: where all were equal, paths could close.
JITTER = 0.2
# The sigmoid is followed from minus this to this.
SIGMOID = 4.0


def inverse_temperatures(count: int) -> list[float]:
    """b_0 to b_count."""
    raw = torch.linspace(-SIGMOID, SIGMOID, count + 1, dtype=torch.float64).sigmoid()
    return ((raw - raw[0]) / (raw[-1] - raw[0])).tolist()


class Point(NamedTuple):
    """z (B, k, *), log q_0 and log p(x, z) / q_0(z) there (B, k), and the gradients of both (B, k, *)."""

    z: Tensor
    start: Tensor
    tilt: Tensor
    start_slope: Tensor
    tilt_slope: Tensor

    def log_density(self, b: float) -> Tensor:
        """log f_b(z), (B, k)."""
        return self.start + b * self.tilt

    def slope(self, b: float) -> Tensor:
        """Its gradient, (B, k, *)."""
        return self.start_slope + b * self.tilt_slope


def beside(values: Tensor, z: Tensor) -> Tensor:
    """Values (B, k) or (B, 1) with as many dimensions as z (B, k, *)."""
    return values.view(*values.shape, *[1] * (z.ndim - 2)).to(z.dtype if values.is_floating_point() else values.dtype)


class AnnealedImportance(Estimator):
    """Annealed importance sampling with Hamiltonian Monte Carlo, for codes that are real numbers.

    -log of an unbiased estimate of p(x) is above -log p(x) in expectation, and comes down to it with more temperatures.

    Arguments:
        temperatures: T, how many b follow b_0.
        chains: k, a datum.
        leapfrog: L, how many the small steps of a step are.
        start: "prior" or "posterior", where chains begin.
        pilot: how many temperatures the run has that finds the sizes of steps; 0 for steps of `step_size` throughout.
        step_size: e, where the search for it begins.
    """

    def __init__(
        self,
        temperatures: int = 1000,
        chains: int = 16,
        leapfrog: int = 10,
        start: Literal["prior", "posterior"] = "prior",
        pilot: int = 100,
        step_size: float = 0.3,
    ) -> None:
        counts = (
            ("temperatures", temperatures, 1),
            ("chains", chains, 1),
            ("leapfrog", leapfrog, 1),
            ("pilot", pilot, 0),
        )
        for name, value, least in counts:
            if value < least:
                raise ValueError(f"{name} must be at least {least}, not {value}")
        if not 0 < step_size < math.inf:
            raise ValueError(f"step_size must be a number above 0, not {step_size}")
        self.temperatures, self.chains, self.leapfrog, self.start = temperatures, chains, leapfrog, start
        self.pilot, self.step_size = min(pilot, temperatures), step_size

    def __call__(self, likelihood: Likelihood, posterior: Posterior, rng: Rng) -> Nll:
        if not isinstance(posterior, DiagonalGaussian):
            raise UserError("estimator=ais: is for codes that are real numbers, as those of bottleneck=gaussian are")
        zeros = torch.zeros_like(posterior.mean)
        start = DiagonalGaussian(zeros, zeros) if self.start == "prior" else posterior
        run = Run(likelihood, posterior, start, self.leapfrog, self.chains)
        sizes = torch.full((1, len(rng)), self.step_size, device=rng.device)
        if self.pilot > 1:
            _, sizes, _ = run(self.pilot, rng.stage("pilot"), sizes, adapt=True)
        log_w, _, accepted = run(self.temperatures, rng.stage("chains"), sizes, adapt=False)
        nats = math.log(self.chains) - torch.logsumexp(log_w, 1)
        how = (
            f"annealed importance sampling from the {self.start}, {self.temperatures} temperatures, {self.chains} "
            f"chains a datum, {self.leapfrog} leapfrog steps each, {100 * float(accepted):.0f}% accepted; above "
            "-log p(x) in expectation"
        )
        return Nll(nats, "upper", {}, how)


class Run:
    """Chains from q_0 to the posterior of some data.

    Arguments:
        likelihood: log p(x | z) of the data.
        posterior: q(z | x), and the prior.
        start: q_0.
        leapfrog, chains: L and k.
    """

    def __init__(
        self, likelihood: Likelihood, posterior: DiagonalGaussian, start: DiagonalGaussian, leapfrog: int, chains: int
    ) -> None:
        self.likelihood, self.posterior, self.start = likelihood, posterior, start
        self.leapfrog, self.chains = leapfrog, chains

    def __call__(self, count: int, rng: Rng, sizes: Tensor, adapt: bool) -> tuple[Tensor, Tensor, Tensor]:
        """log w (B, k) in double, the sizes of steps by temperature (count - 1, B), and the share that was accepted.

        Arguments:
            count: of temperatures.
            sizes: (n, B), spread evenly over the run; where they are adapted, the first of them begins.
        """
        draw, accept, jitter = (rng.stage(name) for name in ("momentum", "accept", "jitter"))
        b = inverse_temperatures(count)
        point = self.at(self.start.sample(rng.stage("start"), self.chains))
        log_w = b[1] * point.tilt.double()
        size, used, shares = sizes[0], [sizes[:0]], [sizes.new_ones(())]
        for t in range(1, count):
            if not adapt:
                size = sizes[(t - 1) * len(sizes) // max(1, count - 1)]
            factor = 1 + JITTER * (2 * jitter.uniform(self.chains) - 1)
            step = beside(size[:, None] * factor, point.z) * self.scale(b[t])
            proposed, chance = self.proposal(point, b[t], step, draw.normal_like(point.z))
            yes = accept.uniform(self.chains, dtype=chance.dtype) < chance
            point = Point(*(torch.where(beside(yes, new), new, old) for new, old in zip(proposed, point, strict=True)))
            log_w = log_w + (b[t + 1] - b[t]) * point.tilt.double()
            used.append(size[None])
            share = chance.mean(1)
            shares.append(share.mean())
            if adapt:
                size = size * (RATE * (share - ACCEPTANCE)).exp()
        return log_w, torch.cat(used), torch.stack(shares[1:] or shares).mean()

    def scale(self, b: float) -> Tensor:
        """s, (B, 1, *)."""
        first, last = ((-each.log_variance).exp() for each in (self.start, self.posterior))
        return torch.lerp(first, last, b).rsqrt()[:, None]

    def at(self, z: Tensor) -> Point:
        """All that is asked of z (B, k, *)."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            start = self.start.log_prob(z)
            tilt = self.likelihood(z) + self.posterior.log_prior(z) - start
            (start_slope,) = torch.autograd.grad(start.sum(), z, retain_graph=True)
            (tilt_slope,) = torch.autograd.grad(tilt.sum(), z)
        return Point(z.detach(), start.detach(), tilt.detach(), start_slope, tilt_slope)

    def proposal(self, point: Point, b: float, step: Tensor, p: Tensor) -> tuple[Point, Tensor]:
        """Where leapfrog steps lead from the momentum p (B, k, *), and with which chance that is accepted, (B, k)."""

        def energy(point: Point, p: Tensor) -> Tensor:
            return p.square().flatten(2).sum(2) / 2 - point.log_density(b)

        before = energy(point, p)
        for _ in range(self.leapfrog):
            p = p + step / 2 * point.slope(b)
            point = self.at(point.z + step * p)
            p = p + step / 2 * point.slope(b)
        # A path that ran away is not a number, and is refused.
        return point, (before - energy(point, p)).clamp(max=0).exp().nan_to_num(0)
