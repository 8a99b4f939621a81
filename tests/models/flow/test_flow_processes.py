"""Two processes normalise as one would with the data of both."""

import torch
import torch.distributed as dist

from genlab.models.flow.actnorm import ActNorm
from genlab.models.flow.batch_norm import BatchNorm
from genlab.networks.actnorm import shown_first

SHARES = (slice(0, 3), slice(3, 6))


def data() -> torch.Tensor:
    return torch.arange(24, dtype=torch.float64).view(6, 2, 2).sin() + torch.arange(6.0).view(6, 1, 1)


def seen(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the layers make of a process's data, and its part of the gradient."""
    act, batch = ActNorm(2).double(), BatchNorm(2, 0.5).double().train()
    with torch.no_grad(), shown_first(act):
        act(x)
    x = x.clone().requires_grad_()
    z, log_det = batch(x)
    (gradient,) = torch.autograd.grad((z**3).sum() - log_det.sum(), x)
    return {"shift": act.scale.shift.data, "z": z.data, "gradient": gradient, "mean": batch.averages.mean}


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save(seen(data()[SHARES[rank]]), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_normalise_as_one(tmp_path):
    torch.multiprocessing.spawn(process, args=(str(tmp_path),), nprocs=2)
    whole = seen(data())
    for rank, rows in enumerate(SHARES):
        found = torch.load(tmp_path / f"{rank}.pt")
        for key in ("shift", "mean"):
            torch.testing.assert_close(found[key], whole[key])
        for key in ("z", "gradient"):
            torch.testing.assert_close(found[key], whole[key][rows])
