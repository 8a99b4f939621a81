"""What somebody is at, day by day: a chain of three states, the textbook example of a stationary distribution.

    P(x_{t+1} = j | x_t = i) = P_ij,    P = [[.05, .75, .2], [.8, .05, .15], [.25, .5, .25]],    pi = pi P

    pi = (.39781591, .41341654, .18876755)

Sequences begin in the stationary distribution.
"""

import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.core.spec import Field, Spec
from genlab.data.contract import InMemory, SplitName

MATRIX = ((0.05, 0.75, 0.2), (0.8, 0.05, 0.15), (0.25, 0.5, 0.25))
STATIONARY = (255 / 641, 265 / 641, 121 / 641)
SIZES: dict[SplitName, int] = {"train": 2000, "validation": 500, "test": 500}
SEED = 2024


class DailyStates:
    """Sequences of three states, drawn once and for all: 2,000 train, 500 validation and 500 test.

    Arguments:
        length: of a sequence, in days.
    """

    classes = None

    def __init__(self, length: int = 50) -> None:
        if length < 1:
            raise ValueError(f"length must be at least 1, not {length}")
        self.length = length
        self.identity = f"daily_states_{length}"
        self._made: dict[SplitName, InMemory] = {}

    @property
    def spec(self) -> Spec:
        return {"x": Field((1, self.length), levels=len(MATRIX))}

    def split(self, name: SplitName) -> InMemory:
        if name not in self._made:
            rng = Rng(SEED, torch.arange(SIZES[name])).stage(name)
            # A number of a day's own, so that longer sequences begin as shorter ones do.
            u = torch.stack([rng.stage(f"day {day}").uniform(dtype=torch.float64) for day in range(self.length)])
            self._made[name] = InMemory(walk(u).to(torch.uint8)[:, None], len(MATRIX))
        return self._made[name]


def walk(u: Tensor) -> Tensor:
    """States (N, L) by uniform numbers (L, N): of each day, where the sum of the chances passes its number."""
    first = torch.tensor(STATIONARY, dtype=torch.float64).cumsum(0)
    steps = torch.tensor(MATRIX, dtype=torch.float64).cumsum(1)
    state = torch.searchsorted(first, u[0]).clamp(max=len(MATRIX) - 1)
    states = [state]
    for number in u[1:]:
        state = (steps[state, :-1] < number[:, None]).sum(1)
        states.append(state)
    return torch.stack(states, dim=1)
