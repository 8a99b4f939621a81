"""How fast samples are drawn, and how often the network is asked for them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from genlab.core.collectives import all_sum, world
from genlab.metrics.record import How
from genlab.models.contract import Model


@dataclass
class Effort:
    """What the drawing of samples took, batch by batch.

    Arguments:
        images: how many there were.
        seconds: by the clock, until the device was done; nothing but the drawing is in it.
        calls: of the model's network.
    """

    images: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)

    @contextmanager
    def of(self, model: Model, images: int) -> Iterator[None]:
        """Count what happens in the block, in which so many images are drawn."""
        calls = 0

        def count(*_: object) -> None:
            nonlocal calls
            calls += 1

        network = getattr(model, "network", None)
        hook = network.register_forward_pre_hook(count) if isinstance(network, nn.Module) else None
        _wait(model.device)
        begun = time.perf_counter()
        try:
            yield
        finally:
            if hook is not None:
                hook.remove()
        _wait(model.device)
        self.seconds.append(time.perf_counter() - begun)
        self.images.append(images)
        self.calls.append(calls)

    @property
    def rate(self) -> float:
        """Images a second of this process, after the first batch where there are others, since it warms the device."""
        first = int(len(self.images) > 1)
        return sum(self.images[first:]) / max(sum(self.seconds[first:]), 1e-9)

    def note(self, device: torch.device) -> How:
        """What all processes have done: images a second, what on, and calls of the network for a batch."""
        processes = world()[1]
        mine = torch.tensor([self.rate, sum(self.calls), len(self.calls)], dtype=torch.float64)
        rate, calls, batches = all_sum(mine).tolist()
        nfe = round(calls / max(batches, 1), 1)
        return {
            "nfe": int(nfe) if nfe == int(nfe) else nfe,
            "images_per_second": float(f"{rate:.4g}"),
            "device": f"{processes} x {named(device)}" if processes > 1 else named(device),
        }


def _wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def named(device: torch.device) -> str:
    """A device in words: a GPU by its name, a CPU by its threads, which decide how quick it is."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type} with {threads} thread{'s' * (threads > 1)}" if device.type == "cpu" else device.type
