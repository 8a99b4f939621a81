"""How a flow is sampled: noise from its base at a temperature, mapped to data.

    z = mean + T (z' - mean),    z' ~ p(z),    x = f^-1(z)

References:
    Glow: Generative Flow with Invertible 1x1 Convolutions (Kingma & Dhariwal, 2018), section 5.
"""


class FlowSampler:
    """Draws at a temperature.

    Arguments:
        temperature: T, at least 0; below 1 samples are likelier and less varied: 0.7 in Glow's pictures.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        if not temperature >= 0:
            raise ValueError(f"temperature must be at least 0, not {temperature}: 1 is the model's own distribution")
        self.temperature = temperature

    @property
    def name(self) -> str:
        """What records of samples, and their folders, call it: with the temperature where it is not 1."""
        return "flow" if self.temperature == 1 else f"flow-{self.temperature:g}"
