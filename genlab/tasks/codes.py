"""Data as codes and codes as data, whichever way a model has there and back.

    code = encode(x),    x ~ decode(code)

A model with codes of its own, as an autoencoder or a flow, encodes and decodes. A diffusion model has them by its
sampler: the code of x is the noise from which a deterministic sampler comes to x, had by running it backwards. A
generator has codes of its samples alone, the noise that they are made of; `genlab.tasks.project` looks for those of
data.

References:
    Denoising Diffusion Implicit Models (Song et al., 2021), section 5.4.
    Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), section 4.3.
"""

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Spec
from genlab.models.contract import Model, Watch


class Codes(Protocol):
    """The way from data to codes, and back."""

    def check(self) -> None:
        """Raise a UserError where there is no way from data to codes."""

    def encode(self, batch: Batch, conditions: Batch, rng: Rng) -> Batch:
        """The code of each datum batch["x"] (B, *)."""

    def draw(self, conditions: Batch, rng: Rng) -> Batch:
        """The codes of the samples that the model draws from `rng`, one a row."""

    def decode(self, code: Batch, conditions: Batch, rng: Rng, watch: Watch | None = None) -> Tensor:
        """The data (B, *) of the codes."""


@runtime_checkable
class ThroughNoise(Protocol):
    """A model whose sampler leads from noise to data, and backwards."""

    def prior(self, rng: Rng) -> Tensor: ...

    def to_noise(self, batch: Batch, rng: Rng, sampler: Any) -> Tensor: ...

    def from_noise(
        self, x_1: Tensor, conditions: Batch, rng: Rng, sampler: Any, watch: Watch | None = None
    ) -> Tensor: ...


class OwnCodes:
    """Those of a model that encodes and decodes."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def check(self) -> None:
        """Its way is the model's own."""

    def encode(self, batch: Batch, conditions: Batch, rng: Rng) -> Batch:
        return self.model.encode({**batch, **conditions})

    def draw(self, conditions: Batch, rng: Rng) -> Batch:
        return self.model.encode({**self.model.sample(conditions, rng), **conditions})

    def decode(self, code: Batch, conditions: Batch, rng: Rng, watch: Watch | None = None) -> Tensor:
        return self.model.decode({**code, **conditions})["x"]


class NoiseCodes:
    """Those of a model with a deterministic sampler."""

    def __init__(self, model: ThroughNoise, sampler: Any) -> None:
        self.model, self.sampler = model, sampler

    def check(self) -> None:
        self.sampler.check_inverts()

    def encode(self, batch: Batch, conditions: Batch, rng: Rng) -> Batch:
        return {"x_1": self.model.to_noise({**batch, **conditions}, rng, self.sampler)}

    def draw(self, conditions: Batch, rng: Rng) -> Batch:
        return {"x_1": self.model.prior(rng)}

    def decode(self, code: Batch, conditions: Batch, rng: Rng, watch: Watch | None = None) -> Tensor:
        return self.model.from_noise(code["x_1"], conditions, rng, self.sampler, watch)


@runtime_checkable
class FromPrior(Protocol):
    """A model that makes its samples of codes."""

    def prior(self, rng: Rng) -> Batch: ...

    def of_codes(self, codes: Batch, conditions: Batch, rng: Rng, sampler: Any = None) -> Tensor: ...


class PriorCodes:
    """Those of a model that only decodes."""

    def __init__(self, model: FromPrior, sampler: Any) -> None:
        self.model, self.sampler = model, sampler

    def check(self) -> None:
        raise UserError(
            f"task: {type(self.model).__name__} has codes of its samples and not of data; give task.samples=[0,5] to "
            "task=interpolate, or look for codes of data by task=project"
        )

    def encode(self, batch: Batch, conditions: Batch, rng: Rng) -> Batch:
        self.check()
        return {}

    def draw(self, conditions: Batch, rng: Rng) -> Batch:
        return self.model.prior(rng)

    def decode(self, code: Batch, conditions: Batch, rng: Rng, watch: Watch | None = None) -> Tensor:
        return self.model.of_codes(code, conditions, rng, self.sampler)


def codes(model: Model, sampler: Any) -> Codes:
    """The model's own codes where it has them, else those that its sampler makes, or that its samples are made of.

    Raises UserError where there are neither.
    """
    if {"encode", "decode"} <= model.can:
        return OwnCodes(model)
    if isinstance(model, ThroughNoise) and sampler is not None:
        return NoiseCodes(model, sampler)
    if "decode" in model.can and isinstance(model, FromPrior):
        return PriorCodes(model, sampler)
    raise UserError(
        f"task: {type(model).__name__} has no codes of data; it needs to encode and decode, or a sampler that can be "
        "run backwards"
    )


def said(fields: Spec) -> str:
    """What codes are, in words: z of 64x7x7 and index of 7x7."""
    return " and ".join(f"{key} of {'x'.join(map(str, field.shape))}" for key, field in fields.items())
