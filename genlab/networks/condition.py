"""What a network is told beside its input, in the three forms in which a network can take it in."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from genlab.core.errors import UserError


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


def stacked(first: Condition | None, second: Condition | None) -> Condition | None:
    """The rows of both, one after the other, for one call of a network. Both have the same parts."""
    if first is None or second is None:
        if first is not second:
            raise ValueError("one is a condition and the other has none")
        return None
    rows: dict[str, Tensor] = {}
    for name in (field.name for field in fields(Condition)):
        one, other = getattr(first, name), getattr(second, name)
        if (one is None) != (other is None):
            raise ValueError(f"one has a {name} and the other has none")
        if one is not None:
            rows[name] = torch.cat([one, other])
    return Condition(**rows)


def parts(
    condition: Condition | None, vector: int, context: int = 0, concat: int = 0
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """(vector, context, concat) for a network built for these widths; 0 is a part that it does not take.

    Raises UserError where the condition has another part than the network, since one of them would not be heard.
    """
    if condition is None:
        condition = Condition()
    given = {"vector": condition.vector, "context": condition.context, "concat": condition.concat}
    for (name, part), width in zip(given.items(), (vector, context, concat), strict=True):
        if (part is None) != (width == 0):
            raise UserError(
                f"the network takes {'no' if width == 0 else f'a {width}-wide'} condition.{name}, "
                f"and {'none was' if part is None else 'one was'} given"
            )
    return condition.vector, condition.context, condition.concat
