"""Mixtures of logistic distributions, on levels.

    p(x | parameters) = sum_k pi_k prod_c P(x_c; m_kc, s_kc)

The channels of a place share the component k, and P is the logistic distribution's mass on the level's bin. Of three
channels, red, green and blue, the later ones hear the earlier ones, and their means are

    m_kr,    m_kg + a_k x_r,    m_kb + b_k x_r + c_k x_g

References:
    PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood and Other Modifications (Salimans et
    al., 2017), sections 2.1 and 2.2. The mass is exact where its code approximates it.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.outputs.bins import log_logistic_bin, nearest_level
from genlab.models.outputs.categorical import choose
from genlab.models.outputs.output import Output, check_levels

# The lower bound is that of PixelCNN++. With the upper one all levels but the outermost are as good as impossible.
LOG_SCALE = (-7.0, 7.0)


class LogisticMixture(Output):
    """PixelCNN++'s distribution of pixels.

    Arguments:
        shape: (C, *) of a datum; three channels are red, green and blue, and any others are independent given the
            component.
        levels: that it takes.
        components: K.

    The parameters are laid out as in PixelCNN++: K logits, then for each channel K means and K logarithms of scales,
    kept in [-7, 7], and of three channels also K numbers whose tanh are a (red's), b (green's) and c (blue's). Raises
    UserError where the data have no levels.

    The mean is that of the components' means, each kept in [-1, 1], green's and blue's at the means of the channels
    before them: exact but for what a component loses at the ends of the range and by rounding to levels.
    """

    def __init__(self, shape: Sequence[int], levels: int | None = 256, components: int = 10) -> None:
        super().__init__()
        if components < 1:
            raise ValueError(f"components must be at least 1, not {components}")
        self.levels, self.components = check_levels("logistic_mixture", levels), components
        self.layout = (shape[0], 3 if shape[0] == 3 else 2, components)
        self.features = components * (1 + self.layout[0] * self.layout[1])

    def split(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Logits (B, K, *), then means, logarithms of scales and coefficients (B, C, K, *); None without any."""
        logits, rest = parameters.tensor_split([self.components], dim=1)
        parts = rest.unflatten(1, self.layout)
        coefficients = parts[:, :, 2].tanh() if self.layout[1] == 3 else None
        return logits, parts[:, :, 0], parts[:, :, 1].clamp(*LOG_SCALE), coefficients

    def log_probs(self, parameters: Tensor, x: Tensor) -> Tensor:
        logits, mean, log_scale, coefficients = self.split(parameters)
        if coefficients is not None:
            a, b, c = coefficients.unbind(1)
            red, green = x[:, 0, None], x[:, 1, None]
            mean = mean + torch.stack([torch.zeros_like(a), a * red, b * red + c * green], dim=1)
        each = log_logistic_bin(x[:, :, None], mean, log_scale, self.levels).sum(1)
        return (logits.log_softmax(1) + each).logsumexp(1)

    def mean(self, parameters: Tensor) -> Tensor:
        logits, mean, _, coefficients = self.split(parameters)
        return (logits.softmax(1)[:, None] * _in_order(mean, coefficients, _within)).sum(2)

    def sample(self, parameters: Tensor, rng: Rng, temperature: float = 1.0) -> Tensor:
        logits, mean, log_scale, coefficients = self.split(parameters)
        u = rng.uniform(1 + self.layout[0], *parameters.shape[2:]).to(parameters)
        k = choose(logits / temperature, u[:, 0], 1)[:, None, None]
        noise = temperature * log_scale.take_along_dim(k, 2).exp() * u[:, 1:, None].logit()
        drawn = mean.take_along_dim(k, 2) + noise
        coefficients = None if coefficients is None else coefficients.take_along_dim(k, 2)
        return _in_order(drawn, coefficients, lambda x: nearest_level(x, self.levels))[:, :, 0]


def _within(x: Tensor) -> Tensor:
    return x.clamp(-1, 1)


def _in_order(x: Tensor, coefficients: Tensor | None, settled: Callable[[Tensor], Tensor]) -> Tensor:
    """Channels (B, C, *), of which the later ones hear what the earlier ones have settled on."""
    if coefficients is None:
        return settled(x)
    a, b, c = coefficients.unbind(1)
    red = settled(x[:, 0])
    green = settled(x[:, 1] + a * red)
    return torch.stack([red, green, settled(x[:, 2] + b * red + c * green)], dim=1)
