"""A small classifier of a labelled data set, whose features judge samples where Inception sees nothing of use.

    image -> convolutions, each with batch normalisation -> features = ReLU(linear) in R^64 or R^128 -> logits

It is trained once on the train and validation splits by a fixed recipe (cross-entropy, Adam, one cycle of the learning
rate, shifts by a pixel or two), its accuracy is measured on the test split, and it is kept. Numbers on its features
can be compared with each other as long as the weights are the same, which `how` tells, and with nothing else.

References:
    Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates (Smith & Topin, 2018).
"""

import hashlib
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genlab.core.collectives import barrier, world
from genlab.core.errors import UserError
from genlab.core.files import cache_folder, file_name, replacing
from genlab.core.rng import Rng
from genlab.core.spec import Field, Spec
from genlab.core.units import from_levels, to_uint8
from genlab.metrics.features import Extractor, Progress, fingerprint

if TYPE_CHECKING:
    from genlab.data.contract import DataSet, SplitName

VERSION = 1
"""Of the network and the recipe; another version is another classifier."""

BATCH = 128
RATE = 3e-3
IMAGES = 60_000
"""About how many images training sees, in 3 epochs at least and 60 at most."""


class SmallConvNet(nn.Module):
    """Convolutions down to a side of 8 or less, one hidden layer of features, a linear head.

    Arguments:
        shape: (C, H, W) of the images.
        classes: K.
        dimension: d, the number of features.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, dimension: int) -> None:
        super().__init__()
        height, width = shape[1:]
        layers, channels = self._convolution(shape[0], 32), 32
        while channels == 32 or max(height, width) > 8:
            height, width = -(-height // 2), -(-width // 2)
            out = 64 if max(height, width) <= 8 else 32
            layers += [*self._convolution(channels, out, stride=2), *self._convolution(out, out)]
            channels = out
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.hidden = nn.Linear(channels * height * width, dimension)
        self.head = nn.Linear(dimension, classes)

    @staticmethod
    def _convolution(channels: int, out: int, stride: int = 1) -> list[nn.Module]:
        return [nn.Conv2d(channels, out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, d) and logits (N, K) of x (N, C, H, W) in [-1, 1]."""
        features = self.hidden(self.body(x)).relu()
        return features, self.head(features)


class ClassifierFeatures(Extractor):
    """The hidden layer of a trained `SmallConvNet`.

    Arguments:
        identity: of the data set that it was trained on.
        shape: of an image, (C, H, W).
        network: trained.
        accuracy: on the test split, in [0, 1]; None where there is none.
    """

    def __init__(self, identity: str, shape: tuple[int, ...], network: SmallConvNet, accuracy: float | None) -> None:
        weights = fingerprint(network.state_dict())
        super().__init__(f"classifier-{identity}", network.head.in_features, network.head.out_features, {})
        self.how["classifier_weights"] = weights
        if accuracy is not None:
            self.how["classifier_accuracy"] = round(accuracy, 4)
        self.shape, self.accuracy = shape, accuracy
        self.network = network
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        if images.shape[1:] != self.shape:
            made, seen = tuple(images.shape[1:]), tuple(self.shape)
            raise UserError(f"{self.name} judges images of {seen}, not of {made}: use metric.features=inception")
        features, logits = self.network(from_levels(images, 256))
        return features.float(), logits.float()


def suits_classifier(spec: Spec) -> bool:
    """Small, grey and labelled: where the classifier's features are the better choice."""
    return "label" in spec and spec["x"].is_image and spec["x"].shape[0] == 1 and max(spec["x"].shape[1:]) <= 32


