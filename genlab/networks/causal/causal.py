"""What a causal network promises, and the way in which it is asked for one place at a time.

    y = f(x),    y_i is a function of x_j with j before i in the order

Where the channels of a place are drawn one group after the other, y_i also depends on the earlier groups of x_i, as the
masks of PixelCNN have it for red, green and blue: a place is then asked for as often as there are groups.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from genlab.networks.condition import Condition


class Causal(nn.Module, ABC):
    """A causal network of data (B, C, *), whose places L = prod(*) have an order.

    Drawing asks `start` once, then for each place in the order `at`, once for each group of channels, and `put`. What
    is written here is the naive way, which computes all anew each time; a network that keeps what it has computed
    overrides all three, and says the same.

    Attributes:
        order: (L,) int64, the places by their number in rows, first to last.
        groups: of channels, which must divide C.
        stationary: a place of a sequence is seen as any other, so that sequences may be of any length.
    """

    order: Tensor
    groups: int = 1
    stationary: bool = False

    @abstractmethod
    def forward(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """The parameters of all places, (B, F, *), for data x (B, C, *)."""

    def start(self, x: Tensor, condition: Condition | None = None) -> Any:
        """The state before the first place.

        Arguments:
            x: (B, C, *), of the data's shape and type; its values are not looked at.
        """
        return torch.zeros_like(x), condition

    def at(self, state: Any, place: int, known: Tensor) -> Tensor:
        """The parameters (B, F) of a place, the next one in the order.

        Arguments:
            state: with all that was put before.
            place: its number in rows.
            known: (B, C), the place's own values, of which those of earlier groups of channels are right.
        """
        x, condition = state
        return self(placed(x, place, known), condition).flatten(2)[..., place]

    def put(self, state: Any, place: int, value: Tensor) -> Any:
        """The state once the place has this value (B, C)."""
        x, condition = state
        return placed(x, place, value), condition


def placed(x: Tensor, place: int, value: Tensor) -> Tensor:
    """x (B, C, *) with this value (B, C) at a place."""
    return x.flatten(2).index_copy(2, torch.tensor([place], device=x.device), value[..., None]).view_as(x)


class Naive(Causal):
    """A network drawn from without keeping anything: what every other way of drawing must equal."""

    def __init__(self, network: Causal) -> None:
        super().__init__()
        self.network, self.order, self.groups = network, network.order, network.groups

    def forward(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """As the network's."""
        return self.network(x, condition)
