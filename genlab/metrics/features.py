"""From images to features, the coordinates that Frechet and kernel distances are measured in.

    features = network(image) in R^d,    p(y | image) = softmax(logits)

An `Extractor` is such a network; a `FeatureSet` is what it makes of many images, with where they came from.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from genlab.core.collectives import all_cat
from genlab.core.errors import UserError
from genlab.metrics.moments import Moments, Statistics
from genlab.metrics.record import How

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, how much of it is, out of how much)."""


class Extractor(nn.Module):
    """A frozen network that sees images as a viewer would, rounded to 0 .. 255.

    Arguments:
        name: of the features, as numbers carry it.
        dimension: d.
        classes: K, the number of logits; 0 for none.
        how: what a reader of the numbers should know of the network.
    """

    def __init__(self, name: str, dimension: int, classes: int, how: How) -> None:
        super().__init__()
        self.name, self.dimension, self.classes, self.how = name, dimension, classes, how

    @property
    def has_logits(self) -> bool:
        return self.classes > 0

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features (N, d) and logits (N, K), both float32, of uint8 images (N, C, H, W)."""


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """Twelve hexadecimal digits that depend on every bit of the weights and on their names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


@dataclass(frozen=True)
class FeatureSet:
    """The features of a set of images.

    Arguments:
        extractor: the name of the network.
        statistics: mean and covariance of all of the set.
        features: (n, d) float32 on the CPU; None where only the statistics are known.
        logits: (n, K) float32 on the CPU, where the network has them.
        how: what the images are and how they were made.
    """

    extractor: str
    statistics: Statistics
    features: Tensor | None = None
    logits: Tensor | None = None
    how: How = field(default_factory=dict)

    @property
    def n(self) -> int | None:
        """How many images; None where a file of statistics does not tell."""
        return self.statistics.count

    def first(self, n: int | None) -> "FeatureSet":
        """The first n of the set; all of it for None."""
        if n is None or n == self.n:
            return self
        if self.features is None or n > len(self.features):
            there = self.n if self.features is not None else "only their statistics"
            raise UserError(f"metric.n={n} asks for more samples than there are: {there}")
        moments = Moments(self.statistics.dimension)
        moments.add(self.features[:n])
        logits = None if self.logits is None else self.logits[:n]
        return replace(self, statistics=moments.statistics(), features=self.features[:n], logits=logits)


def provenance(real: FeatureSet, fake: FeatureSet) -> How:
    """What a number that compares the two sets should say of itself."""
    if real.extractor != fake.extractor:
        raise ValueError(f"features of different networks: {real.extractor} and {fake.extractor}")
    how: How = {"features": fake.extractor, "n": fake.n or 0, **real.how, **fake.how}
    if real.n is not None:
        how["reference_n"] = real.n
    return how


@torch.no_grad()
def extract(
    extractor: Extractor,
    batches: Iterable[Tensor],
    how: How | None = None,
    keep: bool = True,
    progress: Callable[[int], None] | None = None,
) -> FeatureSet:
    """The features of all images of all processes, in the order of the processes and the same on each.

    Mixed precision, where the caller has it on, does not reach the network.

    Arguments:
        batches: of this process, uint8 (B, C, H, W) each; it is read once and nothing of it is kept.
        how: what the images are.
        keep: whether features and logits are kept, or their statistics only.
        progress: called with the number of images of this process so far.
    """
    extractor.eval()
    device = next(extractor.parameters()).device
    moments = Moments(extractor.dimension, device if device.type == "cuda" else "cpu")
    kept: list[Tensor] = [torch.empty(0, extractor.dimension)]
    predicted: list[Tensor] = [torch.empty(0, extractor.classes)]
    for images in batches:
        with torch.autocast(device.type, enabled=False):
            features, logits = extractor(images.to(device, non_blocking=True))
        moments.add(features)
        if keep:
            kept.append(features.cpu())
            if logits is not None:
                predicted.append(logits.cpu())
        if progress is not None:
            progress(moments.count)

    def gather(parts: list[Tensor]) -> Tensor:
        return all_cat(torch.cat(parts).to(device)).cpu()

    return FeatureSet(
        extractor=extractor.name,
        statistics=moments.all_merge().statistics(),
        features=gather(kept) if keep else None,
        logits=gather(predicted) if keep and extractor.has_logits else None,
        how={**extractor.how, **(how or {})},
    )
