"""How places are drawn."""

import math

from genlab.core.errors import UserError
from genlab.models.contract import Model


class Places:
    """Every place in turn from the model's own distribution, or from a colder or hotter one.

    Arguments:
        temperature: divides the logarithms of probabilities, and multiplies scales; 1 draws from the model.
        length: of sequences, where the network sees each place as any other; None is that of the data.
    """

    def __init__(self, temperature: float = 1.0, length: int | None = None) -> None:
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be above 0, not {temperature}")
        if length is not None and length < 1:
            raise ValueError(f"length must be at least 1, not {length}")
        self.temperature, self.length = temperature, length

    def check_suits(self, model: Model) -> None:
        """Raise a UserError where the model cannot draw so many places."""
        self.shape(model.spec["x"].shape, getattr(model, "stationary", False))

    def shape(self, shape: tuple[int, ...], stationary: bool) -> tuple[int, ...]:
        """That of a sample, where data have this one.

        Raises UserError where a length is asked for and places are not all seen alike.
        """
        if self.length is None or self.length == shape[-1]:
            return shape
        if not stationary:
            raise UserError(
                f"sampler.length={self.length}: this model draws data of {list(shape)} alone; another length is for "
                "model=markov_chain, and model=wavenet without a local condition"
            )
        return *shape[:-1], self.length

    @property
    def name(self) -> str:
        """What records of samples call it."""
        return "places" if self.temperature == 1 else f"places-{self.temperature:g}"
