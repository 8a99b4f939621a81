"""The distribution of a datum, p(x | parameters), whose parameters a network gives."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng


def check_levels(output: str, levels: int | None) -> int:
    """The levels, or a UserError where an output of discrete data is given data that are not."""
    if levels is None:
        raise UserError(
            f"levels: output={output} is for data that have them, and these are real; choose output=gaussian"
        )
    if levels < 2:
        raise UserError(f"levels must be at least 2, not {levels}")
    return levels


class Output(nn.Module, ABC):
    """p(x | parameters) of data x (B, C, *) in [-1, 1] where they have levels, from parameters (B, F, *).

    Both are in single or double precision. Where the data have levels it is the probability of a level; where they are
    real it is a density. Places are independent given the parameters; the channels of a place need not be.

    Attributes:
        features: F, how many numbers a place needs; how they are laid out is the class's own affair.
        by_channel: F / C of them are each channel's own, those of the first channel first, and channels are independent
            given them, so that the later ones may be found when the earlier channels are known.
    """

    features: int
    by_channel: bool = False

    @abstractmethod
    def log_probs(self, parameters: Tensor, x: Tensor) -> Tensor:
        """log p of each place in nats, (B, *), summed over its channels alone, with gradients in the parameters."""

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """log p(x | parameters) in nats, (B,), summed over all elements, with gradients in the parameters."""
        return self.log_probs(parameters, x)[:, None].flatten(1).sum(1)

    @abstractmethod
    def mean(self, parameters: Tensor) -> Tensor:
        """E[x | parameters], (B, C, *)."""

    @abstractmethod
    def sample(self, parameters: Tensor, rng: Rng, temperature: float = 1.0) -> Tensor:
        """x ~ p(x | parameters), (B, C, *), on the levels where the data have any.

        Arguments:
            temperature: divides the logarithms of probabilities, and multiplies scales.
        """
