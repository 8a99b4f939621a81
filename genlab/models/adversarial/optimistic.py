"""Adam that looks one step ahead, for games in which following the gradient circles around the equilibrium.

    theta <- theta - 2 eta u_n + eta u_(n-1),    u = m_hat / (sqrt(v_hat) + epsilon)

u are Adam's steps. On the bilinear game min max theta psi gradient descent and ascent spiral outwards, and this spirals
inwards.

References:
    Training GANs with Optimism (Daskalakis et al., 2018), algorithm 1.
    Adam: A Method for Stochastic Optimization (Kingma & Ba, 2015).
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class OptimisticAdam(torch.optim.Optimizer):
    """Optimistic Adam.

    Arguments:
        params: the weights.
        lr: eta.
        betas: of the two moments; (0, 0.9) or (0.5, 0.9) suit games.
        eps: epsilon.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.5, 0.9),
        eps: float = 1e-8,
    ) -> None:
        if not lr > 0:
            raise ValueError(f"lr={lr} must be above 0")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas={list(betas)} must be two numbers of at least 0 and below 1")
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps})

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
                    self._move(weight, weight.grad, self.state[weight], group)
        return loss

    def _move(self, weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            for name in ("mean", "square", "before"):
                state[name] = torch.zeros_like(weight)
        state["step"] += 1
        first, second = group["betas"]
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        n = float(state["step"])
        scale = (state["square"] / (1 - second**n)).sqrt_().add_(group["eps"])
        now = state["mean"] / (1 - first**n) / scale
        weight.add_(now, alpha=-2 * group["lr"]).add_(state["before"], alpha=group["lr"])
        state["before"] = now
