"""Weights, their moving average, gradients and optimizer state divided over the processes (FSDP2).

Each layer of the network is put together when it is used and taken apart again, so that a process holds 1 / W of
everything and one layer in full. A checkpoint is what it always is, one file of whole tensors under the same names:
tensors are put together one at a time, and the first process keeps them.

References:
    PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel (Zhao et al., 2023).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from genlab.core.collectives import world

# What a model is asked for; each puts together the weights that belong to no layer.
ENTRIES = ("loss", "sample", "nll", "encode", "decode", "features")


LISTS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)


def layers(module: nn.Module) -> Iterator[nn.Module]:
    """The members of lists of layers, which are used by being called; of lists within lists, the inner ones.

    A layer may not change a list that it is given: it gets a copy.
    """
    for child in module.children():
        if not isinstance(child, LISTS):
            yield from layers(child)
            continue
        for member in child.children():
            if any(isinstance(part, nn.ModuleList | nn.ModuleDict) for part in member.modules()):
                yield from layers(nn.ModuleList([member]) if isinstance(member, LISTS) else member)
            elif any(member.children()) and any(True for _ in member.parameters()):
                yield member


def shard(model: nn.Module, device: torch.device) -> None:
    """Divide the weights of the model over the processes, in place."""
    mesh = init_device_mesh(device.type, (world()[1],))
    for weight in model.parameters():
        # Weights with the channels innermost cannot be divided.
        weight.data = weight.data.contiguous()
    for layer in layers(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for entry in ENTRIES:
        register_fsdp_forward_method(model, entry)


@contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    """Within the block each process holds all of the model's weights, and may use them as often as it likes."""
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(True)
            part.reshard()


def own(tensor: Tensor) -> Tensor:
    """This process's part, in the same memory; the tensor itself where it is whole."""
    return cast(DTensor, tensor.detach()).to_local() if isinstance(tensor, DTensor) else tensor


def full(tensor: Tensor) -> Tensor:
    """All of it. Where it is divided, every process must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _collected(tree: Any, keep: bool) -> Any:
    """The tree with whole tensors, those that were divided on the CPU, or dropped where they are not kept."""
    if isinstance(tree, DTensor):
        tensor = cast(DTensor, tree.detach()).full_tensor()
        return tensor.cpu() if keep else None
    if isinstance(tree, Mapping):
        return {key: _collected(value, keep) for key, value in tree.items()}
    return tree


class Sharded(DDPStrategy):
    """Lightning's strategy of several processes, with divided weights in the place of copies."""

    def configure_ddp(self) -> None:
        module: Any = self.lightning_module
        shard(module.model, self.root_device)
        shard(module.ema, self.root_device)

    def teardown(self) -> None:
        # Divided weights stay where they are; nobody else needs their room.
        for part in (self.cluster_environment, self.precision_plugin, self.accelerator):
            if part is not None:
                part.teardown()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        return _collected(super().lightning_module_state_dict(), keep=self.is_global_zero)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        return _collected(super().optimizer_state(optimizer), keep=self.is_global_zero)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """From whole tensors; a state of its weight's shape is divided as the weight is."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            inner = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
            weights = [weight for group in inner.param_groups for weight in group["params"]]
            divided = {
                number: {key: _like(value, weights[number]) for key, value in values.items()}
                for number, values in state["state"].items()
            }
            inner.load_state_dict({**state, "state": divided})


def _like(value: Any, weight: Tensor) -> Any:
    if isinstance(value, Tensor) and isinstance(weight, DTensor) and value.shape == weight.shape:
        return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements)
    return value
