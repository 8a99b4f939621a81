"""Adversarial training against a plain PyTorch loop and torchgan, and how fast images are sampled.

    python scripts/bench_gan.py [--model dcgan] [--data mnist] [--device cpu] [--steps 20] [--rounds 5] [--clock wall]
                                [--only training sampling] [--images 50000] [words of `genlab train` ...]

    training    ms of a full step, both players', of equal networks and batches. genlab's is `genlab train` itself, from
                one step's beginning to the next one's: its data stream and random numbers, the signs that it watches,
                gradient norms, the check for non-finite losses, the moving average and Lightning. The plain loop is
                what one would write by hand: indexed data, torch.randn, the critic frozen in the generator's turn,
                fused Adam, and a moving average of the generator. torchgan's is its losses' own training steps, which
                neither freeze the critic nor average
    sampling    images/s of samples as `genlab sample` draws them, against the generator alone on torch.randn

The sides take turns within each round, and a ratio is of the medians of all steps. On a machine that others use,
--clock cpu counts the process's own time. The peer: pip install --no-deps torchgan; it is left out where it is missing.
"""

import argparse
import copy
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from genlab.cli import main as genlab
from genlab.core.memory import keep_freed_memory
from genlab.core.rng import Rng
from genlab.models.adversarial.gan import GAN
from genlab.runner.build import build
from genlab.runner.checkpoint import model_of
from genlab.runner.lightning_module import Training

WARM_UP = 4
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


class Stopwatch:
    """When each turn of a run began."""

    def __init__(self, clock: Callable[[], float], device: torch.device) -> None:
        self.clock, self.device = clock, device
        self.stamps: list[float] = []

    def __call__(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.stamps.append(self.clock())

    def steps(self, turns: int) -> list[float]:
        """Seconds of each full step after the first ones."""
        begun = self.stamps[::turns]
        return [after - before for before, after in pairwise(begun[WARM_UP:])]


def of_genlab(arguments: argparse.Namespace, folder: Path) -> list[float]:
    """Seconds of each step of `genlab train`."""
    watch, begin = Stopwatch(CLOCKS[arguments.clock], arguments.device), Training.training_step

    def stamped(self: Training, *batch: Any) -> None:
        watch()
        begin(self, *batch)

    Training.training_step = stamped  # type: ignore[method-assign]
    try:
        status = genlab(
            [
                "train",
                f"model={arguments.model}",
                f"data={arguments.data}",
                f"trainer.max_steps={WARM_UP + arguments.steps + 1}",
                f"trainer.batch_size={arguments.batch_size}",
                f"trainer.accelerator={'gpu' if arguments.device.type == 'cuda' else 'cpu'}",
                "trainer.log_every=50",
                "trainer.validate_every=0",
                "trainer.preview_every=0",
                "trainer.checkpoint_every=0",
                "trainer.progress=false",
                f"hydra.run.dir={folder}",
                *arguments.words,
            ]
        )
    finally:
        Training.training_step = begin  # type: ignore[method-assign]
    if status:
        sys.exit(status)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    return watch.steps(1 + config["model"]["critic_steps"])


def of_plain(arguments: argparse.Namespace, model: GAN, data: Tensor, options: dict[str, Any]) -> list[float]:
    """Seconds of each step of the loop that one would write by hand."""
    generator, critic, size = model.generator.train(), model.critic.train(), model.noise.size
    average = copy.deepcopy(generator).requires_grad_(False)
    moving, moved = list(average.parameters()), list(generator.parameters())
    of_generator, of_critic = (
        torch.optim.Adam(network.parameters(), lr=options["lr"], betas=(0.5, 0.999), fused=True)
        for network in (generator, critic)
    )
    order = torch.randperm(len(data))
    watch, place = Stopwatch(CLOCKS[arguments.clock], arguments.device), 0
    for _ in range(WARM_UP + arguments.steps + 1):
        watch()
        for _ in range(model.critic_steps):
            index = order[torch.arange(place, place + arguments.batch_size) % len(data)]
            place += arguments.batch_size
            x = data[index].to(arguments.device)
            with torch.no_grad():
                made = generator(torch.randn(len(x), size, device=arguments.device))
            loss = F.softplus(-critic(x).score).mean() + F.softplus(critic(made).score).mean()
            of_critic.zero_grad(set_to_none=True)
            loss.backward()
            of_critic.step()
        critic.requires_grad_(False)
        made = generator(torch.randn(arguments.batch_size, size, device=arguments.device))
        loss = F.softplus(-critic(made).score).mean()
        of_generator.zero_grad(set_to_none=True)
        loss.backward()
        of_generator.step()
        critic.requires_grad_(True)
        with torch.no_grad():
            torch._foreach_lerp_(moving, moved, 1e-3)
    return watch.steps(1)


def of_torchgan(arguments: argparse.Namespace, model: GAN, data: Tensor, options: dict[str, Any]) -> list[float]:
    """Seconds of each step of torchgan's losses on genlab's networks."""
    from torchgan.losses import MinimaxDiscriminatorLoss, MinimaxGeneratorLoss
    from torchgan.models import Discriminator, Generator

    networks = model.train()

    class Makes(Generator):
        def __init__(self) -> None:
            super().__init__(networks.noise.size)
            self.network = networks.generator

        def forward(self, z: Tensor, feature_matching: bool = False) -> Tensor:
            return self.network(z)

    class Judges(Discriminator):
        def __init__(self) -> None:
            super().__init__(model.spec["x"].shape[0])
            self.network = networks.critic

        def forward(self, x: Tensor, feature_matching: bool = False) -> Tensor:
            return self.network(x).score

    generator, critic = Makes(), Judges()
    of_generator, of_critic = (
        torch.optim.Adam(network.parameters(), lr=options["lr"], betas=(0.5, 0.999)) for network in (generator, critic)
    )
    device, size = arguments.device, arguments.batch_size
    for_critic, for_generator = MinimaxDiscriminatorLoss(), MinimaxGeneratorLoss()
    order = torch.randperm(len(data))
    watch, place = Stopwatch(CLOCKS[arguments.clock], device), 0
    for _ in range(WARM_UP + arguments.steps + 1):
        watch()
        for _ in range(model.critic_steps):
            x = data[order[torch.arange(place, place + size) % len(data)]].to(device)
            place += size
            for_critic.train_ops(generator, critic, of_critic, x, device)
        for_generator.train_ops(generator, critic, of_generator, device, size)
    return watch.steps(1)


def training(arguments: argparse.Namespace) -> None:
    peers = {"plain": of_plain}
    if importlib.util.find_spec("torchgan"):
        peers["torchgan"] = of_torchgan
    taken: dict[str, list[float]] = {who: [] for who in ("genlab", *peers)}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds):
            run = Path(folder) / str(number)
            taken["genlab"] += of_genlab(arguments, run)
            config = yaml.safe_load((run / "config.yaml").read_text())
            split = build(config["data"]).split("train")
            data = split.batch(torch.arange(min(len(split), 10_000)))["x"]
            for who, work in peers.items():
                model = model_of(config).to(arguments.device)
                assert isinstance(model, GAN)
                taken[who] += work(arguments, model, data, config["optim"])
    middle = {who: 1e3 * statistics.median(times) for who, times in taken.items()}
    ratios = ", ".join(f"genlab / {who} = {middle['genlab'] / middle[who]:.3f}" for who in peers)
    print(f"  training: {', '.join(f'{who} {ms:.1f} ms' for who, ms in middle.items())} a step; {ratios}", flush=True)


