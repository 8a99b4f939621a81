"""Sequences of bits with a beat in every fifth place, the toy on which diffusion was first shown to learn a rule.

    x = (..., 0, 1, 0, 0, 0, 0, 1, 0, ...),    20 bits;    log p(x) = log 1/5 for each of five, -2.3219 bits

References:
    Deep Unsupervised Learning using Nonequilibrium Thermodynamics (Sohl-Dickstein et al., 2015), section 3.1.2.
"""

import torch

from genlab.core.spec import Field, Spec
from genlab.data.contract import InMemory, SplitName

LENGTH, PERIOD = 20, 5
SIZES: dict[SplitName, int] = {"train": 5000, "validation": 1000, "test": 1000}


class Heartbeat:
    """Sequences of 20 bits, 1 in every fifth place and 0 elsewhere; the label is the place of the first 1, 0 to 4.

    There are but five of them, each equally often in 5,000 train, 1,000 validation and 1,000 test data, in turn.
    """

    identity = "heartbeat"
    classes = None

    def __init__(self) -> None:
        self._made: dict[SplitName, InMemory] = {}

    @property
    def spec(self) -> Spec:
        return {"x": Field((LENGTH,), levels=2), "label": Field((), classes=PERIOD)}

    def split(self, name: SplitName) -> InMemory:
        if name not in self._made:
            label = torch.arange(SIZES[name]) % PERIOD
            x = torch.arange(LENGTH) % PERIOD == label[:, None]
            self._made[name] = InMemory(x.to(torch.uint8), 2, label)
        return self._made[name]
