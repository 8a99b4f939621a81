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


class Counted:
    """A denoiser that counts its calls: NFE, the number of function evaluations."""

    def __init__(self, denoise: Denoiser) -> None:
        self.denoise, self.calls = denoise, 0

    def __call__(self, x_t: Tensor, t: Tensor) -> Denoised:
        self.calls += 1
        return self.denoise(x_t, t)
