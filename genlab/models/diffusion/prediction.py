"""What the network is asked for, as a change of coordinates.

    x_0 = c_skip x_t + c_out F(c_in x_t, c_noise)

Six predictions are one model in six coordinates; a row of the table is all that tells them apart. What they ask for is

    eps, x_0,    v = (alpha eps - sigma x_0) / n with n^2 = alpha^2 + sigma^2,    velocity = eps - x_0,
    score = -eps up to the factor 1 / sigma,    edm: the mixture of data and noise of unit variance at every level

The network's own target follows from x_t = alpha x_0 + sigma eps:

    F* = ((1 - c_skip alpha) x_0 - c_skip sigma eps) / c_out

References:
    Denoising Diffusion Probabilistic Models (Ho et al., 2020), section 3.2, for eps.
    Progressive Distillation for Fast Sampling of Diffusion Models (Salimans & Ho, 2022), section 4, for x_0 and v.
    Improved Techniques for Training Score-Based Generative Models (Song & Ermon, 2020), section 3.3, for the score.
    Flow Matching for Generative Modeling (Lipman et al., 2023), section 4.1, for the velocity.
    Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), table 1, for edm.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Kind = Literal["eps", "x0", "v", "score", "velocity", "edm"]

DATA_SCALE = 0.5
"""The standard deviation of the data that edm takes for given, in [-1, 1]."""


class Coordinates(NamedTuple):
    """The coefficients at some times, in double; c_noise is None where the network is told the schedule's own level."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor | None = None


def _eps(alpha: Tensor, sigma: Tensor, scale: float = DATA_SCALE) -> Coordinates:
    return Coordinates(1 / alpha, -sigma / alpha, torch.ones_like(alpha))


def _x0(alpha: Tensor, sigma: Tensor, scale: float = DATA_SCALE) -> Coordinates:
    return Coordinates(torch.zeros_like(alpha), torch.ones_like(alpha), torch.ones_like(alpha))


def _v(alpha: Tensor, sigma: Tensor, scale: float = DATA_SCALE) -> Coordinates:
    squared = alpha**2 + sigma**2
    return Coordinates(alpha / squared, -sigma / squared.sqrt(), torch.ones_like(alpha))


def _score(alpha: Tensor, sigma: Tensor, scale: float = DATA_SCALE) -> Coordinates:
    """The score is F / sigma, so that F keeps its size over all levels."""
    return Coordinates(1 / alpha, sigma / alpha, torch.ones_like(alpha))


def _velocity(alpha: Tensor, sigma: Tensor, scale: float = DATA_SCALE) -> Coordinates:
    whole = alpha + sigma
    return Coordinates(1 / whole, -sigma / whole, torch.ones_like(alpha))


def _edm(alpha: Tensor, sigma: Tensor, scale: float = DATA_SCALE) -> Coordinates:
    noise = sigma / alpha
    total = noise**2 + scale**2
    return Coordinates(
        scale**2 / total / alpha, noise * scale / total.sqrt(), 1 / (alpha * total.sqrt()), 0.25 * noise.log()
    )


TABLE: dict[Kind, Callable[..., Coordinates]] = {
    "eps": _eps,
    "x0": _x0,
    "v": _v,
    "score": _score,
    "velocity": _velocity,
    "edm": _edm,
}
"""(alpha, sigma, the data's standard deviation) to the coefficients."""

NEEDS_SIGNAL: frozenset[Kind] = frozenset({"eps", "score", "edm"})
"""Predictions that x_0 does not follow from where alpha = 0."""


class Target(NamedTuple):
    """F* = of_x_0 x_0 + of_eps eps, and what a squared error of F is worth as one of eps."""

    of_x_0: Tensor
    of_eps: Tensor
    worth: Tensor


def target(kind: Kind, alpha: Tensor, sigma: Tensor, scale: float = DATA_SCALE) -> Target:
    """The network's target in terms of x_0 and eps, and (alpha c_out / sigma)^2."""
    c_skip, c_out, _, _ = TABLE[kind](alpha, sigma, scale)
    return Target((1 - c_skip * alpha) / c_out, -c_skip * sigma / c_out, (alpha * c_out / sigma) ** 2)
