"""What a run's processes run on: one device each, one strategy for all.

auto    one device; ddp where there are several
ddp     every process holds all weights, and gradients are averaged over the processes
fsdp    every process holds a part of all weights, see `genlab.runner.sharding`
"""

import os
from typing import Any

import torch

from genlab.core.errors import UserError
from genlab.runner.place import place

ACCELERATORS = ("cpu", "gpu", "cuda", "mps", "auto")
STRATEGIES = ("auto", "ddp", "fsdp")


def kind_of(accelerator: str) -> str:
    """cpu, cuda or mps.

    Raises:
        UserError: there is no such thing here.
    """
    if accelerator not in ACCELERATORS:
        raise UserError(f"trainer.accelerator={accelerator}: choose {', '.join(ACCELERATORS)}")
    here = [kind for kind, there in (("cuda", torch.cuda), ("mps", torch.backends.mps)) if there.is_available()]
    if accelerator == "cpu" or (accelerator == "auto" and not here):
        return "cpu"
    meant = [kind for kind in here if accelerator in (kind, "gpu", "auto")]
    if not meant:
        raise UserError(f"trainer.accelerator={accelerator}: there is no GPU here; choose trainer=cpu")
    return meant[0]


def count_devices(devices: Any, kind: str, option: str) -> int:
    """How many devices of this kind are meant, which there must be.

    Arguments:
        devices: a number, "auto" (all GPUs; one process on the CPU), or a list of GPUs by number.
        option: the name of the option, for messages.
    """
    there = {"cuda": torch.cuda.device_count(), "mps": 1}.get(kind) or max(2, os.cpu_count() or 1)
    named = "GPU" if kind != "cpu" else "CPU core"
    count: Any = devices
    if devices == "auto":
        count = there if kind == "cuda" else 1
    elif isinstance(devices, list | tuple):
        if kind != "cuda" or not devices or not all(type(i) is int and 0 <= i < there for i in devices):
            have = f"they are 0 to {there - 1}" if kind == "cuda" else "they are for GPUs"
            raise UserError(f"{option}={list(devices)}: a list holds the numbers of GPUs, and {have}")
        count = len(set(devices))
    if type(count) is not int or count < 1:
        raise UserError(f"{option}={devices}: give a number of at least 1, or auto")
    if count > there:
        raise UserError(f"{option}={devices}: there {'is' if there == 1 else 'are'} {there} {named}{'s' * (there > 1)}")
    return count


def processes_of(trainer: dict[str, Any]) -> int:
    """How many processes on this node the trainer's options ask for, checked against what there is."""
    kind = kind_of(trainer["accelerator"])
    count, nodes, strategy = (
        count_devices(trainer["devices"], kind, "trainer.devices"),
        trainer["num_nodes"],
        trainer["strategy"],
    )
    if nodes < 1:
        raise UserError(f"trainer.num_nodes={nodes}: must be at least 1")
    if strategy not in STRATEGIES:
        raise UserError(f"trainer.strategy={strategy}: choose {', '.join(STRATEGIES)}")
    if strategy != "auto" and count * nodes == 1:
        single = "cpu" if kind == "cpu" else "gpu"
        raise UserError(
            f"trainer.strategy={strategy} is for several devices, and there is one: choose trainer={single}"
        )
    if strategy == "fsdp" and trainer["precision"] == "16-mixed":
        raise UserError("trainer.precision=16-mixed: trainer.strategy=fsdp has no scaling of losses; choose bf16-mixed")
    here = place()
    if here is not None and here.world != count * nodes:
        raise UserError(
            f"{here.by} started {here.world} processes, and trainer.devices={count} on trainer.num_nodes={nodes} "
            f"asks for {count * nodes}"
        )
    if here is None and nodes > 1:
        raise UserError(f"trainer.num_nodes={nodes}: give the command on every node by torchrun or srun")
    return count
