"""The variance of a reverse step: two are known, and where the network learned it, it lies between them.

    posterior     beta~ = v sigma_s^2 / sigma_t^2, that of q(x_s | x_t, x_0)
    transition    beta = v, that of q(x_t | x_s)
    learned       log variance = b log beta + (1 - b) log beta~,    b = between, element by element

The first is that of the true reverse step where the data are a point, the second where they are standard normal. Since
they are the schedule's at any two times, the learned one serves steps of any length.

References:
    Improved Denoising Diffusion Probabilistic Models (Nichol & Dhariwal, 2021), eq. 15 and section 4.
"""

from typing import Literal

from torch import Tensor

from genlab.core.errors import UserError
from genlab.models.diffusion.schedule import match

Variance = Literal["posterior", "transition", "learned"]


def learned_log_variance(low: Tensor, high: Tensor, between: Tensor | None, option: str) -> Tensor:
    """The logarithm of the variance, (B, *) in double.

    Arguments:
        low, high: the logarithms of beta~ and beta, () or (B,) in double.
        between: b, (B, *), of `Denoised`.
        option: what asked for it, to be named where the model learned no variances.
    """
    if between is None:
        raise UserError(
            f"{option}=learned: the model learned no variances (model.outputs=1); choose posterior or transition"
        )
    between = between.double()
    low, high = match(low, between), match(high, between)
    return low + between * (high - low)
