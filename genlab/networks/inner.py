"""What a network computes on its way, caught as it goes by.

A network may say by its attribute `inner` which of its layers is worth looking at.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from genlab.core.errors import UserError


def caught(network: nn.Module, layer: str | None, run: Callable[[], Any]) -> Tensor:
    """The output of a layer while `run` calls the network, averaged over its places: (B, D).

    Arguments:
        layer: by its name, as "middle.1"; None is the one that the network names.
    """
    name = layer or getattr(network, "inner", None)
    if name is None:
        raise UserError(f"layer: {type(network).__name__} has none that is looked at unless it is told; name one")
    try:
        module = network.get_submodule(name)
    except AttributeError as error:
        there = ", ".join(dict(network.named_children()))
        raise UserError(f"layer={name}: {type(network).__name__} has no such layer; it has {there}") from error
    seen: list[Any] = []
    handle = module.register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        run()
    finally:
        handle.remove()
    if len(seen) != 1 or not isinstance(seen[0], Tensor) or seen[0].ndim < 2:
        raise UserError(f"layer={name}: it gives no map of features; name a layer within it, as {name}.0")
    h = seen[0].float()
    # Maps have their channels first, sequences last.
    return h.flatten(2).mean(2) if h.ndim > 3 else h.mean(1) if h.ndim == 3 else torch.clone(h)
