"""Generative adversarial networks: a generator and a critic, each of which learns from the other.

    x' = G(z),  z ~ noise;    C is moved to tell x from x', G to be taken for data

The critic takes its turns first, `critic_steps` of them, each on data of its own, and the generator then one, which is
the step that is counted. What each minimises is the `Objective`; what holds the critic back a `Penalty`.

Where the updates are simultaneous the generator sees the critic as it was before its last step, so that both move from
one point, as the theory of games has it; else they alternate.

References:
    Generative Adversarial Nets (Goodfellow et al., 2014).
    Conditional Generative Adversarial Nets (Mirza & Osindero, 2014).
    Improved Techniques for Training GANs (Salimans et al., 2016).
    Which Training Methods for GANs do actually Converge? (Mescheder, Geiger & Nowozin, 2018), section 2.
"""

import copy
import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Field, Spec
from genlab.models.adversarial import signs
from genlab.models.adversarial.augment import Augmentation
from genlab.models.adversarial.historical import HistoricalAverage
from genlab.models.adversarial.noise import Noise
from genlab.models.adversarial.objective import Objective
from genlab.models.adversarial.penalty import Penalty
from genlab.models.adversarial.regularizer import Regularizer
from genlab.models.adversarial.truncation import Truncation
from genlab.models.conditioning import ClassLabel, Conditioner
from genlab.models.contract import Model, Player, Watch
from genlab.networks.adversarial.contract import Critic, Generator, Judged

WATCHED = 16
"""Samples whose drift is measured."""


