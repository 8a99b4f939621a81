"""What stands between encoder and decoder: the encoder's numbers become a distribution of codes, q(z | x).

The kinds of autoencoder differ in this alone. A `Posterior` is q(z | x) beside its prior p(z), for each datum of a
batch; a `Bottleneck` makes it. Tensors of k draws for each of B data are (B, k, *).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Spec


class Posterior(ABC):
    """q(z | x), and the prior p(z) that belongs to it.

    Attributes:
        penalties: what else training adds to the loss, by name, (B,) each, in nats where it has units.
        notes: what training logs and does not minimise, by name, a number each.
        nature: what q and the prior are, where a likelihood should say it.
    """

    penalties: Mapping[str, Tensor] = {}
    notes: Mapping[str, Tensor] = {}
    nature: str = ""

    @abstractmethod
    def sample(self, rng: Rng, k: int = 1) -> Tensor:
        """z ~ q(z | x), (B, k, *), as the decoder takes it; gradients pass to the encoder."""

    @abstractmethod
    def mode(self) -> Tensor:
        """The z of highest density, (B, *), as the decoder takes it."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z | x) of z (B, k, *), (B, k) in nats."""

    @abstractmethod
    def log_prior(self, z: Tensor) -> Tensor:
        """log p(z) of z (B, k, *), (B, k) in nats."""

    def kl(self) -> Tensor | None:
        """KL(q(z | x) | p(z)), (B,) in nats, or None where it has no closed form."""
        return None

    def held(self) -> "Posterior":
        """The same without gradients to the encoder; those of `log_prob` then come by way of z alone."""
        raise UserError("objective.gradient=doubly_reparametrized: is for bottleneck=gaussian; choose standard")

    def codes(self, rng: Rng | None = None) -> Batch:
        """Each datum's code as `Autoencoder.encode` gives it: a draw from q where `rng` is given, else the mode."""
        return {"z": self.mode() if rng is None else self.sample(rng)[:, 0]}


class Bottleneck(nn.Module, ABC):
    """From the encoder's numbers to q(z | x), and from codes to what the decoder takes.

    Attributes:
        inputs: how many numbers it needs of the encoder for each place, (B, inputs, *).
        outputs: how many the decoder gets for each place, (B, outputs, *).
        variational: q is a distribution and p(z) is a prior that it is held to, so that there is a likelihood; else
            codes are points, and what they are distributed like is found afterwards.
        whole_batch: its penalties depend on the batch as a whole, all processes' parts of it.
    """

    inputs: int
    outputs: int
    variational: bool = True
    whole_batch: bool = False

    @abstractmethod
    def forward(self, h: Tensor, step: int | None = None) -> Posterior:
        """q(z | x) from the encoder's h (B, inputs, *).

        Arguments:
            step: of training, where what is seen now is also learned from; None elsewhere.
        """

    @abstractmethod
    def fields(self, shape: torch.Size) -> Spec:
        """What codes are, where the decoder takes z of this shape, without the batch dimension."""

    def prior(self, fields: Spec, rng: Rng) -> Batch:
        """Codes from p(z), one a row of `rng`."""
        return {"z": rng.normal(*fields["z"].shape)}

    def vectors(self, codes: Batch) -> Tensor:
        """What the decoder takes for these codes, (B, outputs, *)."""
        return codes["z"]

    def prepare(self, batches: Iterable[Tensor]) -> None:
        """Called once before the first step, with the encoder's h of a few batches, made as they are asked for."""

    def after_step(self, step: int) -> None:
        """Called after each optimizer step of the autoencoder."""
