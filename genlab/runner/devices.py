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
    there = torch.cuda.device_count() if kind == "cuda" else 1 if kind == "mps" else os.cpu_count() or 1
    named = "CPU core" if kind == "cpu" else "GPU"
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
    # Two processes can be tried out on any processor.
    if count > there and not (kind == "cpu" and count == 2):
        raise UserError(f"{option}={devices}: there {'is' if there == 1 else 'are'} {there} {named}{'s' * (there > 1)}")
    return count


def processes_of(trainer: dict[str, Any]) -> int:
    """How many processes on this node the trainer's options ask for, checked against what there is."""
    kind = kind_of(trainer["accelerator"])
    count = count_devices(trainer["devices"], kind, "trainer.devices")
    nodes, strategy = trainer["num_nodes"], trainer["strategy"]
    if nodes < 1:
        raise UserError(f"trainer.num_nodes={nodes}: must be at least 1")
    if strategy not in STRATEGIES:
        raise UserError(f"trainer.strategy={strategy}: choose {', '.join(STRATEGIES)}")
    here = place()
    if here is not None and here.world != count * nodes:
        raise UserError(
            f"{here.by} started {here.world} processes, and trainer.devices={count} on trainer.num_nodes={nodes} "
            f"asks for {count * nodes}"
        )
    if here is None and nodes > 1:
        raise UserError(f"trainer.num_nodes={nodes}: give the command on every node by torchrun or srun")
    if strategy != "auto" and count * nodes == 1:
        alone = "cpu" if kind == "cpu" else "gpu"
        raise UserError(f"trainer.strategy={strategy} is for several devices, and there is one: choose trainer={alone}")
    if strategy == "fsdp" and trainer["precision"] == "16-mixed":
        raise UserError("trainer.precision=16-mixed: trainer.strategy=fsdp scales no losses; choose bf16-mixed")
    return count


def processes_asked(devices: Any, device: str) -> int:
    """How many processes `devices` of sampling or evaluation asks for, on devices of the kind that `device` names."""
    kind = device.split(":")[0]
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind not in ("cpu", "cuda", "mps") or (kind == "cuda" and not torch.cuda.is_available()):
        raise UserError(f"device={device}: there is no such device here; use auto or cpu")
    if isinstance(devices, list | tuple):
        raise UserError(f"devices={list(devices)}: give a number of at least 1, or auto")
    count = count_devices(devices, kind, "devices")
    here = place()
    if here is not None and here.world != count:
        if devices != 1:
            raise UserError(
                f"{here.by} started {here.world} processes, and devices={devices} asks for {count}: leave it out"
            )
        count = here.world
    if count > 1 and ":" in device:
        raise UserError(f"device={device} is one device, and devices={devices} asks for {count}: give device={kind}")
    return count
