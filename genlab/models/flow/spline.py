"""Monotone splines of quotients of quadratics: maps of a number that bend in K places, whose inverse is a formula.

    between the knots (x_k, y_k) and (x_{k+1}, y_{k+1}), which have slopes d_k and d_{k+1}, with s = h / w the chord's
    slope, h and w the sides of their rectangle, and t = (x - x_k) / w:

    z = y_k + h (s t^2 + d_k t (1 - t)) / q,    q = s + (d_k + d_{k+1} - 2 s) t (1 - t)
    dz/dx = s^2 (d_{k+1} t^2 + 2 s t (1 - t) + d_k (1 - t)^2) / q^2

The knots span [-B, B] on both axes; beyond, and with parameters of zero, the map is the identity.

References:
    Neural Spline Flows (Durkan, Bekasov, Murray & Papamakarios, 2019), section 3 and appendix A.
    Piecewise Rational Quadratic Interpolation (Gregory & Delbourgo, 1982).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from genlab.models.flow.elementwise import Elementwise

# The least side of a bin, as a share of the whole, and the least slope of a knot.
LEAST_BIN = 1e-3
LEAST_SLOPE = 1e-3
# What is added to the parameters of slopes, so that those of zero give a slope of 1.
SLOPE_OF_ONE = math.log(math.expm1(1 - LEAST_SLOPE))


class RationalQuadratic(Elementwise):
    """The map above, told by K numbers for the widths, K for the heights and K - 1 for the slopes within.

    Arguments:
        bins: K.
        bound: B.
    """

    def __init__(self, bins: int = 8, bound: float = 3.0) -> None:
        super().__init__()
        if not 2 <= bins < 1 / LEAST_BIN:
            raise ValueError(f"bins must be at least 2 and below {1 / LEAST_BIN:.0f}, not {bins}")
        if not 0 < bound < math.inf:
            raise ValueError(f"bound must be a number above 0, not {bound}: 3 where data are standardized")
        self.bins, self.bound, self.features = bins, bound, 3 * bins - 1

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        inside = x.clamp(-self.bound, self.bound)
        left, bottom, w, h, d, e = self._bin(inside, parameters, axis=0)
        s, t = h / w, (inside - left) / w
        both = t * (1 - t)
        q = s + (d + e - 2 * s) * both
        z = bottom + h * (s * t.square() + d * both) / q
        return self._or_itself(x, z, log_slope(s, t, both, q, d, e))

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        inside = z.clamp(-self.bound, self.bound)
        left, bottom, w, h, d, e = self._bin(inside, parameters, axis=1)
        s, up = h / w, inside - bottom
        bend = d + e - 2 * s
        # t solves a t^2 + b t + c = 0, in the form that does not cancel.
        a, b, c = h * (s - d) + up * bend, h * d - up * bend, -s * up
        t = 2 * c / (-b - (b.square() - 4 * a * c).clamp(min=0).sqrt())
        both = t * (1 - t)
        return self._or_itself(z, left + t * w, -log_slope(s, t, both, s + bend * both, d, e))

    def _or_itself(self, x: Tensor, changed: Tensor, log_slope: Tensor) -> tuple[Tensor, Tensor]:
        beyond = x.abs() > self.bound
        return torch.where(beyond, x, changed), log_slope.masked_fill(beyond, 0)

    def _bin(self, x: Tensor, parameters: Tensor, axis: int) -> tuple[Tensor, ...]:
        """x_k, y_k, w, h, d_k and d_{k+1} of the bin that each of x (B, n, *) lies in, by its place on this axis."""
        raw = parameters.movedim(1, -1)
        shares = raw[..., : 2 * self.bins].unflatten(-1, (2, self.bins)).softmax(-1)
        sides = 2 * self.bound * (LEAST_BIN + (1 - LEAST_BIN * self.bins) * shares)
        ends = sides.cumsum(-1) - self.bound
        slope = F.pad(LEAST_SLOPE + F.softplus(raw[..., 2 * self.bins :] + SLOPE_OF_ONE), (1, 1), value=1.0)
        bin = (x[..., None] >= ends[..., axis, :-1]).sum(-1, keepdim=True)
        of_both = bin[..., None, :].expand(*bin.shape[:-1], 2, 1)
        corner, side = ((values.gather(-1, of_both)[..., 0]).unbind(-1) for values in (ends - sides, sides))
        return (*corner, *side, *(slope.gather(-1, bin + k)[..., 0] for k in (0, 1)))


def log_slope(s: Tensor, t: Tensor, both: Tensor, q: Tensor, d: Tensor, e: Tensor) -> Tensor:
    """log dz/dx, with t (1 - t) in `both`, and d_k and d_{k+1} in d and e."""
    return 2 * (s / q).log() + (e * t.square() + 2 * s * both + d * (1 - t).square()).log()
