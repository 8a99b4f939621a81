"""How places are drawn."""

import math


class Places:
    """Every place in turn from the model's own distribution, or from a colder or hotter one.

    Arguments:
        temperature: divides the logarithms of probabilities, and multiplies scales; 1 draws from the model.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be above 0, not {temperature}")
        self.temperature = temperature

    @property
    def name(self) -> str:
        """What records of samples call it."""
        return "places" if self.temperature == 1 else f"places-{self.temperature:g}"
