"""A classifier that knows noise: what class the data were of, told from x_t at any time.

    log p(y | x_t) = log softmax(F(c_in x_t, c_noise))_y,    c_in = 1 / sqrt(alpha_t^2 + sigma_t^2)
    L              = E_{x_0, y, t, eps}  -log p(y | alpha_t x_0 + sigma_t eps)

References:
    Diffusion Models Beat GANs on Image Synthesis (Dhariwal & Nichol, 2021), section 4.
    Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), section 5.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Spec
from genlab.models.contract import Model
from genlab.models.diffusion.process import diffuse
from genlab.models.diffusion.schedule import Schedule, match
from genlab.models.diffusion.weighting import Times


class Classifier(Model):
    """A classifier of diffused data, which guides a diffusion model of the same schedule. It draws nothing.

    Arguments:
        spec: of the data; "label" is told from "x".
        network: (x (B, *), level (B,)) -> (B, K), a number for each class.
        schedule: signal and noise over time, that of the model to be guided.
        times: draws the times of a training batch.

    Raises UserError where the data have no labels, the schedule learns, or the times are not of this schedule.
    """

    can = frozenset({"classify"})
    reads = frozenset({"x", "label"})
    writes = frozenset[str]()

    def __init__(self, spec: Spec, network: nn.Module, schedule: Schedule, times: Times) -> None:
        super().__init__(spec)
        self.network, self.schedule, self.times = network, schedule, times
        times.check(schedule)
        if any(weight.requires_grad for weight in schedule.parameters()):
            raise UserError("schedule: a classifier is given its noise; choose one that does not learn, as linear")
        self.classes = (spec["label"].classes if "label" in spec else None) or 0
        if self.classes < 2:
            raise UserError("model=classifier: the data have no classes to tell apart; choose labelled data")

    def log_prob(self, x_t: Tensor, t: Tensor) -> Tensor:
        """log p(y | x_t) of every class y, (B, K), for x_t (B, *) at times t () or (B,)."""
        t = t.expand(len(x_t))
        alpha, sigma = self.schedule(t)
        c_in = match((alpha**2 + sigma**2).rsqrt(), x_t)
        scores = self.network(c_in * x_t, self.schedule.level(t).to(x_t)).to(x_t)
        if scores.shape != (len(x_t), self.classes):
            made = "x".join(str(n) for n in scores.shape[1:])
            raise UserError(
                f"network: it makes {made} numbers of a datum, and a classifier of {self.classes} classes needs one "
                "for each; choose network=encoder, or network=mlp_classes for vectors"
            )
        return scores.log_softmax(1)

    def classify(self, batch: Batch) -> Tensor:
        """By the data as they are, at time 0."""
        return self.log_prob(batch["x"], torch.zeros((), dtype=torch.float64, device=batch["x"].device))

    def prepare(self, batches: Iterable[Batch]) -> None:
        """See that the network is one that classifies, before anything is trained."""
        for batch in batches:
            with torch.no_grad():
                self.log_prob(batch["x"][:1], torch.ones((), dtype=torch.float64))
            return

    def loss(self, batch: Batch, rng: Rng, player: str, step: int) -> dict[str, Tensor]:
        x_0, label = batch["x"], batch["label"]
        t = self.times(self.schedule, rng)
        log_p = self.log_prob(diffuse(self.schedule, x_0, t, rng.stage("noise").normal_like(x_0)), t)
        surprise = -log_p.gather(1, label[:, None])[:, 0]
        weight = self.times.weight(self.schedule, t).to(surprise)
        self.times.observe(self.schedule, t, surprise.detach())
        right = (log_p.argmax(1) == label).to(surprise)
        return {"loss": (weight * surprise).mean(), "accuracy": right.mean()}
