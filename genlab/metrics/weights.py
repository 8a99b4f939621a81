"""Where the weights of the Inception network come from: a file of the user's, or what torch-fidelity fetches."""

import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from genlab.core.collectives import barrier, world
from genlab.core.errors import UserError
from genlab.metrics.inception import InceptionFeatures

FULL = "weights-inception-2015-12-05-6726825d.pth"
"""The whole network, as torch-fidelity publishes it."""

NAMES = (FULL, "pt_inception-2015-12-05-6726825d.pth", "inception-2015-12-05-pool3.pth")
"""Files that are looked for, the best first; the last has no classifier head."""

ADVICE = f"put {FULL} in a folder and set GENLAB_WEIGHTS to it, or use metric.features=classifier on labelled data"


def find() -> Path | None:
    """The file that GENLAB_WEIGHTS names, or the best one in the folder that it names."""
    named = os.environ.get("GENLAB_WEIGHTS")
    if not named:
        return None
    place = Path(named).expanduser()
    if place.is_dir():
        return next((place / name for name in NAMES if (place / name).is_file()), None)
    if not place.is_file():
        raise UserError(f"GENLAB_WEIGHTS={named} is neither a folder nor a file: {ADVICE}")
    return place


def read(path: Path) -> Mapping[str, Tensor]:
    """Tensors by name; no code in the file is run."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(f"{path} is damaged or not a file of weights: {ADVICE}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path} is not a file of weights by name: {ADVICE}")
    return state


def fetch() -> Mapping[str, Tensor]:
    """The weights that torch-fidelity names, downloaded once into torch's own cache."""
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
    except ImportError as error:
        raise UserError(
            f"the Inception weights are not here, nor torch-fidelity that fetches them: {ADVICE}"
        ) from error
    try:
        return torch.hub.load_state_dict_from_url(
            URL_INCEPTION_V3, map_location="cpu", check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"the Inception weights are not here and cannot be fetched: {ADVICE}") from error


def inception_features(dtype: torch.dtype = torch.float32) -> InceptionFeatures:
    """The network with the best weights that can be had; where several processes ask, the first fetches.

    Arguments:
        dtype: of the convolutions, see `InceptionFeatures`.
    """
    path = find()
    if path is not None:
        return InceptionFeatures(read(path), path.name, dtype)
    if world()[0] == 0:
        state = fetch()
    barrier()
    return InceptionFeatures(state if world()[0] == 0 else fetch(), FULL, dtype)
