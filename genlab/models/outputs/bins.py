"""The mass that a distribution of real numbers puts on each of the levels of data.

A level's bin reaches half way to its neighbours, and the outermost bins are open:

    P(v) = F((x_v + w - m) / s) - F((x_v - w - m) / s),    w half the distance of two levels

with +-infinity in the place of the outer edges, so that the levels' probabilities sum to one. The logarithm of the
difference is taken such that nothing cancels, in the tails as well as in bins that are narrow beside s.

References:
    PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood and Other Modifications (Salimans et
    al., 2017), section 2.1, where the logistic mass is approximated in the tails; here it is exact.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from genlab.core.units import from_levels, half_bin, to_levels

# Below so many deviations Phi(z) comes near to the smallest number of the type, and its asymptotic series is exact.
FAR = {torch.float32: 12.0, torch.float64: 36.0}


def nearest_level(x: Tensor, levels: int) -> Tensor:
    """The value of the level in whose bin x lies, of the type of x."""
    return from_levels(to_levels(x, levels), levels, x.dtype)


def log_normal_bin(x: Tensor, mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """log of the mass of N(mean, exp(2 log_scale)) on the bin of each level x; all broadcast together.

    Every bin [m - h, m + h], in deviations from the mean, is moved to the mean's left by symmetry. Its mass is

        Phi(m + h) - Phi(m - h)                            in general
        2 h phi(m) (1 + (m^2 - 1) h^2 / 6 + ...)           where that would cancel, since h max(|m|, 1) is small
        phi(m + h) q(m + h) - phi(m - h) q(m - h)          where that would underflow, with q = Phi / phi as a series

    and m - h is minus infinity for the bins that are open.
    """
    width = half_bin(levels)
    inverse = (-log_scale).exp()
    lowest, highest = x < -1 + width, x > 1 - width
    is_open = lowest | highest
    m, h = (x - mean) * inverse, width * inverse
    m = torch.where(highest | ((m > 0) & ~lowest), -m, m)
    upper, lower = m + h, m - h
    is_narrow = (h * m.abs().clamp(min=1) < 0.05) & ~is_open
    reach = FAR[upper.dtype]
    is_far = (upper < -reach) & ~is_narrow

    # The bounds keep the gradients finite where a branch is not the one that is taken.
    mass = (_below(upper) - _below(lower).masked_fill(is_open, 0)).clamp(min=torch.finfo(upper.dtype).tiny)
    ratio = (2 * m * h).clamp(max=0).exp().masked_fill(is_open, 0)
    far = _tail(upper.clamp(max=-reach)) - ratio * _tail(lower.clamp(max=-reach))
    value = torch.where(is_narrow, _narrow(m, h), torch.where(is_far, far, mass))
    exponent = -(torch.where(is_narrow, m, upper).square() + math.log(2 * math.pi)) / 2
    return value.log() + torch.where(is_narrow | is_far, exponent, 0.0)


def _below(z: Tensor) -> Tensor:
    """Phi(z), to the last digit also where it is small."""
    return torch.erfc(z * -math.sqrt(0.5)) / 2


def _tail(z: Tensor) -> Tensor:
    """q(z) = Phi(z) / phi(z) for z far below 0, by its asymptotic series."""
    r = 1 / z.square()
    return -(1 - r * (1 - r * (3 - 15 * r))) / z


def _narrow(m: Tensor, h: Tensor) -> Tensor:
    """The mass on [m - h, m + h] over phi(m), 2 h sum_k He_2k(m) h^2k / (2k + 1)! with Hermite's polynomials."""
    u, p = h.square().clamp(max=0.01), (m * h).square().clamp(max=0.01)
    second, fourth = p - u, p.square() - 6 * p * u + 3 * u.square()
    sixth = p * (p.square() - 15 * p * u + 45 * u.square()) - 15 * u * u.square()
    return 2 * h * (1 + second / 6 + fourth / 120 + sixth / 5040)


def log_logistic_bin(x: Tensor, mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """log of the mass of the logistic distribution on the bin of each level x; all broadcast together.

    With the sigmoid function S, S(b) - S(a) = S(b) S(-a) (1 - exp(a - b)), and an open edge takes its factors away.
    """
    width = half_bin(levels)
    inverse = (-log_scale).exp()
    lowest, highest = x < -1 + width, x > 1 - width
    centre, half = (x - mean) * inverse, width * inverse
    below_upper = F.logsigmoid(centre + half).masked_fill(highest, 0)
    above_lower = F.logsigmoid(half - centre).masked_fill(lowest, 0)
    between = (-torch.expm1(-2 * half)).log()
    return below_upper + above_lower + torch.where(lowest | highest, 0.0, between)
