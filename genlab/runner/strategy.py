"""How processes train together.

auto    one device; ddp where there are several
ddp     every process holds all weights, and gradients are averaged over the processes
fsdp    every process holds a part of all weights, see `genlab.runner.sharding`
"""

import inspect
from typing import Any

from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch.nn.parallel import DistributedDataParallel

from genlab.core.errors import UserError
from genlab.models.contract import Model
from genlab.runner.meeting import PATIENCE
from genlab.runner.place import place
from genlab.runner.sharding import Sharded


def environment() -> ClusterEnvironment:
    """How Lightning learns which process this is. It neither starts processes nor sends jobs back to SLURM's queue."""
    here = place()
    if here is None:
        return LightningEnvironment()
    return SLURMEnvironment(auto_requeue=False) if here.by == "srun" else TorchElasticEnvironment()


def strategy_of(trainer: dict[str, Any], processes: int, model: Model) -> Strategy | str:
    """The strategy for this model.

    Where several players take turns, a turn's backward pass reaches the weights of one of them (the others are frozen
    meanwhile), and the reduction looks which ones it reached. Buffers are not copied from process to process in every
    step: what a model keeps in them it sums over all processes itself, by `genlab.core.collectives`.
    """
    if processes == 1:
        return "auto"
    if not model.players():
        raise UserError("trainer.devices: the model has nothing to optimise and is fitted by one process; take 1")
    several = len(model.players()) > 1
    if trainer["strategy"] == "fsdp":
        if several:
            raise UserError("trainer.strategy=fsdp: models whose players take turns need trainer=ddp")
        return Sharded(timeout=PATIENCE)
    # The newer of the option's two names; the older one also leaves buffers as they are at the start.
    known = inspect.signature(DistributedDataParallel).parameters
    copied = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {"find_unused_parameters": several, copied: False, "gradient_as_bucket_view": True}
    return DDPStrategy(timeout=PATIENCE, **options)
