"""Diffusion of binary data: a network that learns to undo the flipping of bits, trained by the variational bound.

    L = E_{x_0, i, x_i}  T KL(q(x_{i-1} | x_i, x_0) || p(x_{i-1} | x_i)) + L_T,    i uniform in 1 .. T

The network does not say how likely a flip is, as the paper's does, which is nearly never and depends on T. It says
what it believes of the clean bit, p(x_0 | x_t), over which the posterior is averaged: so one network serves steps of
any length, and where it is right about single bits, reverse steps are. Its output is what it adds to what the bit
itself says of x_0 by Bayes' rule:

    log-odds of x_0 = F(x_t, t) + x_t e(alpha_t)

References:
    Deep Unsupervised Learning using Nonequilibrium Thermodynamics (Sohl-Dickstein et al., 2015), section 2.
"""

import torch
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Spec
from genlab.core.units import bits_per_dim
from genlab.models.conditioning import Conditioner
from genlab.models.contract import Model, Nll, Watch
from genlab.models.diffusion.bits import Beliefs, evidence, flipped, prior_kl, steps_of
from genlab.models.diffusion.bits_bound import BinomialBound
from genlab.models.diffusion.samplers.bits import AncestralBits
from genlab.models.diffusion.schedule import Schedule, match
from genlab.models.diffusion.weighting import Times
from genlab.networks.condition import Condition


class BinomialDiffusion(Model):
    """A diffusion model of data of two levels.

    Arguments:
        spec: of the data; "x", of two levels, is modelled.
        network: (x (B, *), level (B,), condition) -> (B, *).
        schedule: how much signal is left over time, in T steps.
        times: draws the times of a training batch.
        conditioner: makes of a batch what the network is told beside x.

    Raises UserError where the data have not two levels, or the schedule is not one of bits.
    """

    can = frozenset({"sample", "nll"})

    def __init__(
        self, spec: Spec, network: nn.Module, schedule: Schedule, times: Times, conditioner: Conditioner
    ) -> None:
        super().__init__(spec)
        self.network, self.schedule, self.times, self.conditioner = network, schedule, times, conditioner
        self.reads = frozenset({"x"}) | conditioner.reads
        self.conditions = conditioner.reads
        levels = spec["x"].levels
        if levels != 2:
            have = "real values" if levels is None else f"{levels} levels"
            raise UserError(
                f"data: bits are flipped, and x has {have}; choose data of two: binarized_mnist or heartbeat"
            )
        check_schedule(schedule)
        times.check(schedule)

    def beliefs(self, conditions: Batch, rng: Rng | None = None) -> Beliefs:
        """The log-odds of x_0 = 1 given the conditions, as samplers and bounds ask for them."""
        condition = self.conditioner(conditions, rng)
        return lambda x_t, t: self.belief(x_t, t.expand(len(x_t)), condition)

    def belief(self, x_t: Tensor, t: Tensor, condition: Condition | None) -> Tensor:
        """The log-odds of x_0 = 1, bit by bit, (B, *) in double, for x_t (B, *) at times t (B,)."""
        added = self.network(x_t, self.schedule.level(t).to(x_t), condition).double()
        return added + match(evidence(self.schedule(t)[0]), added) * x_t

    def loss(self, batch: Batch, rng: Rng, player: str, step: int) -> dict[str, Tensor]:
        x_0, field = batch["x"], self.spec["x"]
        t = self.times(self.schedule, rng)
        x_t = flipped(self.schedule, x_0, t, rng.stage("noise").uniform(*x_0.shape[1:], dtype=torch.float64))
        belief = self.belief(x_t, t, self.conditioner(batch, rng))
        term = steps_of(self.schedule) * BinomialBound.term(self.schedule, x_0, x_t, t, belief)
        lost = bits_per_dim(term, field).to(x_0)
        self.times.observe(self.schedule, t, lost.detach())
        end = bits_per_dim(prior_kl(self.schedule, x_0), field).to(x_0)
        return {"loss": (self.times.weight(self.schedule, t).to(lost) * lost + end).mean()}

    @torch.no_grad()
    def sample(
        self, conditions: Batch, rng: Rng, sampler: AncestralBits | None = None, watch: Watch | None = None
    ) -> Batch:
        coins = 2.0 * rng.stage("prior").integers(2, *self.spec["x"].shape).float() - 1
        sampler = sampler or AncestralBits()
        return {"x": sampler(self.schedule, self.beliefs(conditions, rng), coins, rng, watch), **conditions}

    @torch.no_grad()
    def nll(self, batch: Batch, rng: Rng, estimator: BinomialBound | None = None) -> Nll:
        return (estimator or BinomialBound())(self.schedule, self.beliefs(batch), batch["x"], rng)


@torch.no_grad()
def check_schedule(schedule: Schedule) -> None:
    """Raise a UserError unless bits can be flipped by it, in T steps."""
    steps = steps_of(schedule)
    if any(parameter.requires_grad for parameter in schedule.parameters()):
        raise UserError("schedule: flips have no gradient by which it could learn; choose erasure, linear or cosine")
    alpha, sigma = schedule(torch.arange(1, steps + 1, dtype=torch.float64) / steps)
    if ((alpha.square() + sigma.square() - 1).abs() > 1e-6).any():
        raise UserError(
            "schedule: a bit has the mean alpha and the variance 1 - alpha^2, and it does not preserve the variance; "
            "choose erasure, linear or cosine"
        )
