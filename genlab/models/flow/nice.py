"""NICE: additive couplings of the even and the odd places of a vector in turn, and a scale for each number.

    h_1 = h_0 + [0, m(h_0 even)],    h_2 = h_1 + [m(h_1 odd), 0],    ...,    z = exp(s) h_K

References:
    NICE: Non-linear Independent Components Estimation (Dinh, Krueger & Bengio, 2015), sections 3 and 5.1.
"""

import math
from collections.abc import Sequence
from functools import partial

from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.flow.coupling import Alternate, Coupling
from genlab.models.flow.elementwise import Shift
from genlab.models.flow.nice_scaling import Scaling
from genlab.models.flow.transform import Composition, Flatten, Mapped, Shape, Transform
from genlab.networks.coupling_nets import Dense
from genlab.networks.layers import at_least_one


class NICE(Transform):
    """The map above, of data of any shape as vectors.

    Arguments:
        shape: of a datum, with an even number of dimensions.
        couplings: K; the published numbers are 4 couplings with 5 layers of 1,000 on MNIST, of 2,000 on CIFAR-10.
        hidden: the widths of a coupling's layers.
        vector: the width of the context that couplings hear, 0 for none.

    Raises UserError where the dimensions are odd in number.
    """

    def __init__(
        self, shape: Sequence[int], couplings: int = 4, hidden: Sequence[int] = (1000,) * 5, vector: int = 0
    ) -> None:
        super().__init__()
        at_least_one(couplings=couplings)
        size, self.vector = math.prod(shape), vector
        if size % 2:
            raise UserError(
                f"{size} dimensions have no two halves, their number is odd; choose "
                "model=realnvp_vector, whose parts may differ by one"
            )
        network = partial(Dense, hidden=hidden, context=vector)
        steps = [Coupling(Alternate(size, i % 2 == 1), Shift(), network, vector) for i in range(couplings)]
        self.steps = Composition([Flatten(shape), *steps, Scaling(size)])

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return self.steps(x, context, rng)

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        return self.steps.inverse(z, context, rng)

    def out_shape(self, shape: Shape) -> Shape:
        return self.steps.out_shape(shape)
