"""Sums over processes equal those that one process would have made."""

import torch
import torch.distributed as dist

from genlab.core.collectives import all_cat, all_cat_with_gradients, all_sum, barrier, world

ROWS = (3, 1)


def part(rank: int) -> torch.Tensor:
    """What a process holds: rows of its own, and not as many as the other."""
    return torch.arange(ROWS[rank] * 2, dtype=torch.float64).view(-1, 2) + 100 * rank


def weights(rank: int) -> torch.Tensor:
    """Of all rows, in what a process computes of them."""
    return torch.arange(sum(ROWS), dtype=torch.float64)[:, None] + 10 * rank


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    mine = part(rank)
    total = all_sum(mine.sum(0))
    barrier()
    given = mine.clone().requires_grad_()
    rows = all_cat_with_gradients(given)
    (gradient,) = torch.autograd.grad((rows.square() * weights(rank)).sum(), given)
    found = {
        "world": world(),
        "sum": total,
        "untouched": torch.equal(mine, part(rank)),
        "rows": all_cat(mine),
        "numbers": all_cat(torch.arange(rank)),
        "with gradients": rows.detach(),
        "gradient": gradient,
    }
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_have_what_one_would(tmp_path):
    torch.multiprocessing.spawn(process, args=(str(tmp_path),), nprocs=2)
    rows = torch.cat([part(0), part(1)])
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert tuple(found["world"]) == (rank, 2)
        assert torch.equal(found["rows"], rows)
        assert torch.equal(found["sum"], rows.sum(0))
        assert torch.equal(found["numbers"], torch.tensor([0]))
        assert found["untouched"]
        assert torch.equal(found["with gradients"], rows)
        expected = (2 * rows * (weights(0) + weights(1))).split(ROWS)[rank]
        torch.testing.assert_close(found["gradient"], expected)


def test_alone_they_change_nothing():
    x = torch.randn(3, 2)
    assert world() == (0, 1)
    assert torch.equal(all_sum(x), x)
    assert torch.equal(all_cat(x), x)
    assert torch.equal(all_cat_with_gradients(x), x)
    barrier()
