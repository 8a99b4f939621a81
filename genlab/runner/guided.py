"""Guidance, from what the command line or the run chose to the object that a sampler asks: built, given its classifier,
and held against the model."""

from typing import Any

from genlab.core.errors import UserError
from genlab.metrics.features import fingerprint
from genlab.models.contract import Model
from genlab.models.diffusion.classifier import Classifier
from genlab.models.diffusion.guidance import Guidance
from genlab.models.diffusion.model import GaussianDiffusion
from genlab.models.diffusion.samplers.sampler import Sampler
from genlab.runner.build import build
from genlab.runner.checkpoint import load_model, resolve


def guidance_of(config: dict[str, Any] | None, model: Model, sampler: Any) -> Guidance | None:
    """The guidance that a config describes, for this model and sampler; None where there is none.

    A config with a `ckpt` is one whose class takes the classifier in that checkpoint.

    Raises:
        UserError: the model cannot be guided, or not so; or there is no such classifier.
    """
    if not config:
        return None
    if "_target_" not in config:
        raise UserError(f"guidance.{next(iter(config))}: no guidance is chosen; write guidance=classifier_free first")
    if not isinstance(model, GaussianDiffusion) or not isinstance(sampler, Sampler):
        raise UserError(f"guidance: {type(model).__name__} has none to take; it is for models of Gaussian diffusion")
    options = {key: value for key, value in config.items() if key != "ckpt"}
    guidance = build(options, path="guidance", extra=classifier_in(config["ckpt"]) if "ckpt" in config else None)
    if not isinstance(guidance, Guidance):
        raise UserError(f"guidance._target_: {type(guidance).__name__} is not a guidance")
    guidance.check(model)
    return guidance


def classifier_in(ckpt: Any) -> dict[str, Any]:
    """The classifier in a checkpoint file or run folder, and what records say of it."""
    if not isinstance(ckpt, str) or ckpt in ("", "???"):
        raise UserError("guidance.ckpt: name the run of a classifier, trained by genlab train model=classifier")
    try:
        path = resolve(ckpt)
    except UserError as error:
        raise UserError(f"guidance.ckpt={error}") from error
    model, _ = load_model(path)
    if not isinstance(model, Classifier):
        raise UserError(
            f"guidance.ckpt={ckpt}: it holds a {type(model).__name__}, and guidance needs a classifier; train one by "
            "genlab train model=classifier"
        )
    source = {"guidance_ckpt": str(path), "guidance_weights": fingerprint(model.state_dict())}
    return {"classifier": model, "source": source}
