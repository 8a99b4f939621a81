"""How different two images look to a network that was trained to see.

    d(x, y) = sum_l mean_p |u_l(x)_p - u_l(y)_p|^2,    u_l(x)_p = f_l(x)_p / |f_l(x)_p|

where f_l(x)_p are the features at place p of layer l. Beside a likelihood it is a cost of

    weight D d(x, x_hat) nats,    D numbers in a datum

as in latent diffusion, whose |x - x_hat| + d at each of the D numbers is a Laplace likelihood of scale 1. Of a learned
scale s its balance of the two is that of weight / s. The published distance has learned weights before the channels,
fitted to what people see of each; here all count alike, the paper's distance before that fit.

References:
    The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (Zhang et al., 2018), eq. 1.
    High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), appendix G.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.core.collectives import barrier, world


class Perceptual:
    """The cost of an image that looks different.

    The network is no part of the model: it is neither trained, averaged nor kept in checkpoints, and it is made when
    training needs it, so that a model is loaded without its weights.

    Arguments:
        network: makes the network, from images (B, C, H, W) in [-1, 1] to a list of feature maps.
        weight: of the distance.
    """

    def __init__(self, network: Callable[[], Callable[[Tensor], Sequence[Tensor]]], weight: float = 1.0) -> None:
        if not 0 < weight < math.inf:
            raise ValueError(f"weight must be above 0, not {weight}; for none choose perceptual=null")
        self.make, self.weight = network, weight
        self.network: Callable[[Tensor], Sequence[Tensor]] | None = None

    def load(self, device: torch.device) -> Callable[[Tensor], Sequence[Tensor]]:
        """The network, there; the first time it is made, by one process before the others, since it may be fetched."""
        if self.network is None:
            if world()[0] > 0:
                barrier()
            self.network = self.make()
            if world()[0] == 0:
                barrier()
            if isinstance(self.network, nn.Module):
                self.network.eval().requires_grad_(False)
        if isinstance(self.network, nn.Module):
            self.network.to(device)
        return self.network

    def __call__(self, x: Tensor, made: Tensor) -> Tensor:
        """The cost in nats, (B,), of showing `made` (B, C, H, W) for x, with gradients in `made`."""
        network = self.load(x.device)
        with torch.no_grad():
            seen = network(x)
        return self.weight * x[0].numel() * distance(seen, network(made))


def distance(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """d of two images' feature maps (B, C, *), (B,)."""
    each = [
        (F.normalize(f.float(), dim=1, eps=1e-10) - F.normalize(g.float(), dim=1, eps=1e-10)).square().sum(1)
        for f, g in zip(one, other, strict=True)
    ]
    return torch.stack([squared.flatten(1).mean(1) for squared in each]).sum(0)
