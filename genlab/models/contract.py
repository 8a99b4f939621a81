"""What every generative model promises to those who train, sample and measure it.

A model is built from a `Spec`, sees data as a `Batch`, and draws all of its randomness from the `Rng` that it is given.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Spec

Watch = Callable[[float, Tensor], None]
"""Called by a model that samples in steps with (progress in [0, 1], the state (B, *)) as often as it has one."""


@dataclass
class Player:
    """Parameters that one optimizer moves, and how often it takes its turn.

    Arguments:
        parameters: what it moves, and nothing else moves.
        every: it plays in every so many rounds.
        repeats: it takes so many steps in a row, each on a batch of its own.
    """

    parameters: list[nn.Parameter]
    every: int = 1
    repeats: int = 1


@dataclass
class Nll:
    """Minus the log-likelihood of each datum.

    Arguments:
        nats: (B,); of the discrete datum where its field has levels, else of its density.
        bound: "exact", "upper" (the true value is at most this in expectation) or "estimate".
        terms: the parts that it is the sum of, each (B,); beside them, (B, K), any parts of those listed one by one.
        how: what was computed, for the one who reads the number.
    """

    nats: Tensor
    bound: Literal["exact", "upper", "estimate"]
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    how: str = ""


class Model(nn.Module):
    """A generative model.

    Attributes:
        can: the abilities that it has: "sample", "nll", "encode", "decode", "features", "classify".
        reads: the batch keys that training needs; `conditions` are those that sampling may be given.
        writes: the batch keys that sampling makes.
        source: what samples are drawn from, where it is not the model's own prior.
        counts: the player whose steps are the steps of training.
        whole_batch: the loss is of the batch as a whole, all processes' rows of it, and is not the mean of its parts'.
        smallest_batch: the fewest data that each process can train on at once.
        loss_tells: the loss of data that training did not see tells how good the model is; not that of a game, in which
            players are as bad as others are good.
    """

    can: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset({"x"})
    writes: frozenset[str] = frozenset({"x"})
    conditions: frozenset[str] = frozenset()
    counts: str = "model"
    source: str = ""
    whole_batch: bool = False
    smallest_batch: int = 1
    loss_tells: bool = True

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec

    def players(self) -> dict[str, Player]:
        """In turn order; empty where nothing is optimised."""
        return {"model": Player([p for p in self.parameters() if p.requires_grad])}

    @abstractmethod
    def loss(self, batch: Batch, rng: Rng, player: str, step: int) -> dict[str, Tensor]:
        """What the player minimises as "loss", a scalar; all else in the dictionary is logged.

        A player whose loss has no gradients sits its turn out: nothing of it is moved.

        Arguments:
            batch: the data, with every key of `reads`.
            rng: one row a datum; equal rows give equal noise whatever the batch is split into.
            step: how many steps the counting player has taken.
        """

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Called once before the first step, with a few training batches."""

    def begin(self) -> None:
        """Called before the first step, and where a run goes on: what `finish` found is of other weights."""

    def troubles(self, means: Mapping[str, float], step: int) -> dict[str, str]:
        """What is amiss in the means that training logged, a line for each kind by its name.

        Arguments:
            means: by name, as "loss", or "critic/loss" where there are several players.
        """
        return {}

    def after_step(self, player: str, step: int) -> None:
        """Called after each of the player's optimizer steps."""

    def finish(self, batches: Iterable[Batch]) -> None:
        """Called once after the last step, with the training data in order."""

    def sample(self, conditions: Batch, rng: Rng, sampler: Any = None, watch: Watch | None = None) -> Batch:
        """One sample a row of `rng`, with the keys of `writes`.

        Arguments:
            conditions: what is asked for, (B, *) each, with some of the keys of `conditions`; empty for anything.
            sampler: the object that draws, where the model has a choice.
            watch: sees the states on the way.
        """
        raise UserError(f"{type(self).__name__} cannot sample")

    def nll(self, batch: Batch, rng: Rng, estimator: Any = None) -> Nll:
        """Minus the log-likelihood of batch["x"], given its other keys where the model is conditional."""
        raise UserError(f"{type(self).__name__} has no likelihood")

    def encode(self, batch: Batch, rng: Rng | None = None) -> Batch:
        """The latent code of each datum; a sample of it where `rng` is given."""
        raise UserError(f"{type(self).__name__} cannot encode")

    def decode(self, batch: Batch) -> Batch:
        """From latent codes to data."""
        raise UserError(f"{type(self).__name__} cannot decode")

    def features(self, batch: Batch, rng: Rng, t: float, layer: str | None = None) -> Tensor:
        """What its network computes on its way from the data batch["x"], (B, D).

        Arguments:
            rng: of the noise that the network sees data with.
            t: how much of it, as a time in (0, 1].
            layer: of the network; None is the one that it names itself.
        """
        raise UserError(f"{type(self).__name__} has no features to be looked at")

    def classify(self, batch: Batch) -> Tensor:
        """log p(y | x) of each class y, (B, K), for the data batch["x"]."""
        raise UserError(f"{type(self).__name__} cannot classify")

    @property
    def latent_spec(self) -> Spec:
        """What `encode` returns and `decode` takes, for a second stage to be built from."""
        raise UserError(f"{type(self).__name__} has no latent code")

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device
