"""One point, seen again and again: the least that a game can be about.

    x = 0 in R^D

References:
    Which Training Methods for GANs do actually Converge? (Mescheder, Geiger & Nowozin, 2018), section 2, the Dirac-GAN.
"""

import torch

from genlab.core.spec import Field, Spec
from genlab.data.contract import InMemory, SplitName

COUNT = 1000


class Dirac:
    """The origin, as 1,000 train, validation and test data each.

    Arguments:
        dimensions: D.
    """

    classes = None

    def __init__(self, dimensions: int = 1) -> None:
        if dimensions < 1:
            raise ValueError(f"dimensions must be at least 1, not {dimensions}")
        self.dimensions = dimensions

    @property
    def spec(self) -> Spec:
        return {"x": Field((self.dimensions,))}

    @property
    def identity(self) -> str:
        return f"dirac-{self.dimensions}"

    def split(self, name: SplitName) -> InMemory:
        return InMemory(torch.zeros(COUNT, self.dimensions))
