"""Gradient descent that looks one step ahead, for games whose gradients circle around the equilibrium.

    theta <- theta - 2 eta g_n + eta g_(n-1),    g_0 = g_1

On the bilinear game min max theta psi, plain descent and ascent at once spiral outwards, and this spirals inwards.

References:
    Training GANs with Optimism (Daskalakis et al., 2018), eq. 4.
"""

from collections.abc import Callable, Iterable

import torch
from torch import nn


class OptimisticDescent(torch.optim.Optimizer):
    """Optimistic gradient descent.

    Arguments:
        params: the weights.
        lr: eta.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 0.1) -> None:
        if not lr > 0:
            raise ValueError(f"lr={lr} must be above 0")
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of every weight that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    before = self.state[weight].get("before", weight.grad)
                    weight.add_(before - 2 * weight.grad, alpha=group["lr"])
                    self.state[weight]["before"] = weight.grad.clone()
        return loss
