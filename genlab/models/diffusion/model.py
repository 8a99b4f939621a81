"""Gaussian diffusion models: a network, a schedule, what the network predicts, and what its errors count.

    L = E_{x_0, t, eps}  w(t) |eps - eps_hat(alpha_t x_0 + sigma_t eps, t)|^2 / D

References:
    Deep Unsupervised Learning using Nonequilibrium Thermodynamics (Sohl-Dickstein et al., 2015).
    Denoising Diffusion Probabilistic Models (Ho et al., 2020).
"""

import torch
from torch import Tensor, nn

from genlab.core.rng import Rng
from genlab.core.spec import Batch, Spec
from genlab.models.conditioning import Conditioner
from genlab.models.contract import Model, Nll, Watch
from genlab.models.diffusion.bound import VariationalBound
from genlab.models.diffusion.denoiser import Denoised, Denoiser
from genlab.models.diffusion.prediction import TABLE, Kind, target
from genlab.models.diffusion.process import diffuse
from genlab.models.diffusion.samplers.sampler import Sampler
from genlab.models.diffusion.schedule import Schedule, match
from genlab.models.diffusion.weighting import UniformTimes, Weighting
from genlab.networks.condition import Condition


class GaussianDiffusion(Model):
    """A diffusion model with Gaussian noise.

    Arguments:
        spec: of the data; "x" is modelled.
        network: (x (B, *), level (B,), condition) -> (B, *).
        schedule: signal and noise over time.
        prediction: what the network is asked for: eps, x0 or v.
        weighting: w(t).
        times: draws the times of a training batch.
        conditioner: makes of a batch what the network is told beside x.
    """

    can = frozenset({"sample", "nll"})

    def __init__(
        self,
        spec: Spec,
        network: nn.Module,
        schedule: Schedule,
        weighting: Weighting,
        times: UniformTimes,
        conditioner: Conditioner,
        prediction: Kind = "eps",
    ) -> None:
        super().__init__(spec)
        self.network, self.schedule, self.weighting, self.times = network, schedule, weighting, times
        self.conditioner, self.prediction = conditioner, prediction
        self.reads = frozenset({"x"}) | conditioner.reads
        self.conditions = conditioner.reads
        self.bounded = spec["x"].levels is not None

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition | None) -> Tensor:
        """The network's output for x_t (B, *) at times t (B,), in the precision of x_t."""
        alpha, sigma = self.schedule(t)
        c_in = TABLE[self.prediction](alpha, sigma).c_in
        level = self.schedule.level(t).to(x_t)
        return self.network(match(c_in, x_t) * x_t, level, condition).to(x_t)

    def loss(self, batch: Batch, rng: Rng, player: str, step: int) -> dict[str, Tensor]:
        x_0 = batch["x"]
        t = self.times(self.schedule, rng)
        eps = rng.stage("noise").normal_like(x_0)
        alpha, sigma = self.schedule(t)
        of_x_0, of_eps, worth = target(self.prediction, alpha, sigma)
        wanted = match(of_x_0, x_0) * x_0 + match(of_eps, x_0) * eps
        x_t = diffuse(self.schedule, x_0, t, eps)
        error = self.predict(x_t, t, self.conditioner(batch, rng)) - wanted
        weight = (self.weighting(self.schedule, t) * worth).to(x_0)
        return {"loss": (weight * error.square().flatten(1).mean(1)).mean()}

    def denoiser(self, conditions: Batch, rng: Rng | None = None) -> Denoiser:
        """x_0's estimate given the conditions, as samplers and bounds ask for it."""
        condition = self.conditioner(conditions, rng)

        def denoise(x_t: Tensor, t: Tensor) -> Denoised:
            t = t.expand(len(x_t))
            c_skip, c_out, _ = TABLE[self.prediction](*self.schedule(t))
            return Denoised(match(c_skip, x_t) * x_t + match(c_out, x_t) * self.predict(x_t, t, condition))

        return denoise

    @torch.no_grad()
    def sample(self, conditions: Batch, rng: Rng, sampler: Sampler | None = None, watch: Watch | None = None) -> Batch:
        if sampler is None:
            raise ValueError("a diffusion model is sampled by a sampler, as genlab.models.diffusion.samplers has")
        x_1 = rng.stage("prior").normal(*self.spec["x"].shape) * self.schedule.prior_scale
        x_0 = sampler(self.schedule, self.denoiser(conditions, rng), x_1, rng, self.bounded, watch)
        return {"x": x_0, **conditions}

    @torch.no_grad()
    def nll(self, batch: Batch, rng: Rng, estimator: VariationalBound | None = None) -> Nll:
        estimator = estimator or VariationalBound()
        return estimator(self.schedule, self.denoiser(batch), batch["x"], self.spec["x"], rng, self.bounded)
