"""A critic that tells data from what the decoder makes of their codes, and a decoder that it drives to look like data.

    hinge             critic  (relu(1 - C(x)) + relu(1 + C(x_hat))) / 2      model  -C(x_hat)
    nonsaturating     critic  (log(1 + e^-C(x)) + log(1 + e^C(x_hat))) / 2   model  log(1 + e^-C(x_hat))

in means over all places where C judges. What the model minimises becomes

    loss + weight lambda G,    lambda = |dL/dw| / (|dG/dw| + 1e-4) in [0, 10^4]

with L the loss without it, G the model's line above, and w the last layer of the decoder: at weight 1 critic and
reconstruction pull the last layer equally hard, whatever units the two are in.

References:
    Taming Transformers for High-Resolution Image Synthesis (Esser, Rombach & Ommer, 2021), eq. 6 and 7.
    High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), appendix G.
    Geometric GAN (Lim & Ye, 2017), the hinge.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from genlab.core.collectives import all_sum, world
from genlab.models.adversarial.objective import Hinge, NonSaturating, Objective
from genlab.networks.adversarial.contract import Judged

LARGEST = 1e4
SMALL = 1e-4

GAMES: dict[str, type[Objective]] = {"hinge": Hinge, "nonsaturating": NonSaturating}
"""What both players minimise, by the name of the loss."""


def last_weight(network: nn.Module) -> nn.Parameter:
    """The weight of the layer that a network registers last; biases and gains are none."""
    return [weight for weight in network.parameters() if weight.ndim > 1][-1]


def balance(loss: Tensor, judged: Tensor, weight: nn.Parameter) -> Tensor:
    """lambda. The gradients are means over all processes, so that each finds what one would with all of the data."""
    gradients = [torch.autograd.grad(value, weight, retain_graph=True)[0].float() for value in (loss, judged)]
    own, critics = (all_sum(torch.stack(gradients)) / world()[1]).flatten(1).norm(dim=1)
    return (own / (critics + SMALL)).clamp(0, LARGEST)


class Adversary(nn.Module):
    """The critic and its part in what both players minimise.

    Arguments:
        critic: a network from images (B, C, *) to judgements (B, *), high for data.
        weight: of the critic, relative to the rest where `adaptive`, else in nats.
        start: the step from which on it counts; until then the critic does not move.
        loss: "hinge" or "nonsaturating".
        adaptive: multiply by lambda.
    """

    def __init__(
        self,
        critic: nn.Module,
        weight: float = 0.5,
        start: int = 0,
        loss: Literal["hinge", "nonsaturating"] = "hinge",
        adaptive: bool = True,
    ) -> None:
        super().__init__()
        if not 0 < weight < math.inf:
            raise ValueError(f"weight must be above 0, not {weight}; without a critic the model is a plain autoencoder")
        if start < 0:
            raise ValueError(f"start must be at least 0, not {start}")
        self.critic, self.weight, self.start, self.adaptive = critic, weight, start, adaptive
        self.game = GAMES[loss]()

    def judgement(self, x: Tensor) -> Judged:
        """(B, places) in single precision."""
        score = self.critic(x).float().flatten(1)
        return Judged(score, score)

    def critic_loss(self, x: Tensor, made: Tensor) -> dict[str, Tensor]:
        """What the critic minimises as "loss", and its mean judgements."""
        real, fake = self.judgement(x), self.judgement(made)
        loss = self.game.critic(real, fake).mean() / 2
        return {"loss": loss, "real": real.score.mean(), "made": fake.score.mean()}

    def model_loss(self, loss: Tensor, made: Tensor, weight: nn.Parameter) -> dict[str, Tensor]:
        """The model's "loss" with the critic in it, and what came in.

        Its value is loss + weight G, its gradient that of loss + weight lambda G: a mean over data, as of a loss.

        Arguments:
            loss: without the critic, a scalar.
            made: what the critic sees, with gradients in the model.
            weight: of the last layer.
        """
        judged = self.game.generator(self.judgement(made)).mean()
        if not self.adaptive:
            return {"loss": loss + self.weight * judged, "critic": judged}
        factor = balance(loss, judged, weight)
        scaled = judged.detach() + factor * (judged - judged.detach())
        return {"loss": loss + self.weight * scaled, "critic": judged, "lambda": factor}
