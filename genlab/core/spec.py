"""What a data set holds, so that models, networks and metrics can be built from it alone.

A `Batch` is a dictionary of tensors whose first dimension counts the data; a `Spec` says of each key what stands there.
"x" is the datum that is modelled. Images travel in [-1, 1]: a value v of L levels is x = 2 v / (L - 1) - 1.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Field:
    """One key of a batch.

    Arguments:
        shape: of one datum, without the batch dimension; () for a label.
        levels: a discrete datum takes this many evenly spaced values in [-1, 1]; None is a real datum.
        classes: a label counts from 0 to classes - 1.
        vocabulary: a token counts from 0 to vocabulary - 1.
        support: "real", or the name of the set that the values lie in.
        dims: the dimensions that bits/dim divides by; None is the product of `shape`. 784 for MNIST padded to 32x32.
        rate: of sound, (1, L), how many values there are a second; its levels are those of the mu-law.
    """

    shape: tuple[int, ...]
    levels: int | None = None
    classes: int | None = None
    vocabulary: int | None = None
    support: str = "real"
    dims: int | None = None
    rate: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if self.levels is not None and self.levels < 2:
            raise ValueError(f"levels must be at least 2, not {self.levels}")
        if self.rate is not None and (self.rate < 1 or len(self.shape) != 2 or self.shape[0] != 1):
            raise ValueError(f"rate={self.rate} must be at least 1 and is of sound, (1, L), not {self.shape}")

    @property
    def dimensions(self) -> int:
        """The count that bits/dim divides by."""
        return math.prod(self.shape) if self.dims is None else self.dims

    @property
    def is_image(self) -> bool:
        """(channels, height, width) with one or three channels."""
        return len(self.shape) == 3 and self.shape[0] in (1, 3)

    @property
    def is_sound(self) -> bool:
        """So many values a second, of one channel."""
        return self.rate is not None


Spec = dict[str, Field]


def spec_to_config(spec: Spec) -> dict[str, dict[str, Any]]:
    """Plain lists and numbers, as a config holds them."""
    return {key: {**asdict(field), "shape": list(field.shape)} for key, field in spec.items()}


def spec_from_config(config: dict[str, dict[str, Any]]) -> Spec:
    return {key: Field(**field) for key, field in config.items()}
