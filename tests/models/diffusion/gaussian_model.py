"""A diffusion model of Gaussian data with any covariance, which needs no training.

For x_0 ~ N(m, S):    E[x_0 | x_t] = m + alpha S (alpha^2 S + sigma^2 I)^-1 (x_t - alpha m)
"""

import torch
from torch import Tensor, nn

from genlab.core.spec import Field
from genlab.models.conditioning import Unconditional
from genlab.models.diffusion.model import GaussianDiffusion
from genlab.models.diffusion.schedule import Schedule
from genlab.models.diffusion.weighting import Simple, UniformTimes
from genlab.networks.condition import Condition


class Ideal(nn.Module):
    """The network of a table's model that predicts x_0."""

    def __init__(self, schedule: Schedule, mean: Tensor, covariance: Tensor) -> None:
        super().__init__()
        self.schedule, self.mean, self.covariance = schedule, mean.double(), covariance.double()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, level: Tensor, condition: Condition | None = None) -> Tensor:
        alpha, sigma = self.schedule((level.double() + 1) / self.schedule.steps)
        eye = torch.eye(len(self.mean), dtype=torch.float64)
        of_x_t = alpha[:, None, None] ** 2 * self.covariance + sigma[:, None, None] ** 2 * eye
        off = x.flatten(1).double() - alpha[:, None] * self.mean
        return (self.mean + alpha[:, None] * torch.linalg.solve(of_x_t, off) @ self.covariance).reshape(x.shape).to(x)


def gaussian(schedule: Schedule, mean: Tensor, covariance: Tensor, field: Field) -> GaussianDiffusion:
    """The ideal model of N(mean, covariance), (D,) and (D, D), D being the values of the field."""
    network = Ideal(schedule, mean, covariance)
    return GaussianDiffusion(
        {"x": field}, network, schedule, Simple(), UniformTimes(), Unconditional(), prediction="x0"
    ).eval()
