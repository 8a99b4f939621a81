"""Which of the modes of data samples reach, whether they lie in one, and how evenly they spread over them.

    q_k = the share of samples whose mode is k,    reverse KL = KL(q || 1/K) = log K + sum_k q_k log q_k

Where data are Gaussians, a sample's mode is the nearest centre; it is good within so many standard deviations of it,
and a mode is covered that has good samples. Of images a classifier names the mode, of each channel a digit of it where
data are stacked; a sample is good where it is sure of every channel, and a mode is covered that any samples are taken
for, as is published. The divergence of n perfect samples is not 0 but about (K - 1) / 2n.

References:
    Unrolled Generative Adversarial Networks (Metz et al., 2017), section 3.3.1.
    VEEGAN: Reducing Mode Collapse in GANs using Implicit Variational Learning (Srivastava et al., 2017), section 5.
    PacGAN: The power of two samples in generative adversarial networks (Lin et al., 2018), section 4.1.
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from genlab.core.collectives import all_sum
from genlab.core.errors import UserError
from genlab.core.units import to_uint8
from genlab.metrics.contract import Drawn, check_count
from genlab.metrics.features import Extractor
from genlab.metrics.record import How, Number, Ranking

EACH, FEWEST = 26, 2500
"""Samples a mode, and at least, where nobody says how many: 26,000 for 1,000 modes, and 2,500, as is published."""


class Finder(Protocol):
    """How the mode of a sample is found.

    Attributes:
        count: K.
        strict: only good samples cover a mode.
        how: it is done.
    """

    count: int
    strict: bool
    how: How

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The mode (B,) of each of x (B, *), and whether it is a good sample (B,)."""


class Nearest:
    """The nearest of Gaussians' centres.

    Arguments:
        centres: (K, D).
        deviation: of each Gaussian.
        within: so many deviations of the centre.
    """

    strict = True

    def __init__(self, centres: Tensor, deviation: float, within: float) -> None:
        self.centres, self.radius, self.count = centres, within * deviation, len(centres)
        self.how: How = {"features": "points", "deviations": within}

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        centres = self.centres.to(x.device, torch.float64)
        apart = (x.double()[:, None] - centres).square().sum(2).sqrt()
        distance, mode = apart.min(1)
        return mode, distance <= self.radius


class Classified:
    """What a classifier takes each channel for, together the digits of a number.

    Arguments:
        classifier: of a channel.
        channels: of an image.
        levels: of its pixels.
        sure: the least probability of a class that the classifier is sure of.
    """

    strict = False

    def __init__(self, classifier: Extractor, channels: int, levels: int | None, sure: float) -> None:
        self.classifier, self.channels, self.levels, self.sure = classifier, channels, levels, sure
        self.count = classifier.classes**channels
        self.how: How = {"features": classifier.name, "sure": sure, **classifier.how}

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            logits = self.classifier(to_uint8(x, self.levels).flatten(0, 1)[:, None])[1]
        assert logits is not None
        most, digit = logits.softmax(1).view(len(x), self.channels, -1).max(2)
        places = self.classifier.classes ** torch.arange(self.channels - 1, -1, -1, device=x.device)
        return (digit * places).sum(1), (most >= self.sure).all(1)


class Modes:
    """Modes covered, the share of good samples, and the reverse divergence.

    Arguments:
        n: how many samples; None is 26 for each mode, and at least 2,500.
        deviations: from the centre of its Gaussian a good sample lies at most.
        sure: the least probability that the classifier gives to each digit of a good sample.
        least: how many samples cover a mode.
    """

    needs = frozenset({"drawn"})
    # The one number of the three in which a collapse shows and that goes on improving where all modes are covered.
    ranks = Ranking("modes/reverse-kl", rises=False)

    def __init__(self, n: int | None = None, deviations: float = 3.0, sure: float = 0.9, least: int = 1) -> None:
        if not deviations > 0:
            raise ValueError(f"deviations={deviations} must be above 0")
        if not 0 <= sure <= 1:
            raise ValueError(f"sure={sure} must be in [0, 1]")
        if least < 1:
            raise ValueError(f"least={least} must be at least 1")
        self.n, self.deviations, self.sure, self.least = check_count(n), deviations, sure, least

    def check(self, drawn: Drawn) -> None:
        self.finder(drawn)

    def finder(self, drawn: Drawn) -> Finder:
        """How the modes of these samples are found; an error where they are not known."""
        if drawn.gaussians is not None:
            return Nearest(*drawn.gaussians, self.deviations)
        classifier = drawn.classifier()
        if classifier is None:
            raise UserError(
                f"metric=modes: the modes of {drawn.data} are not known; it is for data=toy2d with "
                "data.name=8gaussians or 25gaussians, for data=stacked_mnist, and for small grey images with labels"
            )
        field = drawn.spec["x"]
        return Classified(classifier, field.shape[0], field.levels, self.sure)

    @torch.no_grad()
    def evaluate(self, drawn: Drawn) -> list[Number]:
        finder = self.finder(drawn)
        count = finder.count
        n = self.n or max(EACH * count, FEWEST)
        # Of each mode, all samples and the good ones, counted where all processes can add them.
        found = torch.zeros(2, count, dtype=torch.long, device=drawn.device)
        for x in drawn.parts(n):
            mode, good = finder(x)
            found += torch.stack([mode.bincount(minlength=count), mode[good].bincount(minlength=count)])
        every, good = all_sum(found).cpu()
        covered = int(((good if finder.strict else every) >= self.least).sum())
        divergence = math.log(count) - float(torch.special.entr(every.double() / n).sum())
        how: How = {"n": n, "modes": count, "least": self.least, **finder.how, **drawn.how}
        of_perfect = round((count - 1) / (2 * n), 4)
        return [
            Number("modes/covered", covered, None, f"of {count}", how),
            Number("modes/good", float(good.sum()) / n, None, "", how),
            Number("modes/reverse-kl", divergence, None, "nats", {**how, "of_perfect": of_perfect}),
        ]
