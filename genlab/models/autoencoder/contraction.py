"""What it costs that a code moves with its datum: the contractive autoencoder.

    |J|_F^2 = sum_ij (d z_i / d x_j)^2

It is exact, by one backward pass for each number of the code.

References:
    Contractive Auto-Encoders: Explicit Invariance During Feature Extraction (Rifai et al., 2011), eq. 6.
"""

import torch
from torch import Tensor


def squared_jacobian(z: Tensor, x: Tensor) -> Tensor:
    """|J|_F^2 of each datum, (B,), with gradients where they are enabled.

    Arguments:
        z: (B, *), made of x row by row, with gradients enabled.
        x: (B, *), which requires gradients.
    """
    total = x.new_zeros(len(x))
    with torch.enable_grad():
        # Sums over the batch, in each of which a row's slope is that of the row's own number.
        numbers = z.flatten(1).sum(0).unbind()
    for number in numbers:
        (slope,) = torch.autograd.grad(number, x, retain_graph=True, create_graph=torch.is_grad_enabled())
        total = total + slope.flatten(1).square().sum(1)
    return total
