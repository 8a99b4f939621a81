"""Styles nearer to their mean: samples that look better and differ less.

    w' = w_mean + psi (w - w_mean),    w = mapping(z)

References:
    A Style-Based Generator Architecture for Generative Adversarial Networks (Karras, Laine & Aila, 2019), appendix B.
"""

from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.networks.adversarial.contract import Generator, Styled
from genlab.networks.condition import Condition


class Truncation:
    """Draws from a generator that has styles.

    Arguments:
        psi: 1 draws as it is, 0 the mean alone.
    """

    def __init__(self, psi: float = 0.7) -> None:
        if not 0 <= psi <= 1:
            raise ValueError(f"psi={psi} must be in [0, 1]")
        self.psi = psi

    @property
    def name(self) -> str:
        """What records of samples, and their folders, call it."""
        return f"truncation-{self.psi:g}"

    def check_suits(self, model: nn.Module) -> None:
        """Raise a UserError where the model has no styles."""
        if not any(isinstance(part, Styled) for part in model.modules()):
            raise UserError(
                f"sampler=truncation: {type(model).__name__} has no styles to bring to their mean; it is for "
                "model=stylegan2"
            )

    def __call__(self, generator: Generator, z: Tensor, condition: Condition | None, rng: Rng) -> Tensor:
        """Data (B, *shape) of noise z (B, size)."""
        self.check_suits(generator)
        assert isinstance(generator, Styled)
        mean = generator.mean_style
        return generator.synthesize(mean + self.psi * (generator.styles(z, condition) - mean), rng)
