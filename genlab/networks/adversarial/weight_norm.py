"""Layers whose filters have a length of their own, apart from their direction.

    y = g (v / |v|) * x + b

Where data are at hand before the first step, g and b are set so that each unit has mean 0 and deviation 1 on them,
layer after layer; from then on nothing depends on the batch, which is what makes these layers suit a critic that sees
data, labelled data and what is made in batches of their own.

References:
    Weight Normalization: A Simple Reparameterization to Accelerate Training of Deep Neural Networks
        (Salimans & Kingma, 2016), eq. 2 and section 3.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALLEST = 1e-8


class WeightNorm(nn.Module):
    """A linear or convolutional layer with normalised filters.

    Arguments:
        layer: whose weights are the directions v, and whose options are kept.
        learns: g is learnt; else it stays as it was set on the first data.
        deviation: of the units on those data.
        start: the deviation of the first v; the longer v is, the slower it turns.
    """

    g: Tensor

    def __init__(
        self, layer: nn.Linear | nn.Conv2d, learns: bool = False, deviation: float = 1.0, start: float = 0.05
    ) -> None:
        super().__init__()
        self.v, self.deviation = layer.weight, deviation
        nn.init.normal_(self.v, 0.0, start)
        length = torch.ones(len(self.v))
        if learns:
            self.g = nn.Parameter(length)
        else:
            self.register_buffer("g", length)
        self.b = nn.Parameter(torch.zeros(len(self.v)))
        self.across = (1, -1, *([1] * (self.v.ndim - 2)))
        self.convolution = (layer.stride, layer.padding) if isinstance(layer, nn.Conv2d) else None

    def forward(self, x: Tensor) -> Tensor:
        """What the layer makes of x."""
        scale = self.g / self.v.flatten(1).norm(dim=1).clamp(min=SMALLEST)
        return self._directed(x) * scale.view(self.across) + self.b.view(self.across)

    def _directed(self, x: Tensor) -> Tensor:
        """v * x; scaled afterwards, since there are fewer units than weights."""
        if self.convolution is None:
            return F.linear(x, self.v)
        stride, padding = self.convolution
        return F.conv2d(x, self.v, None, stride, padding)

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Set g and b on the data x that reach this layer."""
        units = self._directed(x).transpose(0, 1).flatten(1)
        rate = self.deviation / units.std(1, correction=0).clamp(min=SMALLEST)
        self.g.copy_(rate * self.v.flatten(1).norm(dim=1))
        self.b.copy_(-units.mean(1) * rate)


@torch.no_grad()
def fit(network: nn.Module, run: Callable[[], object]) -> None:
    """Set every such layer of a network on what reaches it while the network runs, without noise."""
    layers = [module for module in network.modules() if isinstance(module, WeightNorm)]
    hooks = [layer.register_forward_pre_hook(lambda layer, given: layer.fit(given[0])) for layer in layers]
    training = network.training
    try:
        network.eval()
        run()
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
