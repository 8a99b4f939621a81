"""From what a batch says about its data to what a network is told: labels become the condition's vector.

With the probability `dropout` a label is replaced by the null label in training, so that one network learns
p(x | label) and p(x), which classifier-free guidance needs.

References:
    Classifier-Free Diffusion Guidance (Ho & Salimans, 2022).
"""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch
from genlab.networks.condition import Condition


class Conditioner(nn.Module):
    """Makes the condition of a batch. Call it once a batch, outside the loop over steps.

    Attributes:
        reads: the batch keys that it looks at.
        vector: the width of the condition's vector, 0 where it has none.
        dropout: the probability that training replaces the condition by one that says nothing; where it is 0 the
            network never learned to do without.
    """

    reads: frozenset[str] = frozenset()
    vector: int = 0
    dropout: float = 0.0

    @abstractmethod
    def forward(self, batch: Batch, rng: Rng | None = None) -> Condition | None:
        """The condition of each row; `rng` draws what training drops."""

    @abstractmethod
    def null(self, batch: Batch, rng: Rng | None = None) -> Condition | None:
        """The condition that says nothing, for as many rows as the batch has, or `rng` where the batch is empty."""


class Unconditional(Conditioner):
    """Says nothing.

    Arguments:
        vector: 0, the width that networks read from their conditioner.
    """

    def __init__(self, vector: int = 0) -> None:
        super().__init__()
        if vector != 0:
            raise UserError(f"conditioner=none has no vector, but conditioner.vector={vector}: leave it 0")

    def forward(self, batch: Batch, rng: Rng | None = None) -> None:
        return None

    def null(self, batch: Batch, rng: Rng | None = None) -> None:
        return None


class ClassLabel(Conditioner):
    """A learned vector for each class, and one more for the null label.

    batch["label"] is (B,) int64; -1, or no such key, is the null label.

    Arguments:
        classes: labels count from 0 to classes - 1.
        vector: the width of the vectors.
        dropout: the probability that training replaces a label by the null label.
    """

    reads = frozenset({"label"})

    def __init__(self, classes: int, vector: int = 128, dropout: float = 0.0) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise UserError(f"conditioner.dropout={dropout} must be at least 0 and below 1")
        self.classes, self.vector, self.dropout = classes, vector, dropout
        self.embedding = nn.Embedding(classes + 1, vector)

    def forward(self, batch: Batch, rng: Rng | None = None) -> Condition:
        """The vectors of the labels, (B, vector).

        Raises UserError outside training where a label is out of range, or where the null label is asked for although
        it was never trained. Training does not look, since a look would wait for the device.
        """
        if "label" not in batch:
            return self.null(batch, rng)
        label = batch["label"]
        if not self.training:
            self._check(label)
        label = torch.where(label < 0, self.classes, label)
        if self.training and self.dropout > 0 and rng is not None:
            label = torch.where(rng.stage("label dropout").uniform() < self.dropout, self.classes, label)
        return Condition(vector=self.embedding(label))

    def null(self, batch: Batch, rng: Rng | None = None) -> Condition:
        """The vector of the null label for each row, (B, vector)."""
        if not self.training:
            self._check_null()
        rows = len(next(iter(batch.values()))) if batch else len(rng) if rng is not None else 1
        return Condition(vector=self.embedding.weight[self.classes].expand(rows, -1))

    def _check(self, label: Tensor) -> None:
        lowest, highest = (int(n) for n in torch.stack([label.min(), label.max()]).tolist())
        if lowest < -1 or highest >= self.classes:
            wrong = highest if highest >= self.classes else lowest
            raise UserError(f"label={wrong} is not one of the {self.classes} classes 0..{self.classes - 1}")
        if lowest == -1:
            self._check_null()

    def _check_null(self) -> None:
        if self.dropout == 0:
            raise UserError(
                f"the model was trained with a label for every datum (conditioner.dropout=0) and cannot do without: "
                f"give label=0..{self.classes - 1}, or train with conditioner.dropout=0.1"
            )
