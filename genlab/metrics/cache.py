"""The features of data sets, computed once and kept.

A cached file belongs to (data set, splits, their sizes, network, its weights); whatever of these changes, another file
is meant. Statistics are kept always, as an .npz that other tools read; features where they fit.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from genlab.core.collectives import all_sum, barrier, world
from genlab.core.errors import UserError
from genlab.core.files import cache_folder, file_name, replacing
from genlab.core.units import to_uint8
from genlab.metrics.features import Extractor, FeatureSet, Progress, extract, fingerprint
from genlab.metrics.moments import Statistics
from genlab.metrics.record import How

if TYPE_CHECKING:
    from genlab.data.contract import DataSet, SplitName

FEATURE_BYTES = 2**30
"""Features are kept up to this size, 131,072 images of 2048 features."""

PUBLISHED: "tuple[SplitName, ...]" = ("train", "validation")
"""The published training set, which genlab divides into these two."""


def images_of(dataset: "DataSet", splits: "Sequence[SplitName]", batch_size: int) -> Iterator[Tensor]:
    """uint8 (B, C, H, W): this process's contiguous share of the splits, in order."""
    field = dataset.spec["x"]
    if not field.is_image:
        raise UserError(f"features need images of 1 or 3 channels, and {dataset.identity} holds data of {field.shape}")
    rank, processes = world()
    total = sum(len(dataset.split(name)) for name in splits)
    first, last = rank * total // processes, (rank + 1) * total // processes
    offset = 0
    for name in splits:
        split = dataset.split(name)
        start, stop = max(first - offset, 0), min(last - offset, len(split))
        for low in range(start, stop, batch_size):
            index = torch.arange(low, min(low + batch_size, stop))
            yield to_uint8(split.batch(index)["x"], field.levels)
        offset += len(split)


def _read(file: Path, n: int, extractor: Extractor, keep: bool, how: How) -> FeatureSet | None:
    """What is cached at `file` (without its suffix), or None where it is not, or is damaged, for any process."""
    features, statistics = None, None
    try:
        statistics = Statistics.load(f"{file}.npz")
        features = torch.from_numpy(np.load(f"{file}.npy", allow_pickle=False)) if keep else None
        found = statistics.count == n and (features is None or features.shape == (n, extractor.dimension))
    except (UserError, OSError, ValueError, EOFError, TypeError):
        found = False
    if int(all_sum(torch.tensor(int(found)))) < world()[1] or statistics is None:
        return None
    return FeatureSet(extractor.name, statistics, features, how=how)


def reference_features(
    extractor: Extractor,
    dataset: "DataSet",
    splits: "Sequence[SplitName]" = PUBLISHED,
    batch_size: int = 256,
    progress: Progress | None = None,
    keep: bool = True,
) -> FeatureSet:
    """The features of the splits one after the other, from the cache where they are in it.

    Sets that are too large for their features to be kept (`FEATURE_BYTES`) have statistics only.

    Arguments:
        keep: whether features are wanted, or their statistics only, which take no room.
    """
    n = sum(len(dataset.split(name)) for name in splits)
    if n < 2:
        raise UserError(f"{dataset.identity} has {n} images in {' and '.join(splits)}: too few to compare with")
    weights = fingerprint(extractor.state_dict())
    sizes = "+".join(f"{name}{len(dataset.split(name))}" for name in splits)
    key = hashlib.sha256(repr((dataset.identity, sizes, extractor.name, weights)).encode()).hexdigest()[:12]
    file = cache_folder() / "features" / f"{file_name(dataset.identity)}-{file_name(extractor.name)}-{key}"
    how: How = {**extractor.how, "reference": f"{dataset.identity} {'+'.join(splits)}"}
    keep = keep and n * extractor.dimension * 4 <= FEATURE_BYTES
    barrier()
    cached = _read(file, n, extractor, keep, how)
    if cached is not None:
        return cached

    rank, processes = world()
    mine = (rank + 1) * n // processes - rank * n // processes

    def report(done: int) -> None:
        if progress is not None:
            progress(f"{extractor.name} features of {dataset.identity}", done, mine)

    made = extract(extractor, images_of(dataset, splits, batch_size), how, keep, report)
    if rank == 0:
        if made.features is not None:
            with replacing(Path(f"{file}.npy"), contested=True) as out:
                np.save(out, made.features.numpy())
        made.statistics.save(f"{file}.npz")
    barrier()
    return replace(made, logits=None)


def reference_file(path: str, extractor: Extractor) -> FeatureSet:
    """Statistics that any tool wrote, as the reference; they must come from the same network."""
    statistics = Statistics.load(path)
    if statistics.dimension != extractor.dimension:
        there, here = statistics.dimension, extractor.dimension
        raise UserError(f"{path} holds statistics of {there} features, and {extractor.name} has {here}")
    return FeatureSet(extractor.name, statistics, how={**extractor.how, "reference": path})
