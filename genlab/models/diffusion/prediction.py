"""What the network is asked for, as a change of coordinates.

    x_0 = c_skip x_t + c_out F(c_in x_t, level)

eps, x_0 and v are one model in three coordinates; a row of the table is all that tells them apart. The network's own
target follows from x_t = alpha x_0 + sigma eps:

    F* = ((1 - c_skip alpha) x_0 - c_skip sigma eps) / c_out

References:
    Denoising Diffusion Probabilistic Models (Ho et al., 2020), section 3.2, for eps.
    Progressive Distillation for Fast Sampling of Diffusion Models (Salimans & Ho, 2022), section 4, for x_0 and v.
    Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), table 1.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Kind = Literal["eps", "x0", "v"]


class Coordinates(NamedTuple):
    """The coefficients at some times, in double."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor


def _eps(alpha: Tensor, sigma: Tensor) -> Coordinates:
    return Coordinates(1 / alpha, -sigma / alpha, torch.ones_like(alpha))


def _x0(alpha: Tensor, sigma: Tensor) -> Coordinates:
    return Coordinates(torch.zeros_like(alpha), torch.ones_like(alpha), torch.ones_like(alpha))


def _v(alpha: Tensor, sigma: Tensor) -> Coordinates:
    """v = (alpha eps - sigma x_0) / n with n^2 = alpha^2 + sigma^2, which is 1 where the variance is preserved."""
    squared = alpha**2 + sigma**2
    return Coordinates(alpha / squared, -sigma / squared.sqrt(), torch.ones_like(alpha))


TABLE: dict[Kind, Callable[[Tensor, Tensor], Coordinates]] = {"eps": _eps, "x0": _x0, "v": _v}


class Target(NamedTuple):
    """F* = of_x_0 x_0 + of_eps eps, and what a squared error of F is worth as one of eps."""

    of_x_0: Tensor
    of_eps: Tensor
    worth: Tensor


def target(kind: Kind, alpha: Tensor, sigma: Tensor) -> Target:
    """The network's target in terms of x_0 and eps, and (alpha c_out / sigma)^2."""
    c_skip, c_out, _ = TABLE[kind](alpha, sigma)
    return Target((1 - c_skip * alpha) / c_out, -c_skip * sigma / c_out, (alpha * c_out / sigma) ** 2)
