"""Every kind of schedule, and a denoiser that is neither affine nor small, for laws that hold on all of them."""

import pytest
import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.diffusion.continuous import (
    LinearSigma,
    Straight,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
)
from genlab.models.diffusion.denoiser import Denoised, Denoiser
from genlab.models.diffusion.schedule import Cosine, Geometric, LinearBeta, Schedule, match

EVERY: dict[str, Schedule] = {
    "linear": LinearBeta(),
    "cosine": Cosine(),
    "no signal at the end": LinearBeta(zero_terminal_snr=True),
    "geometric": Geometric(),
    "vp": VariancePreserving(),
    "subvp": SubVariancePreserving(),
    "ve": VarianceExploding(),
    "edm": LinearSigma(),
    "straight": Straight(),
}
schedules = pytest.mark.parametrize("schedule", EVERY.values(), ids=EVERY.keys())


def double(*values: float) -> Tensor:
    """A tensor in double precision, () for one value."""
    return torch.tensor(values, dtype=torch.float64).squeeze()


def nonlinear(schedule: Schedule) -> Denoiser:
    def denoise(x_t: Tensor, t: Tensor) -> Denoised:
        alpha, sigma = (match(c, x_t) for c in schedule(t))
        return Denoised(estimate(x_t / alpha, sigma / alpha))

    return denoise


def estimate(y: Tensor, n: Tensor) -> Tensor:
    """Of x_0 (B, C, H, W), from y = x / alpha at n = sigma / alpha."""
    return 0.25 * y / (0.25 + n**2) + 0.3 * torch.sin(3 * y.roll(1, -1) + y.flip(1) + n.log())


def start(rows: int = 2) -> tuple[Tensor, Rng]:
    """Noise (rows, 3, 4, 4), and what more noise is drawn from."""
    rng = Rng(3, torch.arange(rows))
    return rng.stage("start").normal(3, 4, 4, dtype=torch.float64), rng
