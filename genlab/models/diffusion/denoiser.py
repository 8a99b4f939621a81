"""The one thing that samplers and bounds ask of a diffusion model."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Denoised(NamedTuple):
    """What a network makes of x_t.

    Arguments:
        x_0: (B, *) the estimate of the clean data.
        between: (B, *) where the network learned the variance of reverse steps: how far its logarithm has come from the
            posterior's variance, 0, to that of q(x_t | x_s), 1.
    """

    x_0: Tensor
    between: Tensor | None = None


Denoiser = Callable[[Tensor, Tensor], Denoised]
"""(x_t (B, *), t () or (B,)) -> Denoised. Guidance wraps one and is one."""
