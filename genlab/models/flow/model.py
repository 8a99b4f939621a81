"""Flows: data are noise that went through an invertible map.

    z = f(y),    log p(y) = log p(z) + log |det dz/dy|

y is the datum itself, or where it has levels a datum with noise, by which the density of y bounds its probability.

References:
    NICE: Non-linear Independent Components Estimation (Dinh, Krueger & Bengio, 2015).
    Normalizing Flows for Probabilistic Modeling and Inference (Papamakarios et al., 2021).
"""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Field, Spec
from genlab.core.units import bits_per_dim
from genlab.models.conditioning import Conditioner
from genlab.models.contract import Model, Nll, Watch
from genlab.models.flow.base import Base
from genlab.models.flow.likelihood import FlowLikelihood
from genlab.models.flow.preprocess import Preprocess
from genlab.models.flow.sampler import FlowSampler
from genlab.models.flow.transform import Transform
from genlab.networks.actnorm import shown_first

# As many data set what begins by the first data.
FIRST = 256


class Flow(Model):
    """A transform and a base.

    Arguments:
        spec: of the data; "x" is modelled.
        transform: f, from data to noise.
        base: p(z), of z as a vector.
        preprocess: from levels to real numbers, and nothing where data are real.
        conditioner: makes of a batch the context that transform and base hear.

    Minimises the bits per dimension. Raises UserError where the data have levels and are not preprocessed, and where
    there is a condition that nothing hears, or none where one is needed.
    """

    can = frozenset({"sample", "nll", "encode", "decode"})

    def __init__(
        self,
        spec: Spec,
        transform: Transform,
        base: Base,
        preprocess: Preprocess,
        conditioner: Conditioner,
    ) -> None:
        super().__init__(spec)
        self.transform, self.base, self.preprocess, self.conditioner = transform, base, preprocess, conditioner
        self.reads = frozenset({"x"}) | conditioner.reads
        self.conditions = conditioner.reads
        self.out_shape = transform.out_shape(spec["x"].shape)
        self.size = math.prod(self.out_shape)
        if spec["x"].levels is not None and not preprocess.adds_noise:
            raise UserError("preprocess: the data have levels, and a density needs noise; choose preprocess=uniform")
        heard = {"transform": transform.vector, "base": base.vector}
        if conditioner.vector > 0 and not any(heard.values()):
            raise UserError(
                "conditioner: neither transform nor base hears it; choose base=conditional_normal, or leave it out"
            )
        for name, width in heard.items():
            if width not in (0, conditioner.vector):
                raise UserError(
                    f"{name}.vector={width}: the condition has a width of {conditioner.vector}; leave it out, or set "
                    f"conditioner.vector={width}"
                )

    @property
    def latent_spec(self) -> Spec:
        return {"z": Field((self.size,))}

    def context(self, batch: Batch, rng: Rng | None = None) -> Tensor | None:
        """What transform and base are told of each datum, (B, vector)."""
        condition = self.conditioner(batch, rng)
        return None if condition is None else condition.vector

    def terms(self, x: Tensor, context: Tensor | None, rng: Rng | None) -> tuple[Tensor, Mapping[str, Tensor]]:
        """z (B, D) of data x (B, *), and the terms whose sum is minus the log-likelihood, or a bound on it, (B,) each.

        Arguments:
            rng: draws the noise of levels; without it they lie in the middle.
        """
        y, first = self.preprocess(x, None, rng)
        z, log_det = self.transform(y, context)
        z = z.flatten(1)
        return z, {"base": -self.base.log_prob(z, context), "volume": -log_det, "preprocess": -first}

    def loss(self, batch: Batch, rng: Rng, player: str, step: int) -> dict[str, Tensor]:
        _, terms = self.terms(batch["x"], self.context(batch, rng), rng.stage("dequantize"))
        return {"loss": bits_per_dim(torch.stack(list(terms.values())).sum(0), self.spec["x"]).mean()}

    @torch.no_grad()
    def prepare(self, batches: Iterable[Batch]) -> None:
        seen = list(batches)
        first = {key: torch.cat([batch[key] for batch in seen])[:FIRST] for key in sorted(self.reads)}
        rng = Rng(0, torch.arange(len(first["x"]), device=first["x"].device)).stage("prepare")
        training = self.training
        self.eval()
        with shown_first(self):
            self.terms(first["x"], self.context(first), rng)
        self.train(training)

    @torch.no_grad()
    def sample(
        self, conditions: Batch, rng: Rng, sampler: FlowSampler | None = None, watch: Watch | None = None
    ) -> Batch:
        context = self.context(conditions, rng)
        temperature = (sampler or FlowSampler()).temperature
        z = self.base.sample(rng.stage("base"), self.size, context, temperature)
        return {"x": self.to_data(z, context)}

    def to_data(self, z: Tensor, context: Tensor | None) -> Tensor:
        """The data (B, *) of noise z (B, D), on their levels where they have any."""
        y, _ = self.transform.inverse(z.unflatten(1, self.out_shape), context)
        return self.preprocess.inverse(y)[0]

    @torch.no_grad()
    def nll(self, batch: Batch, rng: Rng, estimator: FlowLikelihood | None = None) -> Nll:
        context = self.context(batch)

        def terms(draw: Rng) -> Mapping[str, Tensor]:
            return self.terms(batch["x"], context, draw)[1]

        return (estimator or FlowLikelihood())(terms, self.preprocess.adds_noise, rng.stage("dequantize"))

    @torch.no_grad()
    def encode(self, batch: Batch, rng: Rng | None = None) -> Batch:
        z, _ = self.terms(batch["x"], self.context(batch), None if rng is None else rng.stage("dequantize"))
        return {"z": z}

    @torch.no_grad()
    def decode(self, batch: Batch) -> Batch:
        return {"x": self.to_data(batch["z"], self.context(batch))}
