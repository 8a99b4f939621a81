"""What it costs that a code moves with its datum: the contractive autoencoder.

    |J|_F^2 = sum_ij (d z_i / d x_j)^2

It is exact, by one backward pass for each number of the code.

References:
    Contractive Auto-Encoders: Explicit Invariance During Feature Extraction (Rifai et al., 2011), eq. 6.
"""

import torch
from torch import Tensor


def squared_jacobian(z: Tensor, x: Tensor) -> Tensor:
    """|J|_F^2 of each datum, (B,), with gradients.

    Arguments:
        z: (B, *), made of x row by row.
        x: (B, *), which requires gradients.
    """
    total = x.new_zeros(len(x))
    for column in z.flatten(1).unbind(1):
        (slope,) = torch.autograd.grad(column.sum(), x, create_graph=True)
        total = total + slope.flatten(1).square().sum(1)
    return total
