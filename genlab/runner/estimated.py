"""What a sampler must know of a trained model before it draws, estimated from training data once and kept.

A kept file belongs to (weights, schedule at the sampler's times, sampler, data set, how many data); whatever of these
changes, another file is meant.
"""

import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.files import cache_folder, file_name, replacing
from genlab.core.spec import Batch
from genlab.data.contract import DataSet
from genlab.metrics.features import fingerprint
from genlab.models.contract import Model
from genlab.runner.checkpointed import Trained
from genlab.runner.meeting import in_turn
from genlab.runner.progress import meter

# Data that are looked at together.
BATCH = 256


def informed(trained: Trained, sampler: Any) -> Any:
    """The sampler itself, or where it needs data to be estimated from, one that has been."""
    if not getattr(sampler, "needs_data", 0):
        return sampler
    data = trained.data()
    return sampler.given(in_turn(lambda: estimates(trained.model, sampler, data)))


def check_uninformed(sampler: Any) -> None:
    """Raise a UserError where the sampler asks for a trained model, and there is none yet."""
    if getattr(sampler, "needs_data", 0):
        raise UserError(
            f"sampler={sampler.name}: it is estimated from a trained model; train with another, and choose it in "
            "genlab sample and genlab eval"
        )


def estimates(model: Any, sampler: Any, data: DataSet) -> dict[str, Tensor]:
    """Of the sampler for this model, from the kept file where there is one."""
    split = data.split("train")
    n = min(sampler.needs_data, len(split))
    times = sampler.times(model.schedule).to(model.schedule.device)
    passed = torch.stack([times, *model.schedule(times)]).tolist()
    of = (fingerprint(model.state_dict()), passed, sampler.name, data.identity, len(split), n)
    key = hashlib.sha256(repr(of).encode()).hexdigest()[:12]
    file = cache_folder() / "samplers" / f"{file_name(data.identity)}-{sampler.name}-{key}.npz"
    found = read(file)
    if found is None:
        found = {name: value.cpu() for name, value in sampler.estimate(model, batches(model, data, n)).items()}
        with replacing(file, contested=True) as out:
            arrays: dict[str, Any] = {name: value.numpy() for name, value in found.items()}
            np.savez(out, **arrays)
    return {name: value.to(model.device) for name, value in found.items()}


def read(file: Path) -> dict[str, Tensor] | None:
    """What a file holds; None where there is none, or it is damaged."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def batches(model: Model, data: DataSet, n: int) -> Iterator[Batch]:
    """n training data, spread evenly over all that there are, since some sets are ordered."""
    split = data.split("train")
    with meter("estimating variances", n) as counted:
        for number in (torch.arange(n) * len(split) // n).split(BATCH):
            yield {key: value.to(model.device) for key, value in split.batch(number).items()}
            counted.advance(len(number), len(number))
