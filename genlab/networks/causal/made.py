"""MADE as a causal network of data: every value of a datum is given those before it by one masked dense network.

    y = mean over m of MADE_m(x)

All C L values have a place each, the channels of a place one after the other; where a place's distribution couples its
channels they have one together. The M networks of an ensemble have their weights in common, and differ in which hidden
units see what. Training takes them in turn; else the parameters are those of the mean of their distributions,

    p(x_d | x_<d) = (1 / M) sum_m p_m(x_d | x_<d)

which is again one autoregressive distribution, so that it is exact, and drawn from place by place. The order of the
places is one for all: of several there would be no such distribution.

References:
    MADE: Masked Autoencoder for Distribution Estimation (Germain et al., 2015).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.core.rng import Rng
from genlab.core.units import to_levels
from genlab.networks import masked
from genlab.networks.causal.causal import Causal
from genlab.networks.condition import Condition, parts
from genlab.networks.layers import at_least_one


class MADE(Causal):
    """A masked dense network over all values of a datum, or several with the same weights.

    Arguments:
        shape: (C, *) of a datum.
        features: F, the numbers that a place's distribution needs, those of its first channel first.
        levels: that data take, None where they are real; needed where they are seen one-hot or there are several masks.
        hidden: the widths of the hidden layers.
        order: "natural", in rows, or "random", drawn by the seed.
        masks: M, how many networks there are. With one of them hidden units are spread evenly over what they may see,
            with several it is drawn by the seed. Several are for distributions of bits and of levels.
        seed: of a random order, and of several masks.
        direct: values also reach the outputs without the hidden layers between.
        one_hot: a value is seen as one number a level, as those are that have no order.
        joint: the channels of a place are drawn together, by a distribution that couples them.
        dropout: the probability that a hidden unit is silent in training.
        vector: the width of condition.vector, 0 for none.

    Raises ValueError where `features` are not as many for each channel, where levels are lacking, and for several masks
    of other distributions.
    """

    turn: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        features: int,
        hidden: Sequence[int],
        levels: int | None = 2,
        order: Literal["natural", "random"] = "natural",
        masks: int = 1,
        seed: int = 0,
        direct: bool = False,
        one_hot: bool = False,
        joint: bool = False,
        dropout: float = 0.0,
        vector: int = 0,
    ) -> None:
        super().__init__()
        at_least_one(masks=masks)
        channels, count = shape[0], math.prod(shape[1:])
        self.groups = 1 if joint else channels
        # The channels that have a place of the masked network together, and the numbers that come out for it.
        self.together, self.each = channels // self.groups, features // self.groups
        if features % self.groups:
            raise ValueError(f"features={features} cannot be those of {channels} channels; take joint=true")
        if one_hot and levels is None:
            raise ValueError("one_hot is for data that have levels, and these are real")
        per_value = features // channels
        if masks > 1 and (features % channels or not (per_value == levels or (per_value == 1 and levels == 2))):
            raise ValueError(f"masks={masks}: several are for output=bernoulli or categorical; take 1")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout} must be at least 0 and below 1")
        self.levels, self.one_hot, self.vector, self.bits = levels, one_hot, vector, per_value == 1
        self.order = torch.arange(count) if order == "natural" else shuffled(count, seed)
        values = (self.order[:, None] * self.groups + torch.arange(self.groups)).flatten()
        self.network = masked.MADE(
            size=count * self.groups,
            outputs=self.each,
            hidden=hidden,
            numbers=self.together * (levels if one_hot and levels else 1),
            context=vector,
            order=values,
            direct=direct,
            activation=lambda: nn.Sequential(nn.ReLU(), nn.Dropout(dropout)) if dropout else nn.ReLU(),
        )
        self.connectivity = [self.network.degrees[1:]]
        self.assigned = 0
        if masks > 1:
            # Not sorted, as those of one mask are, else a unit would see nearly the same places in all of them.
            drawn = [masked.random_degrees(self.network.size, hidden, seed + m, vector > 0) for m in range(masks)]
            self.connectivity, self.assigned = drawn, -1
            self.use(0)
            # How often it was trained, which travels with the weights, so that a run goes on where it stopped.
            self.register_buffer("turn", torch.zeros((), dtype=torch.long))

    def use(self, number: int) -> None:
        """Let the masks be those of this number."""
        if number != self.assigned:
            self.network.assign(self.network.order, self.connectivity[number])
            self.assigned = number

    def forward(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """(B, C, *) to (B, F, *). In training of one network, whose turn it is; else of the mean."""
        numbers, (vector, _, _) = self.encoded(x.flatten(2)), parts(condition, self.vector)
        count = len(self.connectivity)
        turns: Sequence[int] = range(count)
        if self.training and count > 1:
            turns = [int(self.turn) % count]
            self.turn += 1
        found = []
        for number in turns:
            self.use(number)
            y = self.network(numbers, vector).unflatten(2, (-1, self.groups))
            found.append(y.permute(0, 3, 1, 2).flatten(1, 2))
        return self.mean(found).unflatten(2, x.shape[2:])

    def encoded(self, x: Tensor) -> Tensor:
        """Values (B, C, L) as the masked network sees them, (B, numbers, L groups)."""
        if self.one_hot and self.levels:
            kinds = F.one_hot(to_levels(x, self.levels), self.levels).to(x.dtype)
            numbers = kinds.movedim(3, 2)
        else:
            numbers = x[:, :, None]
        # (B, C, numbers of a value, L), of which the channels of a group have one place.
        return numbers.reshape(len(x), self.groups, -1, x.shape[2]).permute(0, 2, 3, 1).flatten(2)

    def mean(self, found: list[Tensor]) -> Tensor:
        """The parameters of the mean of distributions whose parameters are (B, F, *), or those of one group."""
        if len(found) == 1:
            return found[0]
        y = torch.stack(found)
        if self.bits:
            return F.logsigmoid(y).logsumexp(0) - F.logsigmoid(-y).logsumexp(0)
        logits = y.unflatten(2, (-1, self.levels))
        return logits.log_softmax(3).logsumexp(0).flatten(1, 2)

    def start(self, x: Tensor, condition: Condition | None = None) -> "Walk":
        """All networks of the ensemble, each of whose hidden units will be computed once."""
        vector, _, _ = parts(condition, self.vector)
        ways = []
        for number in range(len(self.connectivity)):
            self.use(number)
            ways.append(self.network.start(len(x), vector))
        return Walk(ways)

    def at(self, state: "Walk", place: int, known: Tensor) -> Tensor:
        group = state.asked
        found = self.next(state, known)
        return F.pad(found, (group * self.each, (self.groups - group - 1) * self.each))

    def put(self, state: "Walk", place: int, value: Tensor) -> "Walk":
        while state.asked < self.groups:
            self.next(state, value)
        state.before, state.asked = self.encoded(value[:, :, None])[:, :, -1], 0
        return state

    def next(self, state: "Walk", value: Tensor) -> Tensor:
        """The parameters (B, F / groups) of the next group of a place whose values before it are those of (B, C)."""
        if state.asked:
            state.before = self.encoded(value[:, :, None])[:, :, state.asked - 1]
        state.asked += 1
        return self.mean([way.advance(state.before) for way in state.ways])


@dataclass
class Walk:
    """Where drawing has come to.

    Arguments:
        ways: the networks, at the same place.
        before: (B, numbers), the values before it; None before the first.
        asked: how many groups of channels of the place were asked for.
    """

    ways: list[masked.Places]
    before: Tensor | None = None
    asked: int = 0


def shuffled(count: int, seed: int) -> Tensor:
    """The places in an order that depends on the seed alone."""
    return Rng(seed, torch.zeros(1, dtype=torch.long)).stage("order").uniform(count)[0].argsort()
