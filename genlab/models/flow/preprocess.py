"""What data pass before the flow proper: noise that makes levels a density, and the logit.

References:
    Density Estimation using Real NVP (Dinh, Sohl-Dickstein & Bengio, 2017), section 4.1.
"""

from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.flow.dequantize import Dequantization
from genlab.models.flow.logit import Logit
from genlab.models.flow.transform import Composition, Mapped, Transform


class Preprocess(Transform):
    """Dequantization and the logit, or either, or neither for data that are real numbers.

    Arguments:
        dequantize: from levels to (0, 1); None for real data.
        logit: from (0, 1) to the real line; None leaves data where they are.
    """

    def __init__(self, dequantize: Dequantization | None = None, logit: Logit | None = None) -> None:
        super().__init__()
        self.adds_noise = dequantize is not None
        self.steps = Composition([step for step in (dequantize, logit) if step is not None])

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return self.steps(x, context, rng)

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return self.steps.inverse(z, context, rng)
