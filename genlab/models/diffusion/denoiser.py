"""The one thing that samplers and bounds ask of a diffusion model."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Denoised(NamedTuple):
    """What a network makes of x_t.

    Arguments:
        x_0: (B, *) the estimate of the clean data.
        log_variance: (B, *) of the reverse step, where the network learned it.
    """

    x_0: Tensor
    log_variance: Tensor | None = None


Denoiser = Callable[[Tensor, Tensor], Denoised]
"""(x_t (B, *), t () or (B,)) -> Denoised. Guidance wraps one and is one."""
