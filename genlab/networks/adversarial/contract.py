"""What a generator and a critic are: the networks that an adversarial model is made of.

    x = G(z | c),    s = C(x | c)

References:
    Generative Adversarial Nets (Goodfellow et al., 2014).
    Improved Techniques for Training GANs (Salimans et al., 2016), whose features of a critic these are.
"""

from abc import abstractmethod
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from genlab.core.rng import Rng
from genlab.networks.condition import Condition


class Judged(NamedTuple):
    """What a critic says.

    Arguments:
        score: (B,) or (B, K), high for what looks like data.
        features: (B, D), of the layer before.
    """

    score: Tensor
    features: Tensor


class Generator(nn.Module):
    """From noise to data."""

    @abstractmethod
    def forward(self, z: Tensor, condition: Condition | None = None, rng: Rng | None = None) -> Tensor:
        """Data (B, *shape) of noise z (B, size); `rng` is of what the network adds on its way, where it adds any."""


class Critic(nn.Module):
    """From data to judgements.

    Attributes:
        whole_batch: what it says of a datum depends on the batch that it comes in.
    """

    whole_batch: bool = False

    @abstractmethod
    def forward(self, x: Tensor, condition: Condition | None = None) -> Judged:
        """What it says of data x (B, *shape)."""


@runtime_checkable
class Styled(Protocol):
    """A generator whose noise is first made a style.

    Attributes:
        layers: how many styles a datum takes.
        mean_style: (W,), the mean of styles.
    """

    layers: int
    mean_style: Tensor

    def styles(self, z: Tensor, condition: Condition | None = None) -> Tensor:
        """w (B, W) of noise z (B, size)."""

    def synthesize(self, w: Tensor, rng: Rng | None = None) -> Tensor:
        """Data (B, *shape) of styles w (B, W), or (B, layers, W) where each layer has its own."""
