"""What shows that a game goes wrong, while it is played.

    accuracy    the share of pairs (x, x') with C(x) > C(x'): 1 where the critic tells all data from what is made
    spread      the mean distance of two that are made, in that of two data: near 0 where the modes have collapsed
    drift       how far what is made of the same noise has moved in some steps, in the mean distance of two data:
                near 0 at an equilibrium, and not where the players circle

Accuracy is the area under the curve of true over false alarms. It needs no threshold and so is the same for every
objective.

References:
    Towards Principled Methods for Training Generative Adversarial Networks (Arjovsky & Bottou, 2017), section 2.
    Improved Techniques for Training GANs (Salimans et al., 2016), section 2.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

EVERY = 100
"""Steps over which the drift is measured."""

SEPARATED, SURE, FLAT, COLLAPSED, RESTLESS = 0.999, 0.99, 1e-2, 0.2, 0.7
"""Accuracies at which a critic knows all, and nearly all; the norm of a gradient that is gone; a spread; a drift."""

EARLY, SETTLED = 500, 1000
"""Steps before which nothing is said, and before which nothing is said of drift."""


def pair_accuracy(real: Tensor, made: Tensor) -> Tensor:
    """The share of pairs whose datum has the higher score, ties counting half, of scores (B,) and (B',)."""
    apart = real.float()[:, None] - made.float()[None, :]
    return (apart.sign() + 1).mean() / 2


def mean_distance(x: Tensor) -> Tensor:
    """The mean Euclidean distance of two different rows of x (B, *), by all pairs."""
    flat = x.detach().float().flatten(1)
    return torch.cdist(flat, flat).sum() / max(len(x) * (len(x) - 1), 1)


def relative(distance: Tensor, unit: Tensor) -> Tensor:
    """distance / unit, a scalar; 1 where the unit is 0, as of a batch of one, or of data that are one point."""
    return torch.where(unit > 0, distance / unit.clamp(min=1e-12), 1.0)


class Drift(nn.Module):
    """How far what is made of the same noise moves.

    Arguments:
        z: (N, size), that noise.
        shape: of a datum.
    """

    z: Tensor
    before: Tensor
    moved: Tensor

    def __init__(self, z: Tensor, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("z", z)
        self.register_buffer("before", torch.zeros(len(z), *shape))
        self.register_buffer("moved", torch.zeros(()))

    @torch.no_grad()
    def update(self, make: Callable[[Tensor], Tensor]) -> None:
        """Look at what is made now."""
        now = make(self.z).float()
        self.moved.copy_((now - self.before).flatten(1).norm(dim=1).mean())
        self.before.copy_(now)


def troubles(means: Mapping[str, float], step: int) -> dict[str, str]:
    """What is amiss in the means that training logged, by a name for each kind."""
    found: dict[str, str] = {}
    if step < EARLY:
        return found
    accuracy, norm = means.get("critic/accuracy", 0.5), means.get("generator/gradient_norm", 1.0)
    if accuracy >= SEPARATED:
        found["separation"] = (
            f"the critic tells all data from what is made (accuracy {accuracy:.3f}), as where both lie in few "
            "dimensions; augment=instance_noise blurs both, penalty=r1 holds the critic back"
        )
    # A small gradient alone is no trouble: scores may be small, as with clipped weights, and Adam does not mind.
    if norm < FLAT and accuracy >= SURE:
        found["vanishing gradient"] = (
            f"the generator's gradient is nearly gone (norm {norm:.1e}) where the critic is sure (accuracy "
            f"{accuracy:.3f}); objective=nonsaturating keeps it, or wasserstein with penalty=gradient_penalty"
        )
    if (spread := means.get("generator/spread", 1.0)) < COLLAPSED:
        found["mode collapse"] = (
            f"what is made differs {spread:.2f} times as much from one to the next as data do; see metric=modes, and "
            "try a quicker critic (optim.players.critic.lr, model.critic_steps), penalty=r1 or critic.minibatch=50"
        )
    if step >= SETTLED and (drift := means.get("generator/drift", 0.0)) > RESTLESS:
        found["no equilibrium"] = (
            f"what is made of the same noise moves by {drift:.2f} of the distance between data in {EVERY} steps; lower "
            "optim.lr, or try a quicker critic (optim.players.critic.lr), penalty=r1 or optim=optimistic_adam"
        )
    return found
