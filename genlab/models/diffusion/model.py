"""Gaussian diffusion models: a network, a schedule, what the network predicts, and what its errors count.

    L = E_{x_0, t, eps}  w(t) |eps - eps_hat(alpha_t x_0 + sigma_t eps, t)|^2 / D  +  lambda L_bound

Either may be missing. L_bound is a bound on minus the log-likelihood, in bits/dim; beside the first term it trains the
variances alone, for the estimate of x_0 is not moved by it then. Without the first term it trains all.

References:
    Deep Unsupervised Learning using Nonequilibrium Thermodynamics (Sohl-Dickstein et al., 2015).
    Denoising Diffusion Probabilistic Models (Ho et al., 2020).
    Improved Denoising Diffusion Probabilistic Models (Nichol & Dhariwal, 2021), section 3.1, for the variances.
    Variational Diffusion Models (Kingma et al., 2021), for the bound alone.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Spec
from genlab.core.units import bits_per_dim
from genlab.models.conditioning import Conditioner
from genlab.models.contract import Model, Nll, Watch
from genlab.models.diffusion.bound import VariationalBound
from genlab.models.diffusion.continuous_bound import ContinuousBound
from genlab.models.diffusion.denoiser import Denoised, Denoiser
from genlab.models.diffusion.estimator import Bound, Estimator
from genlab.models.diffusion.prediction import DATA_SCALE, NEEDS_SIGNAL, TABLE, Kind, target
from genlab.models.diffusion.process import diffuse
from genlab.models.diffusion.samplers.sampler import Sampler
from genlab.models.diffusion.schedule import NO_SIGNAL, Schedule, match
from genlab.models.diffusion.weighting import Times, Weighting
from genlab.networks.condition import Condition
from genlab.networks.inner import caught


class GaussianDiffusion(Model):
    """A diffusion model with Gaussian noise.

    Arguments:
        spec: of the data; "x" is modelled.
        network: (x (B, *), level (B,), condition) -> (B, *), or twice as many channels where there are two outputs.
        schedule: signal and noise over time.
        prediction: what the network is asked for: eps, x0, v, score, velocity or edm.
        weighting: w(t); None where the bound alone is trained.
        times: draws the times of a training batch.
        conditioner: makes of a batch what the network is told beside x.
        data_scale: the standard deviation of the data that prediction=edm takes for given.
        coupled: the noise that belongs to each datum is batch["noise"], as in reflow, and none is drawn.
        outputs: 2 where the network says the variances of reverse steps as well, by its second output, in [-1, 1] from
            the posterior's to that of q(x_t | x_s).
        bound: what is trained beside the weighted error, or alone; None for nothing.
        bound_weight: lambda.

    Raises UserError where the schedule leaves no signal at its end and the prediction says nothing about x_0 there, and
    where the parts of the loss do not suit each other.
    """

    can = frozenset({"sample", "nll", "features"})

    def __init__(
        self,
        spec: Spec,
        network: nn.Module,
        schedule: Schedule,
        weighting: Weighting | None,
        times: Times,
        conditioner: Conditioner,
        prediction: Kind = "eps",
        data_scale: float = DATA_SCALE,
        coupled: bool = False,
        outputs: Literal[1, 2] = 1,
        bound: Bound | None = None,
        bound_weight: float = 1.0,
    ) -> None:
        super().__init__(spec)
        self.network, self.schedule, self.weighting, self.times = network, schedule, weighting, times
        self.conditioner, self.prediction, self.data_scale = conditioner, prediction, data_scale
        self.coupled, self.outputs, self.bound, self.bound_weight = coupled, outputs, bound, bound_weight
        self.reads = frozenset({"x", "noise"} if coupled else {"x"}) | conditioner.reads
        self.conditions = conditioner.reads
        self.bounded = spec["x"].levels is not None
        times.check(schedule)
        if coupled and "noise" not in spec:
            raise UserError(
                "model.coupled=true: the data have no noise of their own; make them by genlab sample task=pairs, and "
                "train with data=coupled data.root=THEIR_FOLDER"
            )
        if prediction in NEEDS_SIGNAL and self.schedule(torch.ones((), dtype=torch.float64))[0].log() <= NO_SIGNAL:
            raise UserError(
                f"model.prediction={prediction}: the schedule leaves no signal at t = 1, where x_t is noise alone and "
                f"{prediction} says nothing about the data; choose model.prediction=v, x0 or velocity"
            )
        self._check_loss()

    def _check_loss(self) -> None:
        """Raise a UserError where the parts of the loss do not suit each other."""
        if self.bound is None:
            if self.weighting is None:
                raise UserError("weighting=none: nothing is left to train; choose a weighting, or a model.bound")
            if self.outputs == 2:
                raise UserError("model.outputs=2: the weighted error trains no variances; give a model.bound as well")
            return
        self.bound.check(self.schedule, self.outputs)
        if self.bound_weight <= 0:
            raise UserError(f"model.bound_weight={self.bound_weight}: must be above 0; for none set model.bound=null")

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition | None) -> tuple[Tensor, Tensor | None]:
        """The network's output and where variances lie, for x_t (B, *) at times t (B,), in the precision of x_t."""
        _, _, c_in, c_noise = TABLE[self.prediction](*self.schedule(t), self.data_scale)
        level = (self.schedule.level(t) if c_noise is None else c_noise).to(x_t)
        output = self.network(match(c_in, x_t) * x_t, level, condition).to(x_t)
        if output.shape[1] != self.outputs * x_t.shape[1]:
            raise UserError(
                f"network.outputs: the network gives {output.shape[1]} channels for {x_t.shape[1]}, and "
                f"model.outputs={self.outputs}; leave network.outputs out"
            )
        if self.outputs == 1:
            return output, None
        predicted, v = output.chunk(2, dim=1)
        return predicted, (v + 1) / 2

    def denoised(self, x_t: Tensor, t: Tensor, predicted: Tensor, between: Tensor | None) -> Denoised:
        """What the network's output says of x_t (B, *) at times t (B,)."""
        c_skip, c_out, *_ = TABLE[self.prediction](*self.schedule(t), self.data_scale)
        return Denoised(match(c_skip, x_t) * x_t + match(c_out, x_t) * predicted, between)

    def estimate(self, x_t: Tensor, t: Tensor, condition: Condition | None) -> Denoised:
        """What the network makes of x_t (B, *) at times t () or (B,)."""
        t = t.expand(len(x_t))
        return self.denoised(x_t, t, *self.predict(x_t, t, condition))

    def loss(self, batch: Batch, rng: Rng, player: str, step: int) -> dict[str, Tensor]:
        x_0 = batch["x"]
        t = self.times(self.schedule, rng)
        eps = batch["noise"] if self.coupled else rng.stage("noise").normal_like(x_0)
        x_t = diffuse(self.schedule, x_0, t, eps)
        predicted, between = self.predict(x_t, t, self.conditioner(batch, rng))
        parts = {}
        if self.weighting is not None:
            parts["simple"] = self.weighted_error(self.weighting, x_0, t, eps, predicted)
        if self.bound is not None:
            denoised = self.denoised(x_t, t, predicted if self.weighting is None else predicted.detach(), between)
            term = self.bound.term(self.schedule, x_0, t, denoised, self.spec["x"])
            parts["bound"] = bits_per_dim(term, self.spec["x"])
        weights = {"simple": 1.0, "bound": self.bound_weight}
        lost = torch.stack([weights[name] * part for name, part in parts.items()]).sum(0)
        importance = self.times.weight(self.schedule, t).to(lost)
        self.times.observe(self.schedule, t, lost.detach())
        self.schedule.observe((importance * lost).detach())
        if self.bound is None:
            return {"loss": (importance * lost).mean()}
        means = {name: (importance * part).mean() for name, part in parts.items()}
        for name, nats in self.bound.ends(self.schedule, x_0, self.spec["x"], rng.stage("ends")).items():
            means[name] = bits_per_dim(nats, self.spec["x"]).mean()
            means["bound"] = means["bound"] + means[name]
        return {"loss": means.get("simple", 0) + self.bound_weight * means["bound"], **means}

    def weighted_error(self, weighting: Weighting, x_0: Tensor, t: Tensor, eps: Tensor, predicted: Tensor) -> Tensor:
        """w(t) |eps - eps_hat|^2 / D, (B,), taken where the network's output is, of which it needs no quotient."""
        alpha, sigma = self.schedule(t)
        of_x_0, of_eps, worth = target(self.prediction, alpha, sigma, self.data_scale)
        wanted = match(of_x_0, x_0) * x_0 + match(of_eps, x_0) * eps
        weight = (weighting(self.schedule, t) * worth).to(x_0)
        return weight * (predicted - wanted).square().flatten(1).mean(1)

    def denoiser(self, conditions: Batch, rng: Rng | None = None) -> Denoiser:
        """x_0's estimate given the conditions, as samplers and bounds ask for it."""
        condition = self.conditioner(conditions, rng)
        return lambda x_t, t: self.estimate(x_t, t, condition)

    def guided(self, conditions: Batch, rng: Rng, sampler: Sampler) -> Denoiser:
        """The denoiser under these conditions that the sampler asks: the model's own, or what guidance makes of it."""
        return self.denoiser(conditions, rng) if sampler.guidance is None else sampler.guidance(self, conditions, rng)

    @torch.no_grad()
    def sample(self, conditions: Batch, rng: Rng, sampler: Sampler | None = None, watch: Watch | None = None) -> Batch:
        if sampler is None:
            raise ValueError("a diffusion model is sampled by a sampler, as genlab.models.diffusion.samplers has")
        return {"x": self.from_noise(self.prior(rng), conditions, rng, sampler, watch), **conditions}

    def prior(self, rng: Rng) -> Tensor:
        """The noise x_1 (B, *) that `sample` sets out from."""
        return rng.stage("prior").normal(*self.spec["x"].shape) * self.schedule.prior_scale

    @torch.no_grad()
    def from_noise(
        self, x_1: Tensor, conditions: Batch, rng: Rng, sampler: Sampler, watch: Watch | None = None
    ) -> Tensor:
        """The data (B, *) that the sampler makes of x_1 (B, *), whose scale is the schedule's `prior_scale`."""
        return sampler(self.schedule, self.guided(conditions, rng, sampler), x_1, rng, self.bounded, watch)

    @torch.no_grad()
    def to_noise(self, batch: Batch, rng: Rng, sampler: Sampler) -> Tensor:
        """The x_1 (B, *) from which the sampler, if it is deterministic, comes back to the data batch["x"] (B, *)."""
        return sampler.invert(self.schedule, self.guided(batch, rng, sampler), batch["x"], self.bounded)

    @torch.no_grad()
    def features(self, batch: Batch, rng: Rng, t: float, layer: str | None = None) -> Tensor:
        first = self.schedule.t_min
        if not first <= t <= 1:
            raise UserError(f"t={t}: noise begins at t = {first:.3g} and ends at 1")
        if self.conditions and self.conditioner.dropout == 0:
            raise UserError(
                "conditioner.dropout=0: the network was told of every datum what it is, and knows no features without; "
                "train with conditioner.dropout=0.1"
            )
        x_0 = batch["x"]
        times = torch.full((len(x_0),), t, dtype=torch.float64, device=x_0.device)
        x_t = diffuse(self.schedule, x_0, times, rng.stage("noise").normal_like(x_0))
        condition = self.conditioner.null({"x": x_0}, rng)
        return caught(self.network, layer, lambda: self.predict(x_t, times, condition))

    @torch.no_grad()
    def nll(self, batch: Batch, rng: Rng, estimator: Estimator | None = None) -> Nll:
        if estimator is None:
            estimator = self.bound or (ContinuousBound() if self.schedule.steps is None else VariationalBound())
        return estimator(self.schedule, self.denoiser(batch), batch["x"], self.spec["x"], rng, self.bounded)