@torch.no_grad()
def sampling(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        of_genlab(argparse.Namespace(**{**vars(arguments), "steps": 1}), Path(folder) / "run")
        config = yaml.safe_load((Path(folder) / "run" / "config.yaml").read_text())
    model = model_of(config).to(arguments.device).eval()
    assert isinstance(model, GAN)
    size, clock = arguments.sampled_at_once, CLOCKS[arguments.clock]

    def own(start: int) -> Tensor:
        index = torch.arange(start, start + size, device=arguments.device)
        return model.sample({}, Rng(0, index).stage("sample"))["x"]

    def alone(start: int) -> Tensor:
        return model.generator(torch.randn(size, model.noise.size, device=arguments.device))

    rates = {}
    for who, draw in {"genlab": own, "generator alone": alone}.items():
        draw(0)
        watch, count = Stopwatch(clock, arguments.device), 0
        watch()
        while count < arguments.images:
            draw(count)
            count += size
        watch()
        rates[who] = count / (watch.stamps[1] - watch.stamps[0])
    shape = "x".join(map(str, model.spec["x"].shape))
    print(
        f"  sampling {shape}: {', '.join(f'{who} {rate:.0f}' for who, rate in rates.items())} images/s, 50,000 in "
        f"{50_000 / rates['genlab']:.0f} s; genlab / alone = {rates['genlab'] / rates['generator alone']:.3f}",
        flush=True,
    )


PARTS = {"training": training, "sampling": sampling}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="of `genlab train`, as noise=normal")
    parser.add_argument("--model", default="dcgan", help="unconditional, with the non-saturating objective, no penalty")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--sampled-at-once", type=int, default=256)
    arguments = parser.parse_intermixed_args()
    keep_freed_memory()
    torch.manual_seed(0)
    print(f"{arguments.model} on {arguments.data}, {arguments.device}, {torch.get_num_threads()} threads")
    for name in arguments.only:
        PARTS[name](arguments)


if __name__ == "__main__":
    main()
