"""Critics with a number for each class, which learn from few labels beside many data without any.

    plain    x + n_0 -> 1000 -> + n -> 500 -> + n -> 250 -> + n -> 250 -> + n -> f in R^250 -> + n -> l in R^K
    images   x -> dropout -> three 3x3 filters, the last of which halves the sides -> dropout -> the same, twice as wide
             -> dropout -> a 3x3 filter, two of 1x1 (a network in a network) -> f, the mean over places -> l in R^K

n is normal noise, n_0 of deviation 0.3 on pixels in [0, 1], which is 0.6 on those in [-1, 1]. All layers have
normalised filters and leaky or plain rectifiers; noise and dropout are of training alone.

References:
    Improved Techniques for Training GANs (Salimans et al., 2016), section 5 and its published code.
    Network In Network (Lin, Chen & Yan, 2014).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.networks.adversarial.contract import Critic, Judged
from genlab.networks.adversarial.weight_norm import WeightNorm
from genlab.networks.condition import Condition
from genlab.networks.layers import at_least_one

SLOPE = 0.2
"""Of the leaky rectifiers."""


class Noise(nn.Module):
    """x + sigma n in training.

    Arguments:
        sigma: the deviation; 0 for none.
    """

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(self, x: Tensor) -> Tensor:
        return x + self.sigma * torch.randn_like(x) if self.training and self.sigma else x


class NoisyMLPCritic(Critic):
    """Plain layers with noise before each of them.

    Arguments:
        shape: of a datum.
        classes: K, numbers that come out.
        hidden: the widths of the layers.
        sigma: the deviation of the noise on hidden units.
        sigma_x: that on data in [-1, 1].
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        hidden: Sequence[int] = (1000, 500, 250, 250, 250),
        sigma: float = 0.5,
        sigma_x: float = 0.6,
    ) -> None:
        super().__init__()
        at_least_one(classes=classes, hidden=min(hidden, default=0))
        for name, value in (("sigma", sigma), ("sigma_x", sigma_x)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}={value} must be a number of at least 0")
        parts: list[nn.Module] = [nn.Flatten(), Noise(sigma_x)]
        now = math.prod(shape)
        for width in hidden:
            parts += [WeightNorm(nn.Linear(now, width), start=0.1), nn.ReLU(), Noise(sigma)]
            now = width
        # The features are those before the last noise.
        self.layers, self.last_noise = nn.Sequential(*parts[:-1]), parts[-1]
        self.head = WeightNorm(nn.Linear(now, classes), learns=True, start=0.1)

    def forward(self, x: Tensor, condition: Condition | None = None) -> Judged:
        f = self.layers(x)
        return Judged(self.head(self.last_noise(f)), f)


class NetworkInNetworkCritic(Critic):
    """Filters with dropout between them, and the mean over places.

    Arguments:
        shape: (C, H, W) of a datum.
        classes: K, numbers that come out.
        width: of the first filters; those after the first halving are twice as many.
        dropout_x: the probability that a pixel's value is silent in training.
        dropout: that for hidden units.

    Raises UserError for what is no image of 8x8 pixels or more.
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        width: int = 96,
        dropout_x: float = 0.2,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        at_least_one(classes=classes, width=width)
        for name, value in (("dropout_x", dropout_x), ("dropout", dropout)):
            if not 0 <= value < 1:
                raise ValueError(f"{name}={value} must be at least 0 and below 1")
        if len(shape) != 3 or min(shape[1:]) < 8:
            raise UserError(
                f"critic: is for images of 8x8 pixels or more, (channels, height, width), not {list(shape)}; "
                "take critic=noisy_mlp"
            )

        def filters(inputs: int, outputs: int, side: int = 3, stride: int = 1, padding: int = 1) -> list[nn.Module]:
            return [WeightNorm(nn.Conv2d(inputs, outputs, side, stride, padding)), nn.LeakyReLU(SLOPE)]

        self.layers = nn.Sequential(
            nn.Dropout(dropout_x),
            *filters(shape[0], width),
            *filters(width, width),
            *filters(width, width, stride=2),
            nn.Dropout(dropout),
            *filters(width, 2 * width),
            *filters(2 * width, 2 * width),
            *filters(2 * width, 2 * width, stride=2),
            nn.Dropout(dropout),
            # Of 4x4 places or fewer a filter without padding would leave few or none.
            *filters(2 * width, 2 * width, padding=int(min(shape[1:]) < 20)),
            *filters(2 * width, 2 * width, side=1, padding=0),
            *filters(2 * width, 2 * width, side=1, padding=0),
        )
        self.head = WeightNorm(nn.Linear(2 * width, classes), learns=True, deviation=0.1)

    def forward(self, x: Tensor, condition: Condition | None = None) -> Judged:
        f = self.layers(x).mean((2, 3))
        return Judged(self.head(f), f)
