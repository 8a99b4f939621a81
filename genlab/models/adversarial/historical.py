"""Historical averaging: weights are drawn to the mean of all that they have been.

    |theta - 1/n sum_i theta_i|^2,    i = 1 .. n

so that players who circle around an equilibrium come nearer to it.

References:
    Improved Techniques for Training GANs (Salimans et al., 2016), section 3.3.
"""

import torch
from torch import Tensor, nn


class HistoricalAverage(nn.Module):
    """The mean of a network's weights over its steps.

    Arguments:
        network: whose weights these are.
    """

    steps: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))
        for number, weight in enumerate(network.parameters()):
            self.register_buffer(f"mean_{number}", torch.zeros_like(weight))

    def means(self) -> list[Tensor]:
        return [mean for name, mean in self.named_buffers() if name != "steps"]

    def distance(self, network: nn.Module) -> Tensor:
        """|theta - mean|^2; 0 before the first step."""
        pairs = zip(network.parameters(), self.means(), strict=True)
        return torch.stack([(weight - mean).square().sum() for weight, mean in pairs]).sum() * self.steps.clamp(max=1)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """After a step of the network."""
        self.steps.add_(1)
        for weight, mean in zip(network.parameters(), self.means(), strict=True):
            mean.lerp_(weight, 1 / self.steps)
