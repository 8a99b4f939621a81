"""A classifier that is a critic too: it learns from few labels and from many data without any.

    p(y | x) = exp(l_y) / sum_k exp(l_k),    y = 1 .. K,    l = C(x) in R^K
    D(x)     = Z / (Z + 1),                  Z = sum_k exp(l_k),   log Z = logsumexp(l)

A class of what is made, beside those of data, has l = 0 fixed, which costs nothing since only differences of l count.
So logsumexp(l) is the score of a critic as any other: the game is that of `GAN`, and the critic has one more part to
minimise, that of data with a label:

    L = E -log p(y | x)  +  u L_game

Where the generator matches features, as published, and u = 1/2, this is the published method.

References:
    Improved Techniques for Training GANs (Salimans et al., 2016), section 5.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Spec
from genlab.models.adversarial.augment import Augmentation
from genlab.models.adversarial.gan import GAN
from genlab.models.adversarial.noise import Noise
from genlab.models.adversarial.objective import Objective
from genlab.models.adversarial.penalty import Penalty
from genlab.models.adversarial.regularizer import Regularizer
from genlab.models.adversarial.truncation import Truncation
from genlab.models.conditioning import Conditioner
from genlab.models.contract import Model, Player, Watch
from genlab.networks.adversarial.contract import Critic, Generator, Judged
from genlab.networks.adversarial.weight_norm import fit
from genlab.networks.condition import Condition

LABELLED, LABEL = "labelled", "labelled_as"
"""Of a batch: data whose class is known, and the class."""


class Summed(Critic):
    """A critic of K numbers, whose score is the logarithm of the sum of their exponentials.

    Arguments:
        classifier: the critic.
    """

    def __init__(self, classifier: Critic) -> None:
        super().__init__()
        self.classifier, self.whole_batch = classifier, classifier.whole_batch

    def forward(self, x: Tensor, condition: Condition | None = None) -> Judged:
        each, features = self.classifier(x, condition)
        return Judged(each.float().logsumexp(1), features)


class SemiSupervisedGAN(Model):
    """A generator and a critic that classifies.

    Arguments:
        spec: of the data: "x" has no labels, and "labelled" those under "labelled_as".
        generator: from noise to data.
        critic: from data to a number for each class, (B, K).
        noise: what the generator starts from.
        objective: what the two minimise in their game.
        conditioner: none, since the label is what is to be told.
        penalty: of the critic's score; None for none.
        regularizer: of the generator; None for none.
        augment: what is done to all that the critic sees in training; None for nothing.
        critic_steps: of the critic for one of the generator.
        updates: "alternating" or "simultaneous".
        historical: what a player's squared distance from the mean of its past weights costs it.
        unlabelled: u, what the game counts for the critic beside the labels.

    Raises UserError where the data have no labels apart, or a conditioner is chosen.
    """

    can = frozenset({"sample", "decode", "classify"})
    reads = frozenset({"x", LABELLED, LABEL})
    counts = "generator"
    loss_tells = False

    def __init__(
        self,
        spec: Spec,
        generator: Generator,
        critic: Critic,
        noise: Noise,
        objective: Objective,
        conditioner: Conditioner,
        penalty: Penalty | None = None,
        regularizer: Regularizer | None = None,
        augment: Augmentation | None = None,
        critic_steps: int = 1,
        updates: Literal["alternating", "simultaneous"] = "alternating",
        historical: float = 0.0,
        unlabelled: float = 0.5,
    ) -> None:
        super().__init__(spec)
        if not {LABELLED, LABEL} <= spec.keys():
            raise UserError(
                "model=ssgan: it learns from few labels beside data without any; choose data=mnist_few_labels, "
                "cifar10_few_labels or digits_few_labels"
            )
        if conditioner.reads:
            raise UserError(
                "conditioner: model=ssgan is to tell the label, and is not told it; choose conditioner=none"
            )
        if not 0 <= unlabelled < float("inf"):
            raise ValueError(f"unlabelled={unlabelled} must be a number of at least 0")
        self.unlabelled, self.classes = unlabelled, spec[LABEL].classes or 0
        self.game = GAN(
            {"x": spec["x"]},
            generator,
            Summed(critic),
            noise,
            objective,
            conditioner,
            penalty,
            regularizer,
            augment,
            critic_steps,
            updates,
            historical,
        )
        self.whole_batch, self.smallest_batch = self.game.whole_batch, self.game.smallest_batch

    @property
    def classifier(self) -> Critic:
        """The critic with its K numbers."""
        return self.game.critic.classifier  # type: ignore[return-value]

    @property
    def latent_spec(self) -> Spec:
        return self.game.latent_spec

    def players(self) -> dict[str, Player]:
        return self.game.players()

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Set the first lengths and biases of normalised filters on a few data."""
        x = torch.cat([batch["x"] for batch in batches])
        self.log_prob(x[:1])
        fit(self.classifier, lambda: self.classifier(x))

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(y | x) of every class y, (B, K), for x (B, *)."""
        each = self.classifier(x).score.float()
        if each.shape != (len(x), self.classes):
            raise UserError(
                f"critic: it makes {list(each.shape[1:]) or 1} numbers of a datum, and a classifier of {self.classes} "
                "classes needs one for each; choose critic=noisy_mlp or critic=network_in_network"
            )
        return each.log_softmax(1)

    def loss(self, batch: Batch, rng: Rng, player: str, step: int) -> dict[str, Tensor]:
        parts = self.game.loss(batch, rng, player, step)
        if player == "critic":
            x, label = self.game.seen(batch[LABELLED], rng.stage("augment labelled"), step), batch[LABEL]
            log_p = self.log_prob(x)
            parts["game"], parts["labelled"] = parts["loss"], F.nll_loss(log_p, label)
            parts["error"] = (log_p.argmax(1) != label).float().mean()
            parts["loss"] = parts["labelled"] + self.unlabelled * parts["game"]
        return parts

    def classify(self, batch: Batch) -> Tensor:
        return self.log_prob(batch["x"])

    def troubles(self, means: Mapping[str, float], step: int) -> dict[str, str]:
        return self.game.troubles(means, step)

    def after_step(self, player: str, step: int) -> None:
        self.game.after_step(player, step)

    def sample(
        self, conditions: Batch, rng: Rng, sampler: Truncation | None = None, watch: Watch | None = None
    ) -> Batch:
        return self.game.sample(conditions, rng, sampler, watch)

    def prior(self, rng: Rng) -> Batch:
        """The codes of the samples that are drawn from `rng`."""
        return self.game.prior(rng)

    def of_codes(self, codes: Batch, conditions: Batch, rng: Rng, sampler: Truncation | None = None) -> Tensor:
        """The samples (B, *) that are made of codes; `rng` is of what the network adds."""
        return self.game.of_codes(codes, conditions, rng, sampler)

    def decode(self, batch: Batch) -> Batch:
        return self.game.decode(batch)
