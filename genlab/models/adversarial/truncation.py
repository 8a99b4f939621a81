"""Styles nearer to their mean: samples that look better and differ less.

    w' = w_mean + psi (w - w_mean),    w = mapping(z)

References:
    A Style-Based Generator Architecture for Generative Adversarial Networks (Karras, Laine & Aila, 2019), appendix B.
"""

from torch import Tensor

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

    def __call__(self, generator: Generator, z: Tensor, condition: Condition | None, rng: Rng) -> Tensor:
        """Data (B, *shape) of noise z (B, size)."""
        if not isinstance(generator, Styled):
            raise UserError(
                f"sampler=truncation: {type(generator).__name__} has no styles to bring to their mean; it is for "
                "model=stylegan2"
            )
        mean = generator.mean_style
        return generator.synthesize(mean + self.psi * (generator.styles(z, condition) - mean), rng)
