"""Categorical codes, and their relaxation while they are learned.

    q(j | x) = softmax(l)_j,    p(j) = 1/K,    KL = sum_places sum_j q_j log(K q_j)
    evaluation:  j ~ q,  z = e_j
    training:    y = softmax((l + g) / tau),  g = -log(-log u),  z = sum_j y_j e_j

y goes to a one-hot sample of q as tau goes to 0. Training keeps the divergence of q, for it has none for y in closed
form: a relaxation of the bound, and a bound again once samples are hard, as they are in evaluation.

References:
    Categorical Reparameterization with Gumbel-Softmax (Jang, Gu & Poole, 2017), section 2, and 2.2, straight through.
    The Concrete Distribution: A Continuous Relaxation of Discrete Random Variables (Maddison, Mnih & Teh, 2017).
    Zero-Shot Text-to-Image Generation (Ramesh et al., 2021), section 2.1 and appendix A, the dVAE of DALL-E.
"""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Spec
from genlab.models.autoencoder.bottleneck import Bottleneck, Posterior
from genlab.models.autoencoder.codebook import (
    check_sizes,
    fields,
    information,
    look_up,
    nearest,
    requantized,
    rows,
    uniform,
    usage,
)


class Categorical(Posterior):
    """Independent categorical codes, with the uniform prior.

    Arguments:
        logits: l, (B, K, *).
        codebook: e, (K, D).
        temperature: tau; None for hard samples.
        straight: z of relaxed samples is that of the largest y, with the gradients of y.
        notes: as in every posterior.
    """

    nature = "codes are categorical, and the prior is uniform over all of them"

    def __init__(
        self,
        logits: Tensor,
        codebook: Tensor,
        temperature: float | None = None,
        straight: bool = False,
        notes: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.logits, self.codebook, self.temperature, self.straight = logits, codebook, temperature, straight
        self.notes = notes or {}

    def drawn(self, rng: Rng, k: int) -> Tensor:
        """Numbers j ~ q, (B, k, *)."""
        ends = self.logits.detach().double().softmax(1).movedim(1, -1).cumsum(-1)
        u = rng.uniform(k, *self.logits.shape[2:], dtype=torch.float64).movedim(1, -1)
        # Scaled, for the last of the ends is 1 but for rounding.
        index = torch.searchsorted(ends, (u * ends[..., -1:]).contiguous(), right=True)
        return index.clamp(max=len(self.codebook) - 1).movedim(-1, 1)

    def relaxed(self, rng: Rng, k: int, temperature: float) -> Tensor:
        """y, (B, k, K, *)."""
        u = rng.uniform(k, *self.logits.shape[1:], dtype=self.logits.dtype)
        y = ((self.logits[:, None] - (-u.log()).log()) / temperature).softmax(2)
        if not self.straight:
            return y
        hard = torch.zeros_like(y).scatter_(2, y.argmax(2, keepdim=True), 1.0)
        return hard + (y - y.detach())

    def sample(self, rng: Rng, k: int = 1) -> Tensor:
        if self.temperature is None:
            return look_up(self.codebook, self.drawn(rng, k).flatten(0, 1)).unflatten(0, (-1, k))
        y = self.relaxed(rng, k, self.temperature)
        return (y.movedim(2, -1) @ self.codebook).movedim(-1, 2)

    def mode(self) -> Tensor:
        return look_up(self.codebook, self.logits.argmax(1))

    def log_prob(self, z: Tensor) -> Tensor:
        if self.temperature is not None:
            raise UserError("objective=importance: weighs draws of codes, and relaxed ones have no weight; choose elbo")
        flat = z.flatten(0, 1)
        index = nearest(rows(flat), self.codebook.detach()).view(*z.shape[:2], 1, *z.shape[3:])
        log_q = self.logits.log_softmax(1)[:, None].expand(-1, z.shape[1], *self.logits.shape[1:])
        return log_q.gather(2, index).flatten(2).sum(2)

    def log_prior(self, z: Tensor) -> Tensor:
        return z.new_full(z.shape[:2], -information(self.logits[:, 0], len(self.codebook)))

    def kl(self) -> Tensor:
        log_q = self.logits.log_softmax(1)
        return (log_q.exp() * (log_q + math.log(len(self.codebook)))).flatten(1).sum(1)

    def codes(self, rng: Rng | None = None) -> Batch:
        index = self.logits.argmax(1) if rng is None else self.drawn(rng, 1)[:, 0]
        return {"z": look_up(self.codebook, index), "index": index}


class Gumbel(Bottleneck):
    """A codebook of which the encoder says how likely each vector is.

    Arguments:
        codes: K, how many vectors it has, and how many numbers the encoder gives for each place.
        size: of a vector.
        temperature: tau in the first step of training.
        final: tau from step `anneal_steps` on; DALL-E's is 1/16, after 150,000 steps.
        anneal: how it goes there, as a half wave of a cosine, or by the same factor in every step.
        anneal_steps: the steps on the way.
        straight_through: training decodes hard samples, with the gradients of relaxed ones.
    """

    def __init__(
        self,
        codes: int = 512,
        size: int = 64,
        temperature: float = 1.0,
        final: float = 0.0625,
        anneal: Literal["cosine", "exponential"] = "cosine",
        anneal_steps: int = 3000,
        straight_through: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(codes, size)
        for name, value in (("temperature", temperature), ("final", final)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be above 0, not {value}: draws are divided by it")
        if anneal_steps < 1:
            raise ValueError(f"anneal_steps must be at least 1, not {anneal_steps}")
        self.codes, self.inputs, self.outputs = codes, codes, size
        self.start, self.final, self.anneal, self.anneal_steps = temperature, final, anneal, anneal_steps
        self.straight_through = straight_through
        self.codebook = nn.Parameter(torch.randn(codes, size))

    def temperature(self, step: int) -> float:
        """tau in a step of training."""
        done = min(1.0, step / self.anneal_steps)
        if self.anneal == "cosine":
            return self.final + (self.start - self.final) * (1 + math.cos(math.pi * done)) / 2
        return self.start * (self.final / self.start) ** done

    def forward(self, h: Tensor, step: int | None = None) -> Categorical:
        logits = h.to(self.codebook.dtype)
        temperature = self.temperature(step) if step is not None and self.training else None
        notes = {} if step is None else usage(logits.argmax(1), self.codes)
        if temperature is not None:
            notes["temperature"] = logits.new_tensor(temperature)
        return Categorical(logits, self.codebook, temperature, self.straight_through, notes)

    def fields(self, shape: torch.Size) -> Spec:
        return fields(shape, self.codes)

    def prior(self, fields: Spec, rng: Rng) -> Batch:
        return uniform(self.codebook, fields["index"], rng)

    def vectors(self, codes: Batch) -> Tensor:
        if "index" in codes:
            return look_up(self.codebook, codes["index"])
        return requantized(self.codebook, codes["z"].to(self.codebook))
