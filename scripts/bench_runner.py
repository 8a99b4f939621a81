"""What the runner costs: a training step of `genlab train` against the same step in a bare PyTorch loop.

    python scripts/bench_runner.py [--data digits] [--steps 60] [--rounds 3] [--threads 2]

Both sides train the same network with the same batch size, Adam, gradient clipping and moving average. The bare loop
draws with torch.randn and indexes a tensor; genlab adds its data stream, its own random numbers, logging, the check
for non-finite losses and Lightning. The sides take turns in one process; the ratio is of the medians over rounds.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
import yaml

from genlab.cli import main as genlab
from genlab.runner.build import build

WARM_UP = 10


def genlab_step(arguments: argparse.Namespace, folder: Path) -> float:
    """Seconds of a step, from the rate that the run itself logs after its first steps."""
    status = genlab(
        [
            "train",
            f"data={arguments.data}",
            f"trainer.max_steps={WARM_UP + arguments.steps}",
            f"trainer.log_every={WARM_UP}",
            f"trainer.batch_size={arguments.batch_size}",
            "trainer.validate_every=0",
            "trainer.preview_every=0",
            "trainer.checkpoint_every=0",
            "trainer.progress=false",
            f"hydra.run.dir={folder}",
        ]
    )
    if status:
        sys.exit(status)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rates = [row["train/images_per_second"] for row in rows if row["step"] > WARM_UP]
    return arguments.batch_size / statistics.median(rates)


def bare_step(arguments: argparse.Namespace, config: dict) -> float:
    """Seconds of a step of the loop that one would write by hand."""
    torch.manual_seed(0)
    network = build(config["model"]["network"])
    average = build(config["model"]["network"]).requires_grad_(False)
    weights, averaged = list(network.parameters()), list(average.parameters())
    optimizer = torch.optim.Adam(weights, lr=config["optim"]["lr"])
    split = build(config["data"]).split("train")
    data = split.batch(torch.arange(len(split)))["x"]
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    alpha_squared = (1 - beta).cumprod(0).float()
    alpha, sigma = alpha_squared.sqrt(), (1 - alpha_squared).sqrt()
    order = torch.randperm(len(data))
    seconds = []
    for step in range(WARM_UP + arguments.steps):
        begun = time.perf_counter()
        index = order[torch.arange(step * arguments.batch_size, (step + 1) * arguments.batch_size) % len(data)]
        x_0 = data[index]
        t = torch.randint(1000, (len(x_0),))
        eps = torch.randn_like(x_0)
        x_t = alpha[t].view(-1, 1, 1, 1) * x_0 + sigma[t].view(-1, 1, 1, 1) * eps
        loss = (network(x_t, t.float()) - eps).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(averaged, weights, 0.001)
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[WARM_UP:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    ours, bare = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds):
            run = Path(folder) / str(number)
            ours.append(genlab_step(arguments, run))
            config = yaml.safe_load((run / "config.yaml").read_text())
            bare.append(bare_step(arguments, config))
            print(f"round {number}: genlab {1e3 * ours[-1]:.1f} ms, bare {1e3 * bare[-1]:.1f} ms a step", flush=True)
    ratio = statistics.median(ours) / statistics.median(bare)
    print(
        f"{arguments.data}, batch {arguments.batch_size}, {arguments.threads} threads: genlab / bare = {ratio:.3f} "
        f"(medians of {arguments.rounds} rounds of {arguments.steps} steps)"
    )


if __name__ == "__main__":
    main()
