"""Guidance: a denoiser that leans towards what the conditions say. It wraps a model's denoiser and has its type.

    classifier-free    x_0 = x_0^u + s (x_0^c - x_0^u)
    classifier         x_0 = x_0^m + s sigma_t^2 / alpha_t grad log p(y | x_t)

with the model's estimates under the conditions (c), under none (u), and its own (m). x_0, eps and every other
prediction are linear in each other, so the first is the same in all of them; the second is eps - s sigma_t grad log p.

References:
    Classifier-Free Diffusion Guidance (Ho & Salimans, 2022), eq. 6, whose w is s - 1.
    Diffusion Models Beat GANs on Image Synthesis (Dhariwal & Nichol, 2021), section 4 and algorithm 2.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch
from genlab.models.diffusion.classifier import Classifier
from genlab.models.diffusion.denoiser import Denoised, Denoiser
from genlab.models.diffusion.schedule import NO_SIGNAL, Schedule, match
from genlab.networks.condition import stacked

if TYPE_CHECKING:
    from genlab.models.diffusion.model import GaussianDiffusion

# How many times two schedules are compared at.
COMPARED = 100


class Guidance(ABC):
    """Makes the denoiser that a sampler asks.

    Attributes:
        factor: how many rows the network sees for one of the batch.
        conditions: the batch keys that it is steered by, beside those that the model is.
        note: what records of samples say of it.
    """

    factor: int = 1
    conditions: frozenset[str] = frozenset()
    note: Mapping[str, str | float]

    @abstractmethod
    def check(self, model: "GaussianDiffusion") -> None:
        """Raise a UserError where this model cannot be guided so."""

    @abstractmethod
    def __call__(self, model: "GaussianDiffusion", conditions: Batch, rng: Rng) -> Denoiser:
        """The guided denoiser of the model under these conditions, for as many rows as `rng` has."""


def _checked_scale(scale: float) -> float:
    if not 0 <= scale < math.inf:
        raise ValueError(f"scale must be a number of at least 0, not {scale}: below 0 leads away from the label")
    return scale


class ClassifierFree(Guidance):
    """Further from what the model makes without conditions, in one call of the network with twice the rows.

    Learned variances are those under the conditions.

    Arguments:
        scale: s. 1 is the model under its conditions and 0 the model without, neither of which needs twice the rows;
            above 1 samples become more typical of their label and less diverse.
    """

    def __init__(self, scale: float = 2.0) -> None:
        self.scale = _checked_scale(scale)
        self.factor = 1 if scale in (0, 1) else 2
        self.note = {"guidance": "classifier_free", "guidance_scale": scale, "network_batch": f"x{self.factor}"}

    def check(self, model: "GaussianDiffusion") -> None:
        if not model.conditions:
            raise UserError(
                "guidance: it needs conditions and the model has none; train with conditioner=label "
                "conditioner.dropout=0.1"
            )
        if model.conditioner.dropout == 0 and self.scale != 1:
            raise UserError(
                f"guidance.scale={self.scale}: it needs a model that also learned to do without labels, and this one "
                "was trained with conditioner.dropout=0; train with conditioner.dropout=0.1"
            )

    def __call__(self, model: "GaussianDiffusion", conditions: Batch, rng: Rng) -> Denoiser:
        self.check(model)
        if self.scale == 1:
            return model.denoiser(conditions, rng)
        nothing = model.conditioner.null(conditions, rng)
        if self.scale == 0:
            return lambda x_t, t: model.estimate(x_t, t, nothing)
        both = stacked(model.conditioner(conditions, rng), nothing)

        def denoise(x_t: Tensor, t: Tensor) -> Denoised:
            whole = model.estimate(torch.cat([x_t, x_t]), t.expand(len(x_t)).repeat(2), both)
            given, free = whole.x_0.chunk(2)
            between = None if whole.between is None else whole.between[: len(x_t)]
            return Denoised(free + self.scale * (given - free), between)

        return denoise


class ClassifierGuidance(Guidance):
    """Along the gradient of a classifier, towards x_t that it takes for noisy data of the label.

    A label of -1 is no label. Where the schedule leaves no signal, x_t says nothing about the label and there is no
    guidance. Learned variances are the model's.

    Arguments:
        classifier: trained on the same data and schedule as the model, to be left as it is.
        scale: s. 0 is the model, and 1 samples from p(x | y) as far as both are right; above, samples are more
            typical of their label and less diverse.
        source: what records of samples say of the classifier, by name.
    """

    conditions = frozenset({"label"})

    def __init__(self, classifier: Classifier, scale: float = 1.0, source: Mapping[str, str] | None = None) -> None:
        self.classifier, self.scale = classifier, _checked_scale(scale)
        self.note = {"guidance": "classifier", "guidance_scale": scale, **(source or {})}

    def check(self, model: "GaussianDiffusion") -> None:
        told, known = self.classifier.spec, model.spec
        if told["x"].shape != known["x"].shape:
            raise UserError(
                f"guidance.ckpt: the classifier is of data of shape {told['x'].shape}, and the model of "
                f"{known['x'].shape}; train one on the model's data"
            )
        classes = known["label"].classes if "label" in known else None
        if classes != self.classifier.classes:
            raise UserError(
                f"guidance.ckpt: the classifier tells {self.classifier.classes} classes apart, and the model's data "
                f"have {classes or 'none'}; train one on the model's data"
            )
        if not alike(self.classifier.schedule, model.schedule):
            raise UserError(
                "guidance.ckpt: the classifier was trained with the noise of another schedule than the model; train "
                "one with the model's schedule= and its options"
            )

    def __call__(self, model: "GaussianDiffusion", conditions: Batch, rng: Rng) -> Denoiser:
        self.check(model)
        own = model.denoiser(conditions, rng)
        if self.scale == 0:
            return own
        label = self._labels(conditions)
        classifier, schedule = self.classifier.to(label.device), model.schedule

        def gradient(x_t: Tensor, t: Tensor) -> Tensor:
            with torch.enable_grad():
                x_t = x_t.detach().requires_grad_()
                log_p = classifier.log_prob(x_t, t).gather(1, label.clamp(min=0)[:, None])[:, 0]
                (found,) = torch.autograd.grad((log_p * (label >= 0)).sum(), x_t)
            return found

        def denoise(x_t: Tensor, t: Tensor) -> Denoised:
            denoised = own(x_t, t)
            alpha, sigma = schedule(t)
            strength = torch.where(alpha.log() > NO_SIGNAL, self.scale * sigma**2 / alpha, 0.0)
            return denoised._replace(x_0=denoised.x_0 + match(strength, x_t) * gradient(x_t, t))

        return denoise

    def _labels(self, conditions: Batch) -> Tensor:
        """(B,), looked at once a batch."""
        if "label" not in conditions:
            raise UserError("guidance: a classifier leads towards a label, and none is given; give label=")
        label = conditions["label"]
        if bool(((label < -1) | (label >= self.classifier.classes)).any()):
            raise UserError(f"label: the classifier knows the labels 0 to {self.classifier.classes - 1}")
        return label


def alike(schedule: Schedule, other: Schedule) -> bool:
    """Whether two schedules have the same steps, and the same signal and noise at all times, to rounding."""
    if schedule.steps != other.steps:
        return False
    t = torch.arange(1, COMPARED + 1, dtype=torch.float64) / COMPARED
    pairs = zip(schedule(t.to(schedule.device)), other(t.to(other.device)), strict=True)
    return all(torch.allclose(one.detach().cpu(), two.detach().cpu(), rtol=1e-6, atol=1e-9) for one, two in pairs)
