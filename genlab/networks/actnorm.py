"""A shift and a scale for each channel, set by the first data that pass.

    z_c = (x_c + b_c) exp(s_c)

While first data are shown (`shown_first`), each layer takes b and s from what reaches it, so that it gives mean 0 and
variance 1 over the batch and all places; the layers behind it see data that are normalised already.

References:
    Glow: Generative Flow with Invertible 1x1 Convolutions (Kingma & Dhariwal, 2018), section 3.1.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from genlab.core.collectives import all_sum


def per_channel(values: Tensor, x: Tensor) -> Tensor:
    """Values (C,) as they multiply x (B, C, *)."""
    return values.view(-1, *(1,) * (x.ndim - 2))


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the variance of each channel of x (B, C, *) over batch and places of all processes, (C,) each."""
    places = x.transpose(0, 1).flatten(1).double()
    sums = all_sum(torch.stack([torch.ones_like(places).sum(1), places.sum(1)]))
    mean = sums[1] / sums[0]
    variance = all_sum((places - mean[:, None]).square().sum(1)) / sums[0]
    return mean.to(x.dtype), variance.to(x.dtype)


class FirstSeen(nn.Module):
    """A module that sets itself by what passes it while `is_first` holds."""

    is_first: bool = False


class ChannelScale(FirstSeen):
    """The layer above, the identity until it has seen data.

    Arguments:
        channels: of x (B, C, *).
        shifts: whether there is b; without it the mean stays what it is.
    """

    def __init__(self, channels: int, shifts: bool = True) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels)) if shifts else None
        self.log_scale = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *) to the same."""
        if self.is_first:
            self._set(x)
        moved = x if self.shift is None else x + per_channel(self.shift, x)
        return moved * per_channel(self.log_scale, x).exp()

    def inverse(self, z: Tensor) -> Tensor:
        """(B, C, *) to the same."""
        moved = z * (-per_channel(self.log_scale, z)).exp()
        return moved if self.shift is None else moved - per_channel(self.shift, z)

    @torch.no_grad()
    def _set(self, x: Tensor) -> None:
        mean, variance = moments(x)
        if self.shift is not None:
            self.shift.copy_(-mean)
        # A channel that is the same everywhere keeps a finite scale.
        self.log_scale.copy_(-(variance.sqrt() + 1e-6).log())


@contextmanager
def shown_first(root: nn.Module) -> Iterator[None]:
    """While it lasts, all layers within `root` that begin by the first data set themselves by what they see."""
    layers = [module for module in root.modules() if isinstance(module, FirstSeen)]
    for layer in layers:
        layer.is_first = True
    try:
        yield
    finally:
        for layer in layers:
            layer.is_first = False
