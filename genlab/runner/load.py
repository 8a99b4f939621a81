"""`genlab.load`: a trained model for a notebook."""

from pathlib import Path
from typing import Literal

from genlab.models.contract import Model
from genlab.runner.checkpoint import load_model, resolve


def load(ckpt: str | Path | None = None, weights: Literal["ema", "raw"] = "ema", device: str = "cpu") -> Model:
    """The model of a run folder or a checkpoint file, in evaluation mode.

    Arguments:
        ckpt: a run folder, a checkpoint file, or None for the newest run under outputs/.
        weights: the moving average, or the raw weights of the last step.
        device: where to put it.

    Raises:
        UserError: if there is no checkpoint, or it is damaged, foreign, or would run code.
    """
    return load_model(resolve(ckpt), weights=weights, device=device)[0]
