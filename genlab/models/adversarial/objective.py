"""What a critic and a generator minimise, of the critic's scores s = C(x) of data and s' = C(G(z)) of what is made.

                    critic                                                generator
    minimax         (1 - e) zeta(-s) + e zeta(s) + zeta(s')              -zeta(s')
    nonsaturating   the same                                              zeta(-s')
    least squares   (s - b)^2 / 2 + (s' - a)^2 / 2                        (s' - c)^2 / 2
    hinge           relu(1 - s) + relu(1 + s')                           -s'
    Wasserstein     s' - s                                               -s'
    features        as nonsaturating                                      |E f - E f'|^2

zeta(s) = log(1 + e^s), so that -zeta(-s) is the logarithm of the probability D = 1 / (1 + e^-s) that a datum is real,
and -zeta(s') that of 1 - D; e is the smoothing of the label of data alone. f are the critic's features. At its optimum
D = p / (p + q) the critic's minimax loss is 2 log 2 - 2 JS(p, q).

References:
    Generative Adversarial Nets (Goodfellow et al., 2014), eq. 1 and section 3.
    Improved Techniques for Training GANs (Salimans et al., 2016), sections 3.1 and 3.4.
    Least Squares Generative Adversarial Networks (Mao et al., 2017), eq. 2 and 9.
    Wasserstein GAN (Arjovsky, Chintala & Bottou, 2017), eq. 2 and 3.
    Geometric GAN (Lim & Ye, 2017), eq. 11 and 12.
"""

from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor

from genlab.core.collectives import all_cat_with_gradients
from genlab.networks.adversarial.contract import Judged


class Objective(ABC):
    """The two sides of a game.

    Attributes:
        compares: the generator's side needs what the critic says of data.
        whole_batch: a side is of the batch as a whole.
        threshold: the score from which on the critic takes a datum to be real; None where scores only compare.
    """

    compares = False
    whole_batch = False
    threshold: float | None = 0.0

    @abstractmethod
    def critic(self, real: Judged, made: Judged) -> Tensor:
        """What the critic minimises, (B,)."""

    @abstractmethod
    def generator(self, made: Judged, real: Judged | None = None) -> Tensor:
        """What the generator minimises, (B,); `real` where it compares."""


def checked_smoothing(smooth: float) -> float:
    """`smooth` itself; an error where it is no part of a label."""
    if not 0 <= smooth < 0.5:
        raise ValueError(f"smooth={smooth} must be at least 0 and below 0.5")
    return smooth


class Minimax(Objective):
    """The game as it was stated, whose generator learns nothing from a critic that is sure.

    Arguments:
        smooth: e, by which the label of data is less than 1.
    """

    def __init__(self, smooth: float = 0.0) -> None:
        self.smooth = checked_smoothing(smooth)

    def critic(self, real: Judged, made: Judged) -> Tensor:
        taken = (1 - self.smooth) * F.softplus(-real.score)
        if self.smooth:
            taken = taken + self.smooth * F.softplus(real.score)
        return taken + F.softplus(made.score)

    def generator(self, made: Judged, real: Judged | None = None) -> Tensor:
        return -F.softplus(made.score)


class NonSaturating(Minimax):
    """The generator raises the probability that it is taken for data, instead of lowering that it is not."""

    def generator(self, made: Judged, real: Judged | None = None) -> Tensor:
        return F.softplus(-made.score)


class FeatureMatching(Minimax):
    """The generator's features are to have the mean of the data's, in whatever the critic found to tell them apart."""

    compares = True
    whole_batch = True

    def generator(self, made: Judged, real: Judged | None = None) -> Tensor:
        assert real is not None
        apart = (made.features - real.features.detach()).float().mean(0)
        return all_cat_with_gradients(apart[None]).mean(0).square().sum().expand(len(made.score))


class LeastSquares(Objective):
    """Scores are pulled to labels.

    Arguments:
        a, b: of what is made, and of data, by the critic.
        c: of what is made, by the generator.
    """

    def __init__(self, a: float = 0.0, b: float = 1.0, c: float = 1.0) -> None:
        if b <= a:
            raise ValueError(f"b={b} must be above a={a}")
        self.a, self.b, self.c = a, b, c
        self.threshold = (a + b) / 2

    def critic(self, real: Judged, made: Judged) -> Tensor:
        return ((real.score - self.b).square() + (made.score - self.a).square()) / 2

    def generator(self, made: Judged, real: Judged | None = None) -> Tensor:
        return (made.score - self.c).square() / 2


class Hinge(Objective):
    """Scores beyond a margin of one count no more."""

    def critic(self, real: Judged, made: Judged) -> Tensor:
        return F.relu(1 - real.score) + F.relu(1 + made.score)

    def generator(self, made: Judged, real: Judged | None = None) -> Tensor:
        return -made.score


class Wasserstein(Objective):
    """The distance between two distributions, as far as the critic, held to a slope of one, can show it.

    Minus the critic's loss is the estimate of the distance.
    """

    threshold = None

    def critic(self, real: Judged, made: Judged) -> Tensor:
        return made.score - real.score

    def generator(self, made: Judged, real: Judged | None = None) -> Tensor:
        return -made.score
