"""Data whose denoiser is known in closed form, so that nothing needs to be trained.

For x_0 ~ N(M, C^2):    E[x_0 | x_t] = M + alpha C^2 / (alpha^2 C^2 + sigma^2) (x_t - alpha M)
"""

from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import Tensor

from genlab.models.diffusion.continuous import (
    LinearSigma,
    Straight,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
)
from genlab.models.diffusion.denoiser import Denoised, Denoiser
from genlab.models.diffusion.schedule import Cosine, Geometric, LinearBeta, Schedule, match
from genlab.runner.build import build

CONFIGS = Path(__file__).parents[3] / "configs"
M, C = 0.7, 0.5
TABLES = {"linear": LinearBeta(), "cosine": Cosine(), "linear of 200": LinearBeta(200)}
CONTINUOUS = {
    "vp": VariancePreserving(),
    "subvp": SubVariancePreserving(),
    "ve": VarianceExploding(),
    "edm": LinearSigma(),
    "straight": Straight(),
}
SCHEDULES = {**TABLES, "geometric": Geometric(), **CONTINUOUS}


def shipped(group: str) -> dict[str, object]:
    """What the files of a config group build, by their names."""
    return {path.stem: build(OmegaConf.load(path), group) for path in sorted((CONFIGS / group).glob("*.yaml"))}


def ideal_denoiser(schedule: Schedule) -> Denoiser:
    def denoise(x_t: Tensor, t: Tensor) -> Denoised:
        alpha, sigma = (match(c, x_t) for c in schedule(t))
        return Denoised(M + alpha * C**2 / (alpha**2 * C**2 + sigma**2) * (x_t - alpha * M))

    return denoise


def marginal(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of x_t."""
    alpha, sigma = schedule(t)
    return alpha * M, (alpha**2 * C**2 + sigma**2).sqrt()


def times(schedule: Schedule) -> Tensor:
    """All times i / T, i = 1 .. T, of a table; some from t_min to t_max where time is continuous."""
    if schedule.steps is None:
        return torch.linspace(schedule.t_min, schedule.t_max, 200, dtype=torch.float64)
    return torch.arange(1, schedule.steps + 1, dtype=torch.float64) / schedule.steps


def published_beta(name: str, steps: int = 1000) -> Tensor:
    """The tables as the papers write them."""
    if name == "linear":
        return torch.linspace(1e-4 * 1000 / steps, 0.02 * 1000 / steps, steps, dtype=torch.float64)
    t = torch.arange(steps + 1, dtype=torch.float64) / steps
    alpha_bar = torch.cos((t + 0.008) / 1.008 * torch.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)