class GAN(Model):
    """A generator and a critic.

    Arguments:
        spec: of the data; "x" is modelled.
        generator: from noise to data.
        critic: from data to scores (B,).
        noise: what the generator starts from.
        objective: what the two minimise.
        conditioner: what they are told; the critic has a copy with weights of its own.
        penalty: of the critic; None for none.
        regularizer: of the generator; None for none.
        augment: what is done to all that the critic sees; None for nothing.
        critic_steps: of the critic for one of the generator.
        updates: "alternating" or "simultaneous".
        historical: what a player's squared distance from the mean of its past weights costs it.
    """

    can = frozenset({"sample", "decode"})
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
    ) -> None:
        super().__init__(spec)
        if critic_steps < 1:
            raise ValueError(f"critic_steps={critic_steps} must be at least 1")
        if updates == "simultaneous" and critic_steps != 1:
            raise ValueError(
                f"updates=simultaneous moves both players at once, which needs critic_steps=1, not {critic_steps}"
            )
        if not 0 <= historical < math.inf:
            raise ValueError(f"historical={historical} must be a number of at least 0")
        if augment is not None and augment.adapts and objective.threshold is None:
            raise ValueError(
                f"augment: adapts to whether the critic takes data to be real, which scores of "
                f"objective={type(objective).__name__} do not say; take augment=diffaug, or objective=nonsaturating"
            )
        self.generator, self.critic = generator, critic
        self.noise, self.objective, self.penalty = noise, objective, penalty
        self.regularizer, self.augment = regularizer, augment
        self.conditioner, self.critic_conditioner = conditioner, copy.deepcopy(conditioner)
        self.reads, self.conditions = frozenset({"x"}) | conditioner.reads, conditioner.reads
        self.critic_steps, self.historical = critic_steps, historical
        self.whole_batch = objective.whole_batch or critic.whole_batch
        of_batches = (nn.BatchNorm1d, nn.BatchNorm2d)
        normalised = any(isinstance(layer, of_batches) for part in (generator, critic) for layer in part.modules())
        self.smallest_batch = 2 if critic.whole_batch or normalised else 1
        self.past = None
        if historical:
            self.past = nn.ModuleDict({"generator": HistoricalAverage(generator), "critic": HistoricalAverage(critic)})
        self.critic_before = self.told_before = None
        if updates == "simultaneous":
            self.critic_before = copy.deepcopy(critic).requires_grad_(False)
            self.told_before = copy.deepcopy(conditioner).requires_grad_(False)
        watched = Rng(0, torch.arange(WATCHED)).stage("watched")
        self.drift = signs.Drift(noise.sample(watched), spec["x"].shape)

    @property
    def latent_spec(self) -> Spec:
        return {"z": Field((self.noise.size,))}

    def players(self) -> dict[str, Player]:
        of_critic = [*self.critic.parameters(), *self.critic_conditioner.parameters()]
        of_generator = [*self.generator.parameters(), *self.conditioner.parameters()]
        return {
            "critic": Player(of_critic, repeats=self.critic_steps),
            "generator": Player(of_generator),
        }

    def made(self, told: Batch, rng: Rng) -> Tensor:
        """What the generator makes, one a row of `rng`, (B, *)."""
        condition = self.conditioner(told, rng)
        return self.generator(self.noise.sample(rng.stage("z")), condition, rng.stage("inner"))

    def seen(self, x: Tensor, rng: Rng, step: int) -> Tensor:
        """x as the critic sees it."""
        return x if self.augment is None else self.augment(x, rng, step)

    def loss(self, batch: Batch, rng: Rng, player: str, step: int) -> dict[str, Tensor]:
        told = {key: batch[key] for key in self.conditions}
        turn = self._critic_loss if player == "critic" else self._generator_loss
        parts = turn(batch["x"], told, rng, step)
        if self.past is not None:
            network = self.critic if player == "critic" else self.generator
            parts["historical"] = self.historical * self.past[player].distance(network)  # type: ignore[operator]
            parts["loss"] = parts["loss"] + parts["historical"]
        return parts

    def _critic_loss(self, x: Tensor, told: Batch, rng: Rng, step: int) -> dict[str, Tensor]:
        with torch.no_grad():
            made = self.made(told, rng)
            if self.critic_before is not None and self.told_before is not None:
                self.critic_before.load_state_dict(self.critic.state_dict())
                self.told_before.load_state_dict(self.critic_conditioner.state_dict())
        condition = self.critic_conditioner(told, rng)
        x, made = self.seen(x, rng.stage("augment"), step), self.seen(made, rng.stage("augment made"), step)
        real, fake = self._judged(self.critic, x, condition), self._judged(self.critic, made, condition)
        loss = self.objective.critic(real, fake).mean()
        parts = {"loss": loss, "real": real.score.mean(), "made": fake.score.mean()}
        parts["accuracy"] = signs.pair_accuracy(real.score.detach(), fake.score.detach())
        if self.augment is not None:
            self.augment.observe(real.score.detach() - (self.objective.threshold or 0.0))
            parts.update(self.augment.shown())
        if self.penalty is not None and step % self.penalty.every == 0:
            penalty = self.penalty.loss(self.critic, x, made, condition, rng.stage("penalty"))
            if penalty is not None:
                parts["penalty"] = penalty.mean()
                parts["loss"] = loss + self.penalty.every * parts["penalty"]
        return parts

    def _generator_loss(self, x: Tensor, told: Batch, rng: Rng, step: int) -> dict[str, Tensor]:
        made = self.made(told, rng)
        critic = self.critic if self.critic_before is None else self.critic_before
        teller = self.critic_conditioner if self.told_before is None else self.told_before
        condition = teller(told, rng)
        fake = self._judged(critic, self.seen(made, rng.stage("augment made"), step), condition)
        real = None
        if self.objective.compares:
            with torch.no_grad():
                real = self._judged(critic, self.seen(x, rng.stage("augment"), step), condition)
        parts = {"loss": self.objective.generator(fake, real).mean()}
        unit = signs.mean_distance(x)
        parts["spread"] = signs.relative(signs.mean_distance(made), unit)
        if step >= 2 * signs.EVERY:
            # Where data are one point, and there is no distance between them, it is told as it is.
            parts["drift"] = self.drift.moved * (len(x) > 1) / torch.where(unit > 0, unit, 1.0)
        if self.regularizer is not None and step % self.regularizer.every == 0:
            condition = self.conditioner(told, rng)
            parts["regularizer"] = self.regularizer(self.generator, self.noise, condition, rng.stage("regularizer"))
            parts["loss"] = parts["loss"] + self.regularizer.every * parts["regularizer"]
            parts.update(self.regularizer.shown())
        return parts

    def _judged(self, critic: Critic, x: Tensor, condition: object) -> Judged:
        """In single precision."""
        score, features = critic(x, condition)
        return Judged(score.float(), features.float())

    def troubles(self, means: Mapping[str, float], step: int) -> dict[str, str]:
        return signs.troubles(means, step)

    def after_step(self, player: str, step: int) -> None:
        if player == "critic" and self.penalty is not None:
            self.penalty.after_step(self.critic)
        if player == "critic" and self.augment is not None:
            self.augment.after_step()
        if player == "generator" and self.regularizer is not None:
            self.regularizer.after_step()
        if self.past is not None:
            self.past[player].update(self.critic if player == "critic" else self.generator)  # type: ignore[operator]
        if player == self.counts and step % signs.EVERY == 0:
            self.drift.update(self._drawn)

    @torch.no_grad()
    def _drawn(self, z: Tensor) -> Tensor:
        """What is made of z now, each of a class of its own where there are classes."""
        index = torch.arange(len(z), device=z.device)
        told = {"label": index % self.conditioner.classes} if isinstance(self.conditioner, ClassLabel) else {}
        training = self.training
        self.eval()
        made = self.decode({"z": z, **told})["x"]
        self.train(training)
        return made

    @torch.no_grad()
    def sample(
        self, conditions: Batch, rng: Rng, sampler: Truncation | None = None, watch: Watch | None = None
    ) -> Batch:
        return {"x": self.of_codes(self.prior(rng), conditions, rng, sampler)}

    def prior(self, rng: Rng) -> Batch:
        """The codes of the samples that are drawn from `rng`."""
        return {"z": self.noise.sample(rng.stage("z"))}

    @torch.no_grad()
    def of_codes(self, codes: Batch, conditions: Batch, rng: Rng, sampler: Truncation | None = None) -> Tensor:
        """The samples (B, *) that are made of codes; `rng` is of what the network adds."""
        return self._made_of(codes["z"], conditions, rng, sampler)

    def _made_of(self, z: Tensor, told: Batch, rng: Rng, sampler: Truncation | None = None) -> Tensor:
        condition, inner = self.conditioner(told, rng), rng.stage("inner")
        made = self.generator(z, condition, inner) if sampler is None else sampler(self.generator, z, condition, inner)
        return made.float()

    def decode(self, batch: Batch) -> Batch:
        """Data (B, *) of codes batch["z"] (B, size), through which gradients pass; what the network adds is the same
        for all."""
        z = batch["z"]
        if z.shape[1:] != (self.noise.size,):
            raise UserError(f"z: codes are of {self.noise.size} numbers, not of {list(z.shape[1:])}")
        told = {key: value for key, value in batch.items() if key in self.conditions}
        return {"x": self._made_of(z, told, Rng(0, torch.zeros(len(z), dtype=torch.long, device=z.device)))}
