"""Path length regularization: a step of a style changes the image as much wherever it is taken.

    E (|J_w^T y| - a)^2,    y ~ N(0, I / HW),    a <- a + decay (E |J_w^T y| - a)

J_w^T y = grad_w (G(w) . y) needs no Jacobian. An image takes a style in each of its layers: the square of the length is
the mean of theirs, as published with the code. The mean a that lengths are compared with is that of the steps before.

References:
    Analyzing and Improving the Image Quality of StyleGAN (Karras et al., 2020), section 3.2 and appendix B.
"""

import math

import torch
from torch import Tensor

from genlab.core.collectives import all_sum
from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.adversarial.noise import Noise
from genlab.models.adversarial.regularizer import Regularizer
from genlab.networks.adversarial.contract import Generator, Styled
from genlab.networks.condition import Condition


def path_lengths(generator: Styled, z: Tensor, condition: Condition | None, rng: Rng) -> Tensor:
    """|J_w^T y| of each row of noise z (B, size), (B,), through which gradients pass, in single precision."""
    with torch.enable_grad(), torch.autocast(z.device.type, enabled=False):
        w = generator.styles(z, condition)[:, None].expand(-1, generator.layers, -1)
        if not w.requires_grad:
            w = w.detach().requires_grad_()
        x = generator.synthesize(w, rng.stage("inner"))
        y = rng.stage("direction").normal_like(x) / math.sqrt(math.prod(x.shape[2:]))
        slope = torch.autograd.grad((x * y).sum(), w, create_graph=True)[0]
    # The slope of a square root is infinite at 0.
    return (slope.square().sum(2).mean(1) + 1e-12).sqrt()


class PathLength(Regularizer):
    """Equal lengths.

    Arguments:
        weight: of the regularizer.
        decay: by which the mean length moves.
        shrink: of so many rows one is looked at, which saves time and memory.
        every: steps from one time to the next.
    """

    mean: Tensor
    seen: Tensor

    def __init__(self, weight: float = 2.0, decay: float = 0.01, shrink: int = 2, every: int = 4) -> None:
        super().__init__()
        for name, number in {"shrink": shrink, "every": every}.items():
            if number < 1:
                raise ValueError(f"{name}={number} must be at least 1")
        if not 0 < decay <= 1:
            raise ValueError(f"decay={decay} must be above 0 and at most 1")
        if not 0 < weight < math.inf:
            raise ValueError(f"weight={weight} must be a number above 0; model.regularizer=null is none")
        self.weight, self.decay, self.shrink, self.every = weight, decay, shrink, every
        self.register_buffer("mean", torch.zeros(()))
        # The sum of the lengths since the mean last moved, and their number.
        self.register_buffer("seen", torch.zeros(2), persistent=False)
        self.waiting = False

    def forward(self, generator: Generator, noise: Noise, condition: Condition | None, rng: Rng) -> Tensor:
        if not isinstance(generator, Styled):
            raise UserError(
                f"regularizer=path_length: {type(generator).__name__} has no styles, whose steps it measures; it is "
                "for generator=stylegan2"
            )
        rows = slice(None, None, self.shrink)
        if condition is not None and condition.vector is not None:
            condition = Condition(vector=condition.vector[rows])
        rng = rng.rows(rows)
        lengths = path_lengths(generator, noise.sample(rng.stage("z")), condition, rng)
        if self.training:
            self.seen += torch.stack([lengths.detach().sum(), lengths.new_tensor(len(lengths))])
            self.waiting = True
        return self.weight * (lengths - self.mean).square().mean()

    @torch.no_grad()
    def after_step(self) -> None:
        if self.waiting:
            total, count = all_sum(self.seen)
            self.mean.lerp_(total / count, self.decay)
            self.seen.zero_()
            self.waiting = False

    def shown(self) -> dict[str, Tensor]:
        return {"path_length": self.mean.clone()}
