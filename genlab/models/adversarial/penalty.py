"""What holds a critic back, in terms of its slope or of its weights.

    gradient penalty    lambda E (|grad C(u x + (1 - u) x')| - 1)^2,    u uniform in (0, 1) for each pair
    R1                  gamma / 2 E |grad C(x)|^2, at data alone
    clipping            w <- min(max(w, -limit), limit) after each of the critic's steps

Slopes are of the network itself and in single precision: a compiled one has no second derivatives, and half of the
digits are lost in their squares.

References:
    Wasserstein GAN (Arjovsky, Chintala & Bottou, 2017), algorithm 1.
    Improved Training of Wasserstein GANs (Gulrajani et al., 2017), eq. 3.
    Which Training Methods for GANs do actually Converge? (Mescheder, Geiger & Nowozin, 2018), eq. 9.
    Analyzing and Improving the Image Quality of StyleGAN (Karras et al., 2020), section 3.1, lazy regularization.
"""

import math

import torch
from torch import Tensor, nn

from genlab.core.rng import Rng
from genlab.networks.adversarial.contract import Critic
from genlab.networks.condition import Condition


def squared_slopes(critic: Critic, x: Tensor, condition: Condition | None) -> Tensor:
    """|grad_x C(x)|^2 of each datum, (B,), through which gradients pass; where C has several scores, of their sum."""
    with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        x = x.detach().to(torch.promote_types(x.dtype, torch.float32)).requires_grad_()
        score = critic.forward(x, condition).score
        slope = torch.autograd.grad(score.sum(), x, create_graph=True)[0]
    return slope.flatten(1).square().sum(1)


class Penalty:
    """What the critic's loss is given besides; nothing, of itself.

    Attributes:
        every: it counts in every so many steps, and so many times as much.
    """

    every: int = 1

    def loss(self, critic: Critic, real: Tensor, made: Tensor, condition: Condition | None, rng: Rng) -> Tensor | None:
        """Of each pair, (B,); None where it is none of the loss.

        Arguments:
            real, made: as the critic sees them, (B, *).
        """
        return None

    def after_step(self, critic: nn.Module) -> None:
        """What is done to the critic after each of its steps."""


def checked_weight(weight: float) -> float:
    """`weight` itself; an error where it is none."""
    if not 0 < weight < math.inf:
        raise ValueError(f"weight={weight} must be a number above 0; model.penalty=null is none")
    return weight


class GradientPenalty(Penalty):
    """Slopes of one on the lines between data and what is made.

    Arguments:
        weight: lambda.
        one_sided: slopes below one cost nothing.
    """

    def __init__(self, weight: float = 10.0, one_sided: bool = False) -> None:
        self.weight, self.one_sided = checked_weight(weight), one_sided

    def loss(self, critic: Critic, real: Tensor, made: Tensor, condition: Condition | None, rng: Rng) -> Tensor:
        u = rng.uniform(dtype=real.dtype).view(-1, *[1] * (real.ndim - 1))
        slope = squared_slopes(critic, u * real + (1 - u) * made, condition)
        # The slope of a square root is infinite at 0.
        excess = (slope + 1e-12).sqrt() - 1
        return self.weight * (excess.relu() if self.one_sided else excess).square()


class R1(Penalty):
    """No slope at data.

    Arguments:
        weight: gamma.
        every: steps from one time to the next.
    """

    def __init__(self, weight: float = 10.0, every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"every={every} must be at least 1")
        self.weight, self.every = checked_weight(weight), every

    def loss(self, critic: Critic, real: Tensor, made: Tensor, condition: Condition | None, rng: Rng) -> Tensor:
        return self.weight / 2 * squared_slopes(critic, real, condition)


class Clipping(Penalty):
    """Weights within a box.

    Arguments:
        limit: of each weight.
    """

    def __init__(self, limit: float = 0.01) -> None:
        if not 0 < limit < math.inf:
            raise ValueError(f"limit={limit} must be a number above 0; model.penalty=null does not clip")
        self.limit = limit

    def loss(self, critic: Critic, real: Tensor, made: Tensor, condition: Condition | None, rng: Rng) -> None:
        return None

    @torch.no_grad()
    def after_step(self, critic: nn.Module) -> None:
        for weight in critic.parameters():
            weight.clamp_(-self.limit, self.limit)
