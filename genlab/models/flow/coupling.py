"""Couplings: one part of a datum stays, and tells how the other part is changed.

    z_a = x_a,    z_b = f(x_b; network(x_a)),    log_det = sum log f'(x_b)

The network need not be inverted, for x_a is there on the way back as well. The parts are

    halves         the first and the second half of the channels, or of a vector
    alternate      the even and the odd places of a vector, which may differ by one
    checkerboard   the white and the black pixels of images

and each may be the one that stays.

References:
    NICE: Non-linear Independent Components Estimation (Dinh, Krueger & Bengio, 2015), section 3.2.
    Density Estimation using Real NVP (Dinh, Sohl-Dickstein & Bengio, 2017), sections 3.2 to 3.4.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.flow.elementwise import Elementwise
from genlab.models.flow.transform import Mapped, Transform


class Partition(ABC):
    """The part of x (B, C, *) that stays, and the part that is changed.

    Attributes:
        kept, changed: the channels of each.
    """

    kept: int
    changed: int

    @abstractmethod
    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, kept, *) and (B, changed, *)."""

    @abstractmethod
    def join(self, kept: Tensor, changed: Tensor) -> Tensor:
        """x of both."""

    def total(self, values: Tensor) -> Tensor:
        """The sum (B,) of values (B, changed, *) over what is changed."""
        return values.flatten(1).sum(1)


class Halves(Partition):
    """The first half of the channels, and the second.

    Arguments:
        channels: an even number.
        swap: keep the second.
    """

    def __init__(self, channels: int, swap: bool = False) -> None:
        if channels % 2:
            raise UserError(
                f"{channels} dimensions have no two halves, their number is odd; choose "
                "model=realnvp_vector, whose parts may differ by one, or model=maf"
            )
        self.kept = self.changed = channels // 2
        self.swap = swap

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = x.chunk(2, dim=1)
        return (second, first) if self.swap else (first, second)

    def join(self, kept: Tensor, changed: Tensor) -> Tensor:
        return torch.cat([changed, kept] if self.swap else [kept, changed], dim=1)


class Alternate(Partition):
    """The places 0, 2, 4 and on of a vector (B, D), and the places between.

    Arguments:
        size: D, at least 2.
        swap: keep the places between.
    """

    def __init__(self, size: int, swap: bool = False) -> None:
        if size < 2:
            raise UserError(f"a coupling needs two dimensions or more, not {size}; choose model=maf")
        even = (size + 1) // 2
        self.kept, self.changed = (size - even, even) if swap else (even, size - even)
        self.swap = swap

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        even, odd = x[:, 0::2], x[:, 1::2]
        return (odd, even) if self.swap else (even, odd)

    def join(self, kept: Tensor, changed: Tensor) -> Tensor:
        even, odd = (changed, kept) if self.swap else (kept, changed)
        paired = torch.stack([even[:, : odd.shape[1]], odd], dim=2).flatten(1)
        return torch.cat([paired, even[:, odd.shape[1] :]], dim=1)


class Checkerboard(Partition):
    """Pixels whose row and column add to an even number, and the others.

    Both parts are whole images: the one that stays has zeros on the squares that are changed, and of the other one only
    these squares are looked at.

    Arguments:
        channels: of the images.
        swap: keep those whose sum is odd.
    """

    def __init__(self, channels: int, swap: bool = False) -> None:
        self.kept = self.changed = channels
        self.swap = swap

    def _stays(self, x: Tensor) -> Tensor:
        """(H, W), true where pixels stay."""
        row = torch.arange(x.shape[-2], device=x.device)[:, None]
        return (row + torch.arange(x.shape[-1], device=x.device)) % 2 == int(self.swap)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.masked_fill(~self._stays(x), 0), x

    def join(self, kept: Tensor, changed: Tensor) -> Tensor:
        return torch.where(self._stays(kept), kept, changed)

    def total(self, values: Tensor) -> Tensor:
        return values.masked_fill(self._stays(values), 0).flatten(1).sum(1)


class Coupling(Transform):
    """The map above.

    Arguments:
        partition: what stays, and what is changed.
        elementwise: f.
        network: makes a network from (B, kept, *) and the context to (B, features * changed, *), told how many channels
            go in and come out; they are, in order, all first parameters, all second ones, and so on.
        vector: the width of the context that the network hears.
    """

    def __init__(
        self,
        partition: Partition,
        elementwise: Elementwise,
        network: Callable[[int, int], nn.Module],
        vector: int = 0,
    ) -> None:
        super().__init__()
        self.partition, self.elementwise, self.vector = partition, elementwise, vector
        self.network = network(partition.kept, elementwise.features * partition.changed)

    def _told(self, kept: Tensor, context: Tensor | None) -> Tensor:
        found = self.network(kept, context if self.vector else None).to(kept.dtype)
        return found.unflatten(1, (self.elementwise.features, self.partition.changed))

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        kept, changed = self.partition.split(x)
        changed, log_slope = self.elementwise(changed, self._told(kept, context))
        return self.partition.join(kept, changed), self.partition.total(log_slope)

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        kept, changed = self.partition.split(z)
        changed, log_slope = cast(Elementwise, self.elementwise).inverse(changed, self._told(kept, context))
        return self.partition.join(kept, changed), self.partition.total(log_slope)
