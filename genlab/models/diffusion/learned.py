"""Schedules that learn: their weights are trained with the network's by a bound on the likelihood, through x_t too.

    betas      alpha_i^2 = (1 - beta_1) ... (1 - beta_i),    beta_i = sigmoid(b_i) for i = 2 .. T,    beta_1 fixed
    log-SNR    gamma(t) = gamma_0 + (gamma_1 - gamma_0) n(t),    alpha^2 = sigmoid(-gamma),    sigma^2 = sigmoid(gamma)
               n(t) = (g(t) - g(t_min)) / (g(1) - g(t_min)),     g(t) = t + mean_j v_j sigmoid(u_j (t - c_j)),  u, v > 0

In continuous time the bound depends on gamma's ends alone. What lies between changes only how much an estimate of the
bound varies, and is trained to lower that, by the gradient of the squared loss.

References:
    Deep Unsupervised Learning using Nonequilibrium Thermodynamics (Sohl-Dickstein et al., 2015), section 2.4.1.
    Variational Diffusion Models (Kingma et al., 2021), section 5 and appendices H and I.2.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.models.diffusion.schedule import Schedule, interpolated, interpolated_time


class LearnedBeta(Schedule):
    """A table whose betas are weights.

    At first beta_i = 1 / (T - i + 2), which takes away equal parts of the signal's variance in all steps.

    Arguments:
        steps: T.
        first: beta_1, small and not learned, for the bound of continuous data would send it to 0.
        learn: whether the others are; else they stay as they are at first.
    """

    def __init__(self, steps: int = 1000, first: float = 1e-3, learn: bool = True) -> None:
        super().__init__()
        if steps < 2:
            raise ValueError(f"steps must be at least 2, not {steps}")
        if not 0 < first < 1:
            raise ValueError(f"first must lie between 0 and 1, not {first}")
        self.steps, self.t_min, self.first = steps, 1 / steps, first
        left = steps - torch.arange(2, steps + 1, dtype=torch.float64) + 2
        self.logit = nn.Parameter(-(left - 1).log().float(), requires_grad=learn)

    @property
    def log_alpha(self) -> Tensor:
        """(T + 1,) in double, 0 first, with gradients."""
        kept = F.logsigmoid(-self.logit.double())
        first = kept.new_full((1,), math.log1p(-self.first))
        return 0.5 * torch.cat([kept.new_zeros(1), first, kept]).cumsum(0)

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return interpolated(self.log_alpha, t)

    @torch.no_grad()
    def time(self, log_snr: Tensor) -> Tensor:
        return interpolated_time(self.log_alpha, log_snr)


def inverse_softplus(x: float) -> float:
    return math.log(math.expm1(x))


class LearnedSnr(Schedule):
    """A continuous schedule whose log-SNR, -gamma, is a monotone network of the time.

    The network is told 1000 n(t).

    Arguments:
        first, last: gamma_0 and gamma_1 at first; both are learned.
        hidden: how many sigmoids g has; with none, n is linear, and only the ends are learned.
        t_min: the time of gamma_0.
    """

    # Newton's steps from a linear guess; a step that leaves what is known of the root is halved instead.
    SEARCH = 20

    def __init__(self, first: float = -13.3, last: float = 5.0, hidden: int = 1024, t_min: float = 1e-3) -> None:
        super().__init__()
        if not first < last:
            raise ValueError(f"first={first} must be below last={last}: gamma rises from the data to the noise")
        if hidden < 0:
            raise ValueError(f"hidden must be at least 0, not {hidden}")
        if not 0 < t_min < 1:
            raise ValueError(f"t_min must lie between 0 and 1, not {t_min}")
        self.hidden, self.t_min = hidden, t_min
        self.ends = nn.Parameter(torch.tensor([first, inverse_softplus(last - first)]))
        if hidden:
            # The sigmoids rise one after the other, and n is nearly linear.
            self.centre = nn.Parameter((torch.arange(hidden) + 0.5) / hidden)
            self.steepness = nn.Parameter(torch.full((hidden,), 10.0))
            self.height = nn.Parameter(torch.full((hidden,), inverse_softplus(1.0)))
        self.lost: Tensor | None = None

    def rise(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """g(t) and its slope, each of the shape of t in double."""
        if not self.hidden:
            return t, torch.ones_like(t)
        u, v = F.softplus(self.steepness.double()), F.softplus(self.height.double())
        s = torch.sigmoid(u * (t[..., None] - self.centre.double()))
        return t + (v * s).mean(-1), 1 + (v * u * s * (1 - s)).mean(-1)

    def part(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """n(t) and its slope, each of the shape of t in double; their gradients are those of the squared loss."""
        t = t.double()
        (start, _), (end, _) = self.rise(t.new_full((), self.t_min)), self.rise(t.new_ones(()))
        height, slope = self.rise(t)
        n, slope = (height - start) / (end - start), slope / (end - start)
        for value in (n, slope):
            if self.training and value.requires_grad:
                value.register_hook(self._of_the_squared_loss)
        return n, slope

    def observe(self, losses: Tensor) -> None:
        self.lost = losses

    def _of_the_squared_loss(self, gradient: Tensor) -> Tensor:
        """d l_i^2 = 2 l_i d l_i, where one value belongs to each datum."""
        return gradient if self.lost is None or self.lost.shape != gradient.shape else 2 * self.lost * gradient

    @property
    def start(self) -> Tensor:
        """gamma_0, () in double."""
        return self.ends[0].double()

    @property
    def reach(self) -> Tensor:
        """gamma_1 - gamma_0, () in double."""
        return F.softplus(self.ends[1].double())

    def gamma(self, t: Tensor) -> Tensor:
        """-log-SNR, of the shape of t; at t = 0 too, where forward says that there is no noise."""
        return self.start + self.reach * self.part(t)[0]

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        gamma = torch.where(t > 0, self.gamma(t), -math.inf)
        return torch.sigmoid(-gamma).sqrt(), torch.sigmoid(gamma).sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        return torch.where(t > 0, -self.gamma(t), math.inf)

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        n, slope = self.part(t)
        rise = self.reach * slope
        return -0.5 * torch.sigmoid(self.start + self.reach * n) * rise, -rise

    @torch.no_grad()
    def time(self, log_snr: Tensor) -> Tensor:
        wanted = ((-log_snr.double() - self.start) / self.reach).clamp(0, 1)
        low, high = torch.full_like(wanted, self.t_min), torch.ones_like(wanted)
        t = torch.lerp(low, high, wanted)
        for _ in range(self.SEARCH if self.hidden else 0):
            n, slope = self.part(t)
            below = n < wanted
            low, high = torch.where(below, t, low), torch.where(below, high, t)
            newton = t + (wanted - n) / slope
            t = torch.where((newton >= low) & (newton <= high), newton, (low + high) / 2)
        return t

    def level(self, t: Tensor) -> Tensor:
        return 1000 * self.part(t)[0]