def shift(x: Tensor, most: int, rng: Rng) -> Tensor:
    """x (B, C, H, W), each moved by up to `most` pixels in both directions; the edge is repeated."""
    height, width = x.shape[2:]
    dy, dx = (rng.integers(2 * most + 1, 2) - most).unbind(1)
    rows = (torch.arange(height) + dy[:, None]).clamp(0, height - 1)
    columns = (torch.arange(width) + dx[:, None]).clamp(0, width - 1)
    datum = torch.arange(len(x)).view(-1, 1, 1)
    return x.movedim(1, -1)[datum, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def _labelled(dataset: "DataSet", names: "tuple[SplitName, ...]") -> tuple[Tensor, Tensor]:
    """uint8 images and labels of the splits, one after the other."""
    levels = dataset.spec["x"].levels
    images, labels = [], []
    for name in names:
        split = dataset.split(name)
        for index in torch.arange(len(split)).split(1024):
            batch = split.batch(index)
            images.append(to_uint8(batch["x"], levels))
            labels.append(batch["label"])
    return torch.cat(images), torch.cat(labels)


def _train(network: SmallConvNet, images: Tensor, labels: Tensor, what: str, progress: Progress | None) -> None:
    """The recipe. Order and shifts are drawn by `Rng`, so that no generator's state matters."""
    n, batch = len(images), min(BATCH, len(images))
    epochs = min(max(round(IMAGES / n), 3), 60)
    steps, most = epochs * (n // batch), 1 if max(images.shape[2:]) <= 16 else 2
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    network.train()
    step = 0
    for epoch in range(epochs):
        order = Rng(0, torch.tensor([epoch])).stage("classifier.order").bits(n)[0].argsort(stable=True)
        for index in order[: n // batch * batch].split(batch):
            rng = Rng(0, torch.arange(batch), step=step).stage("classifier.shift")
            x = from_levels(shift(images[index], most, rng), 256)
            loss = F.cross_entropy(network(x)[1], labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            if progress is not None:
                progress(what, step, steps)
    network.eval()


@contextmanager
def _alone(threads: int) -> Iterator[None]:
    """So many threads, and no state of the caller (random numbers, gradients, precision) seen or changed."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with (
            torch.random.fork_rng(devices=[]),
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast("cpu", enabled=False),
        ):
            yield
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
def _accuracy(network: SmallConvNet, images: Tensor, labels: Tensor) -> float:
    parts = zip(images.split(1024), labels.split(1024), strict=True)
    right = sum(int((network(from_levels(x, 256))[1].argmax(1) == y).sum()) for x, y in parts)
    return right / len(images)


def _load(path: Path, field: Field, classes: int, dimension: int, identity: str) -> ClassifierFeatures | None:
    """The kept classifier, or None where there is none or the file is damaged."""
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)
        with torch.random.fork_rng(devices=[]):
            network = SmallConvNet(field.shape, classes, dimension)
        network.load_state_dict(kept["state"])
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError):
        return None
    return ClassifierFeatures(identity, field.shape, network, kept["accuracy"])


def classifier_features(dataset: "DataSet", progress: Progress | None = None) -> ClassifierFeatures:
    """The classifier of this data set, from the cache or else trained now, on the CPU, and kept.

    Where several processes ask, the first trains and the others wait.
    """
    spec, identity = dataset.spec, dataset.identity
    if not spec["x"].is_image:
        raise UserError(f"metric.features=classifier needs images, and {identity} holds data of {spec['x'].shape}")
    if "label" not in spec or not spec["label"].classes:
        raise UserError(
            f"metric.features=classifier needs labels, and {identity} has none: use metric.features=inception"
        )
    field, classes = spec["x"], spec["label"].classes
    dimension = 64 if max(field.shape[1:]) <= 16 else 128
    sizes = [len(dataset.split(name)) for name in ("train", "validation", "test")]
    key = hashlib.sha256(repr((VERSION, identity, field, classes, sizes)).encode()).hexdigest()[:12]
    path = cache_folder() / "classifier" / f"{file_name(identity)}-{key}.pt"

    if world()[0] == 0 and _load(path, field, classes, dimension, identity) is None:
        _make(dataset, path, classes, dimension, progress)
    barrier()
    loaded = _load(path, field, classes, dimension, identity)
    if loaded is None:
        raise UserError(f"{path} cannot be read by every process: set GENLAB_CACHE to a folder that all of them share")
    return loaded


def _make(dataset: "DataSet", path: Path, classes: int, dimension: int, progress: Progress | None) -> None:
    """Train and keep it. On images of 16 pixels a side more threads than one would only wait for each other."""
    field = dataset.spec["x"]
    images, labels = _labelled(dataset, ("train", "validation"))
    with _alone(threads=1 if max(field.shape[1:]) <= 16 else torch.get_num_threads()):
        torch.manual_seed(0)
        network = SmallConvNet(field.shape, classes, dimension)
        _train(network, images.clone(), labels.clone(), f"classifier of {dataset.identity}", progress)
    tested = len(dataset.split("test")) > 0
    accuracy = _accuracy(network, *_labelled(dataset, ("test",))) if tested else None
    with replacing(path, contested=True) as file:
        torch.save({"state": network.state_dict(), "accuracy": accuracy, "version": VERSION}, file)
