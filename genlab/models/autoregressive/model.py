"""Autoregressive models: a causal network and the distribution of a place that it ends in.

    log p(x) = sum_i log p(x_i | x_{<i}),    p(x_i | x_{<i}) = output(f(x)_i)

The likelihood is exact, and takes one pass. Text and states are data of as many levels as there are characters or
states; audio is data of 256 mu-law levels.

References:
    The Neural Autoregressive Distribution Estimator (Larochelle & Murray, 2011).
    Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner & Kavukcuoglu, 2016).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Spec
from genlab.models.autoregressive.drawing import draw
from genlab.models.autoregressive.sampler import Places
from genlab.models.conditioning import Conditioner
from genlab.models.contract import Model, Nll, Watch
from genlab.models.outputs.output import Output
from genlab.networks.causal.causal import Causal


class Autoregressive(Model):
    """A causal network with an output distribution.

    Arguments:
        spec: of the data; "x" is modelled.
        network: makes the network from data (B, C, *) to the parameters of each place (B, F, *), told `features`, F.
        output: the distribution of a place.
        conditioner: makes of a batch what the network is told beside x.
    """

    can = frozenset({"sample", "nll"})

    def __init__(self, spec: Spec, network: Callable[..., Causal], output: Output, conditioner: Conditioner) -> None:
        super().__init__(spec)
        made = network(features=output.features)
        if spec["x"].shape[0] % made.groups:
            raise UserError(f"causal: draws {made.groups} groups of channels, and data have {spec['x'].shape[0]}")
        if made.groups > 1 and not output.by_channel:
            raise UserError(
                "output: it couples the channels of a place, or mixes their parameters, and the network draws channels "
                "one after the other; take causal.joint=true, or output=categorical"
            )
        self.network, self.output, self.conditioner = made, output, conditioner
        self.reads = frozenset({"x"}) | conditioner.reads
        self.conditions = conditioner.reads

    @property
    def places(self) -> Tensor:
        """(L,) int64, in the order in which they are drawn."""
        return self.network.order

    @property
    def stationary(self) -> bool:
        """Whether sequences of any length can be drawn."""
        return self.network.stationary

    def log_prob(self, batch: Batch, rng: Rng | None = None) -> Tensor:
        """log p(x), (B,) in nats, with gradients; `rng` is for what conditioning drops in training."""
        x = batch["x"]
        parameters = self.network(x, self.conditioner(batch, rng))
        if parameters.dtype not in (torch.float32, torch.float64):
            parameters = parameters.float()
        return self.output.log_prob(parameters, x)

    def loss(self, batch: Batch, rng: Rng, player: str, step: int) -> dict[str, Tensor]:
        return {"loss": -self.log_prob(batch, rng).mean()}

    @torch.no_grad()
    def sample(self, conditions: Batch, rng: Rng, sampler: Places | None = None, watch: Watch | None = None) -> Batch:
        dtype = next(self.network.parameters()).dtype
        shape = (sampler or Places()).shape(self.spec["x"].shape, self.stationary)
        blank = torch.zeros(len(rng), *shape, device=rng.device, dtype=dtype)
        return {"x": self.completed(blank, None, conditions, rng, sampler, watch), **conditions}

    @torch.no_grad()
    def completed(
        self,
        x: Tensor,
        given: Tensor | None,
        conditions: Batch,
        rng: Rng,
        sampler: Places | None = None,
        watch: Watch | None = None,
    ) -> Tensor:
        """Data (B, C, *) that have the values of x at the places that `given` (L,) marks, and are drawn at others.

        It is a draw given what came before each place in the network's order, which is the posterior where the given
        places are the first.
        """
        condition = self.conditioner(conditions, rng)
        temperature = 1.0 if sampler is None else sampler.temperature
        return draw(self.network, self.output, x, rng.stage("draw"), condition, given, temperature, watch)

    @torch.no_grad()
    def nll(self, batch: Batch, rng: Rng, estimator: None = None) -> Nll:
        return Nll(-self.log_prob(batch).double(), "exact", {}, "the sum over places, each given those before it")
