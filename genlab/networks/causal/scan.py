"""How an image is drawn in rows by a network that keeps the rows and columns which its kernels still reach.

at the first place of row i:    what sees the rows above alone is computed for all columns, from x_{i-1}
at place (i, j):                what sees the row itself is computed for this place alone
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.networks.causal.masked_conv import Kept


class Scan(ABC):
    """Where drawing has come to: the state of a causal network of images.

    Arguments:
        x: (B, C, H, W), of the data's shape and type.
        groups: of channels, for each of which a place is asked for.
        levels: how often the network halves the sides.

    Attributes:
        rows, places: for each level what is kept of its maps that come in rows, and of those that come in places.
        above, own: (B, C, 1, W), the row above and what is there of the one that is drawn.
    """

    def __init__(self, x: Tensor, groups: int = 1, levels: int = 1) -> None:
        self.groups, self.width = groups, x.shape[3]
        self.rows = [Kept(self.width >> level) for level in range(levels)]
        self.places = [Kept(self.width >> level, column=0) for level in range(levels)]
        self.above, self.own = torch.zeros_like(x[:, :, :1]), torch.zeros_like(x[:, :, :1])
        self.place, self.asked = -1, 0

    @abstractmethod
    def begin(self) -> None:
        """A row begins, the one under `above`."""

    @abstractmethod
    def step(self, value: Tensor) -> Tensor:
        """The parameters (B, F, 1, 1) of the place, of which the earlier groups of `value` (B, C, 1, 1) are right."""

    @abstractmethod
    def settle(self, value: Tensor) -> None:
        """Let the first layer have the value (B, C, 1, 1) of a place for which there was a step."""

    def at(self, place: int, known: Tensor) -> Tensor:
        """The parameters (B, F) of the next place, as `Causal.at`."""
        self._move(place)
        self.asked += 1
        return self.step(known[..., None, None])[..., 0, 0]

    def put(self, place: int, value: Tensor) -> "Scan":
        """The same state, once the place has this value, as `Causal.put`."""
        self._move(place)
        value = value[..., None, None]
        # What the last group was told is right for all that is kept, but for the values themselves.
        if self.asked < self.groups:
            self.step(value)
        self.settle(value)
        self.own[..., place % self.width] = value[..., 0]
        self.asked = 0
        return self

    def _move(self, place: int) -> None:
        if place == self.place:
            return
        row, column = divmod(place, self.width)
        for level, (rows, places) in enumerate(zip(self.rows, self.places, strict=True)):
            rows.row = places.row = row >> level
            places.column = column >> level
        self.place = place
        if column == 0:
            if row:
                self.above, self.own = self.own, torch.zeros_like(self.own)
            self.begin()


def image_places(network: str, shape: Sequence[int]) -> Tensor:
    """The places of an image (C, H, W) in rows, or a UserError for other data."""
    if len(shape) != 3:
        raise UserError(
            f"causal={network} is for images, and data of the shape {tuple(shape)} are none; choose causal=made, or "
            "wavenet for sequences"
        )
    return torch.arange(shape[1] * shape[2])


def channel_groups(features: int, channels: int, joint: bool, **widths: int) -> int:
    """Into how many groups a place's channels fall; a ValueError where the features, or these widths, do not."""
    groups = 1 if joint else channels
    if features % groups:
        raise ValueError(f"features={features} cannot be those of {channels} channels; take joint=true")
    for name, width in widths.items():
        if width < 1 or width % groups:
            raise ValueError(f"{name}={width} must be a multiple of the {groups} channels, which have a share each")
    return groups
