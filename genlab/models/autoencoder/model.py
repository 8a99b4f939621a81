"""Autoencoders: what a datum is told by a code, and the data that a code tells.

    h = encoder(c(x)),    z ~ q(z | h),    x ~ p(x | decoder(z))

c corrupts the datum where the autoencoder learns to restore; q is the bottleneck, and p an output distribution. They
are trained by an objective, of which the negative evidence lower bound is one.

References:
    Reducing the Dimensionality of Data with Neural Networks (Hinton & Salakhutdinov, 2006).
    Auto-Encoding Variational Bayes (Kingma & Welling, 2014).
"""

import math
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Spec
from genlab.models.autoencoder.adversarial import Adversary, last_weight
from genlab.models.autoencoder.bottleneck import Bottleneck, Posterior
from genlab.models.autoencoder.contraction import squared_jacobian
from genlab.models.autoencoder.corruption import Corruption
from genlab.models.autoencoder.density import CodeDensity
from genlab.models.autoencoder.likelihood import Elbo, Estimator
from genlab.models.autoencoder.objective import Likelihood, Objective
from genlab.models.autoencoder.perceptual import Perceptual
from genlab.models.contract import Model, Nll, Player, Watch
from genlab.models.outputs.output import Output


class Autoencoder(Model):
    """An encoder, a bottleneck and a decoder.

    Arguments:
        spec: of the data; "x" is modelled.
        encoder: makes a network from (B, *shape) to (B, outputs, *), told by keyword how many `outputs` are wanted.
        bottleneck: from what the encoder says to codes.
        decoder: makes a network from (B, inputs, *) to (B, outputs, *), told by keyword how many go in and come out.
        output: the distribution of a datum, of the decoder's numbers.
        objective: what is minimised.
        corruption: what is done to the data that the encoder sees in training; None for nothing.
        contraction: what |d z / d x|_F^2 costs, in nats.
        density: makes what is fitted to codes that are points when training ends, told by keyword their `size`; None
            for none, and then there are no samples.
        decoding: what is shown of p(x | z) when samples are drawn and codes decoded: its mean, or a sample of it.
        perceptual: what it costs besides that the mean of p(x | z) looks different; None for nothing.
        adversary: a critic of that mean, which is a player of its own; None for none.
    """

    # Those with a prior can more.
    can = frozenset({"encode", "decode"})

    def __init__(
        self,
        spec: Spec,
        encoder: Callable[..., nn.Module],
        bottleneck: Bottleneck,
        decoder: Callable[..., nn.Module],
        output: Output,
        objective: Objective,
        corruption: Corruption | None = None,
        contraction: float = 0.0,
        density: Callable[..., CodeDensity] | None = None,
        decoding: Literal["mean", "sample"] = "mean",
        perceptual: Perceptual | None = None,
        adversary: Adversary | None = None,
    ) -> None:
        super().__init__(spec)
        objective.check(bottleneck.variational)
        self.encoder = encoder(outputs=bottleneck.inputs)
        self.bottleneck = bottleneck
        self.decoder = decoder(inputs=bottleneck.outputs, outputs=output.features)
        self.output, self.objective, self.decoding = output, objective, decoding
        self.corruption, self.contraction = corruption, contraction
        if not 0 <= contraction < math.inf:
            raise ValueError(f"contraction must be a number of at least 0, not {contraction}")
        if density is not None and bottleneck.variational:
            raise UserError("model.density: is for codes that are points, and these have a prior; leave it out")
        if perceptual is not None and not spec["x"].is_image:
            raise UserError(f"perceptual: is for images of 1 or 3 channels, and the data are {spec['x'].shape}")
        self.perceptual, self.adversary = perceptual, adversary
        self.fields = self._fields()
        self.density = None if density is None else density(size=math.prod(self.fields["z"].shape))
        self.whole_batch = objective.whole_batch or bottleneck.whole_batch
        self._look()
        self.register_load_state_dict_post_hook(lambda model, _: model._look())

    @torch.no_grad()
    def _fields(self) -> Spec:
        """What codes are, found by encoding a datum of zeros, which is also decoded to see that it fits."""
        training, shape = self.training, self.spec["x"].shape
        z = self.eval().posterior(torch.zeros(1, *shape)).mode()
        made = self.decoder(z).shape
        self.train(training)
        if made[2:] != shape[1:]:
            raise UserError(
                f"decoder: makes data of {list(made[2:])} from the codes of data of {list(shape[1:])}; its sizes must "
                "be the encoder's"
            )
        return self.bottleneck.fields(z.shape[1:])

    def _look(self) -> None:
        """What it can, now that codes have a prior, or a density that was fitted to them, or neither."""
        able = {"encode", "decode"} | ({"sample", "nll"} if self.bottleneck.variational else set())
        if self.density is not None and bool(self.density.fitted):
            able |= {"sample"}
            self.source = f"a mixture of {self.density.components} normal distributions fitted to training data's codes"
        else:
            self.source = ""
        self.can = frozenset(able)

    @property
    def latent_spec(self) -> Spec:
        return self.fields

    def players(self) -> dict[str, Player]:
        if self.adversary is None:
            return super().players()
        critics = [p for p in self.adversary.parameters() if p.requires_grad]
        own = {id(p) for p in critics}
        return {
            "model": Player([p for p in self.parameters() if p.requires_grad and id(p) not in own]),
            "critic": Player(critics),
        }

    def posterior(self, x: Tensor, step: int | None = None) -> Posterior:
        """q(z | x) of data x (B, *); `step` is that of training, where it is learned from."""
        return self.bottleneck(self.encoder(x), step)

    def likelihood(self, x: Tensor, made: list[Tensor] | None = None) -> Likelihood:
        """z (B, k, *) to log p(x | z), (B, k), of these x (B, *); what the decoder says is added to `made`."""

        def log_prob(z: Tensor) -> Tensor:
            k = z.shape[1]
            parameters = self.decoder(z.flatten(0, 1)).float()
            if made is not None:
                made.append(parameters)
            return self.output.log_prob(parameters, x.repeat_interleave(k, 0)).unflatten(0, (-1, k))

        return log_prob

    def loss(self, batch: Batch, rng: Rng, player: str, step: int) -> dict[str, Tensor]:
        x, made = batch["x"], list[Tensor]()
        seen = x if self.corruption is None else self.corruption(x, rng.stage("corruption"))
        if player == "critic":
            return self._critic_loss(x, seen, rng.stage("code"), step)
        if self.contraction:
            seen = seen.detach().requires_grad_()
        # The slope of codes is asked for in validation too, where gradients are disabled.
        with torch.set_grad_enabled(torch.is_grad_enabled() or self.contraction > 0):
            posterior = self.posterior(seen, step)
            mode = posterior.mode()
        found = self.objective(self.likelihood(x, made), posterior, rng.stage("code"), step)
        if self.contraction:
            found["contraction"] = self.contraction * squared_jacobian(mode, seen)
            found["loss"] = found["loss"] + found["contraction"]
        parts = {name: values.mean() for name, values in {**found, **posterior.notes}.items()}
        return parts | self._judged(parts["loss"], x, made[-1], step)

    def _judged(self, loss: Tensor, x: Tensor, parameters: Tensor, step: int) -> dict[str, Tensor]:
        """What the mean of p(x | z), of the same draws of z, is judged besides: the "loss" with that in it, and parts.

        Arguments:
            loss: without it, a scalar.
            parameters: what the decoder says, k draws for each of x (B, *).
        """
        parts = {"loss": loss}
        if self.perceptual is not None:
            rows = x.repeat_interleave(len(parameters) // len(x), 0)
            parts["perceptual"] = self.perceptual(rows, self.output.mean(parameters)).mean()
            parts["loss"] = loss + parts["perceptual"]
        if self.adversary is not None and step >= self.adversary.start:
            made = self.output.mean(parameters)
            parts |= self.adversary.model_loss(parts["loss"], made, last_weight(self.decoder))
        return parts

    def _critic_loss(self, x: Tensor, seen: Tensor, rng: Rng, step: int) -> dict[str, Tensor]:
        """Nothing, which has no gradients, before the critic's start; `seen` is what the encoder sees of x (B, *)."""
        assert self.adversary is not None
        if step < self.adversary.start:
            return {"loss": x.new_zeros(())}
        with torch.no_grad():
            z = self.posterior(seen).sample(rng)[:, 0]
            made = self.output.mean(self.decoder(z).float())
        return self.adversary.critic_loss(x, made)

    @torch.no_grad()
    def prepare(self, batches: Iterable[Batch]) -> None:
        training = self.training
        self.eval()
        self.bottleneck.prepare(self.encoder(batch["x"]) for batch in batches)
        self.train(training)
        if self.perceptual is not None:
            # So that weights that are not to be had, and images that are too small, are known of before the first step.
            blank = torch.zeros(1, *self.spec["x"].shape, device=self.device)
            self.perceptual(blank, blank)

    def begin(self) -> None:
        if self.density is not None:
            self.density.forget()
            self._look()

    def after_step(self, player: str, step: int) -> None:
        if player == "model":
            self.bottleneck.after_step(step)

    @torch.no_grad()
    def finish(self, batches: Iterable[Batch]) -> None:
        if self.density is None:
            return
        training = self.training
        self.eval()
        self.density.fit(self.encode({"x": batch["x"].to(self.device)})["z"] for batch in batches)
        self.train(training)
        self._look()

    @torch.no_grad()
    def sample(self, conditions: Batch, rng: Rng, sampler: None = None, watch: Watch | None = None) -> Batch:
        if "sample" not in self.can:
            why = (
                "its codes have no prior"
                if self.density is None
                else "the density of its codes is fitted when training ends, and this checkpoint is from before"
            )
            raise UserError(f"{type(self).__name__} cannot sample: {why}")
        if self.density is not None:
            codes = {"z": self.density.sample(rng.stage("prior"), self.fields["z"].shape)}
        else:
            codes = self.bottleneck.prior(self.fields, rng.stage("prior"))
        return self.decoded(codes, rng.stage("output") if self.decoding == "sample" else None)

    def decoded(self, codes: Batch, rng: Rng | None = None) -> Batch:
        """The data of codes: the mean of p(x | z), or a sample where `rng` is given."""
        parameters = self.decoder(self.bottleneck.vectors(codes)).float()
        return {"x": self.output.mean(parameters) if rng is None else self.output.sample(parameters, rng)}

    @torch.no_grad()
    def nll(self, batch: Batch, rng: Rng, estimator: Estimator | None = None) -> Nll:
        if "nll" not in self.can:
            return super().nll(batch, rng, estimator)
        x = batch["x"]
        return (estimator or Elbo())(self.likelihood(x), self.posterior(x), rng.stage("code"))

    @torch.no_grad()
    def encode(self, batch: Batch, rng: Rng | None = None) -> Batch:
        return self.posterior(batch["x"]).codes(rng)

    @torch.no_grad()
    def decode(self, batch: Batch) -> Batch:
        return self.decoded(batch)
