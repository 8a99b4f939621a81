"""How a critic ends: a score of its features, perhaps with what the batch says, and what the condition says.

    s = w . [f, o] + b + (W c) . f / sqrt(V),    c in R^V

    minibatch discrimination    M = T f in R^(K x D),    o_k = sum_j exp(-|M_k - M_jk|_1) over the other data j

A critic that sees that its batch is all alike can tell that a generator makes one thing only. Projection of the
condition's vector c is how a conditional critic judges whether datum and class belong together; it starts with a length
of sqrt(V), which is divided by, so that with spectral normalisation both parts of the score begin alike.

References:
    Improved Techniques for Training GANs (Salimans et al., 2016), section 3.2.
    cGANs with Projection Discriminator (Miyato & Koyama, 2018), eq. 3.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from genlab.core.collectives import all_cat_with_gradients
from genlab.core.errors import UserError
from genlab.networks.adversarial.contract import Judged
from genlab.networks.condition import Condition

Wrap = Callable[[nn.Module], nn.Module]
"""What is done to a layer with weights: nothing, or its spectral normalisation."""

WRAPS: dict[str, Wrap] = {"spectral": spectral_norm}
"""By the name of a normalisation; any other leaves layers as they are."""


def plain(layer: nn.Module) -> nn.Module:
    """The layer itself."""
    return layer


class MinibatchDiscrimination(nn.Module):
    """How near the other data of a batch are, those of all processes.

    Arguments:
        inputs: the length of features.
        kernels: K, how many numbers come out.
        dimension: D, of the space in which nearness is measured.
    """

    def __init__(self, inputs: int, kernels: int, dimension: int = 5) -> None:
        super().__init__()
        self.kernels, self.dimension = kernels, dimension
        self.weight = nn.Parameter(torch.randn(inputs, kernels * dimension) * inputs**-0.5)

    def forward(self, f: Tensor) -> Tensor:
        """(B, K) of features f (B, D).

        Raises UserError where there are no other data.
        """
        own = (f @ self.weight).float().unflatten(1, (self.kernels, self.dimension))
        every = all_cat_with_gradients(own)
        if len(every) == 1:
            raise UserError(
                "critic.minibatch: compares the data of a batch, and trainer.batch_size=1 leaves none to compare; "
                "take batches of 2 or more, or critic.minibatch=0"
            )
        apart = (own[:, None] - every[None]).abs().sum(3)
        # Each datum is at distance 0 from itself, which tells nothing.
        return (-apart).exp().sum(1) - 1


class Head(nn.Module):
    """A critic's end.

    Arguments:
        inputs: the length of features.
        vector: the width of condition.vector, 0 for none.
        minibatch: K, numbers of minibatch discrimination; 0 for none.
        outputs: scores.
        wrap: what is done to layers.
    """

    def __init__(self, inputs: int, vector: int = 0, minibatch: int = 0, outputs: int = 1, wrap: Wrap = plain) -> None:
        super().__init__()
        if minibatch < 0:
            raise ValueError(f"minibatch={minibatch} must be at least 0")
        self.others = MinibatchDiscrimination(inputs, minibatch) if minibatch else None
        self.score = wrap(nn.Linear(inputs + minibatch, outputs))
        self.project = wrap(nn.Linear(vector, inputs, bias=False)) if vector else None

    def forward(self, f: Tensor, condition: Condition | None = None) -> Judged:
        """What is said of features f (B, inputs)."""
        wide = f if self.others is None else torch.cat([f, self.others(f).to(f.dtype)], dim=1)
        score = self.score(wide).squeeze(1)
        if self.project is not None and condition is not None and condition.vector is not None:
            score = score + (self.project(condition.vector) * f).sum(1) * condition.vector.shape[1] ** -0.5
        return Judged(score, f)
