"""The codes of data in a model that only decodes, looked for.

    z* = argmin_z d(decode(z), x),    z_0 ~ p(z)

by Adam, whose steps shrink to nothing as half a cosine. d is the mean square of a value's error, or how different two
images look to a network. The distance has several valleys, and of several beginnings the best end is kept.

References:
    Generative Visual Manipulation on the Natural Image Manifold (Zhu et al., 2016), section 4.1.
    Precise Recovery of Latent Vectors from Generative Adversarial Networks (Lipton & Tripathi, 2017).
    Analyzing and Improving the Image Quality of StyleGAN (Karras et al., 2020), appendix D.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch
from genlab.core.units import psnr
from genlab.models.autoencoder.perceptual import Perceptual, distance
from genlab.models.contract import Model, Watch
from genlab.tasks.contract import Quantity, SplitName, Task, check_index, given, sampling


@runtime_checkable
class Drawn(Protocol):
    """A model whose codes are drawn from a prior."""

    def prior(self, rng: Rng) -> Batch: ...


class Project(Task):
    """Data and what the model makes of the codes that were found for them.

    Arguments:
        steps: of Adam.
        lr: its first step size, in the units of codes.
        restarts: beginnings, of which the best end is kept.
        distance: "pixel", or "perceptual".
        perceptual: how different two images look, where that is the distance.
        split: of the data set.
        index: which data, gone through in turn; None is 0, 1, 2 and on.
        label: see `Task`.
    """

    needs = frozenset({"decode"})
    sampled = False
    layout = (("data", "x"),)

    def __init__(
        self,
        steps: int = 500,
        lr: float = 0.1,
        restarts: int = 1,
        distance: Literal["pixel", "perceptual"] = "pixel",
        perceptual: Perceptual | None = None,
        split: SplitName = "test",
        index: int | list[int] | None = None,
        label: int | list[int] | None = None,
    ) -> None:
        if steps < 1:
            raise ValueError(f"steps={steps} must be at least 1")
        if not 0 < lr < math.inf:
            raise ValueError(f"lr={lr} must be a number above 0")
        if restarts < 1:
            raise ValueError(f"restarts={restarts} must be at least 1")
        if distance == "perceptual" and perceptual is None:
            raise ValueError("perceptual must be given where distance=perceptual")
        self.steps, self.lr, self.restarts, self.width = steps, lr, restarts, restarts
        self.perceptual = perceptual if distance == "perceptual" else None
        self.split, self.index, self.label = split, check_index(index), label
        self.numbers = {"mse": Quantity("the mean square of a value's error, in the data's own units")}

    def check(self, model: Model, sampler: Any) -> None:
        super().check(model, sampler)
        name, field = type(model).__name__, model.spec["x"]
        if not isinstance(model, Drawn):
            raise UserError(
                f"task=project: {name} has no prior of codes to begin from; where it encodes, choose task=reconstruct"
            )
        if field.levels is not None:
            self.numbers = {
                "mse": Quantity("the mean square of a value's error, in [-1, 1]"),
                "psnr": Quantity("the ratio of the range to the error", "dB"),
            }
        if self.perceptual is not None:
            if not field.is_image:
                raise UserError("task.distance=perceptual: is for images, and the data are none; choose pixel")
            self.numbers = {**self.numbers, "perceptual": Quantity("how different both look to a network")}
        device = next((weight.device for weight in model.parameters()), torch.device("cpu"))
        index = torch.zeros(1, dtype=torch.long, device=device)
        z = model.prior(sampling(0, index))
        vector = z.keys() == {"z"} and z["z"].ndim == 2 and z["z"].is_floating_point()
        with torch.enable_grad():
            told = self.conditions(model, sampler, index)
            made = model.decode({**z, "z": z["z"].requires_grad_(), **told})["x"] if vector else None
        if made is None or not made.requires_grad:
            raise UserError(f"task=project: {name} decodes without gradients, or codes that are no vectors")
        if self.perceptual is not None:
            self.perceptual.load(device)(made.detach())

    def __call__(
        self,
        model: Model,
        index: Tensor,
        seed: int,
        sampler: Any,
        watch: Watch | None = None,
        batch: Batch | None = None,
    ) -> Batch:
        batch, rng = given(self, batch), sampling(seed, index)
        assert isinstance(model, Drawn)
        conditions, x = self.conditions(model, sampler, index, batch), batch["x"]
        # Of each datum as many rows as there are beginnings, side by side.
        begun = [model.prior(rng.stage(f"beginning {number}"))["z"] for number in range(self.restarts)]
        told = {key: value.repeat_interleave(self.restarts, 0) for key, value in conditions.items()}
        away = self.measure(x.repeat_interleave(self.restarts, 0))

        def decoded(z: Tensor) -> Tensor:
            return model.decode({"z": z, **told})["x"]

        z = self.found(torch.stack(begun, dim=1).flatten(0, 1), lambda z: away(decoded(z)))
        with torch.no_grad():
            made = decoded(z)
            best = away(made).view(-1, self.restarts).argmin(1) + self.restarts * torch.arange(len(x), device=x.device)
            made, z = made[best], z[best]
            mse = (made.double() - x.double()).square().flatten(1).mean(1)
            shown = {"x": made, "data": x, "z": z, **conditions, "mse": mse}
            if "psnr" in self.numbers:
                shown["psnr"] = psnr(mse)
            if self.perceptual is not None:
                shown["perceptual"] = self.measure(x)(made)
        return shown

    def measure(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """The distance (B,) of what is made (B, *) from x."""
        if self.perceptual is None:
            return lambda made: (made - x).square().flatten(1).mean(1)
        network = self.perceptual.load(x.device)
        with torch.no_grad():
            seen = network(x)
        return lambda made: distance(seen, network(made))

    def found(self, z: Tensor, cost: Callable[[Tensor], Tensor]) -> Tensor:
        """Where the way down from z (B, size) ends; each row goes its own way."""
        with torch.enable_grad():
            z = z.clone().requires_grad_()
            optimizer = torch.optim.Adam([z], lr=self.lr)
            for step in range(self.steps):
                optimizer.param_groups[0]["lr"] = self.lr * (1 + math.cos(math.pi * step / self.steps)) / 2
                (z.grad,) = torch.autograd.grad(cost(z).sum(), z)
                optimizer.step()
        return z.detach()
