"""What a network is told beside its input, in the three forms in which a network can take it in."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """What steers a network.

    Arguments:
        vector: (B, V), added to the embedding of time: a class, a pooled text.
        context: (B, L, C), attended to: the tokens of a text.
        concat: (B, C, H, W), stacked on the input's channels: a smaller image, a mask.
    """

    vector: Tensor | None = None
    context: Tensor | None = None
    concat: Tensor | None = None
