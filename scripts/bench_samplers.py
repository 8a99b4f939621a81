"""What sampling costs beside its network: every sampler, classifier-free guidance, and diffusers' schedulers.

    python scripts/bench_samplers.py [--device cpu] [--steps 20] [--batch-size 64] [--rounds 5] [--only ddim heun]

The network is the U-Net of experiment=ddpm_mnist with random weights: width 24, multipliers 1, 2, 3, one block.

    outside     the part of a sample's time that is not spent in `denoise`, and that not spent in the network, for every
                file in configs/sampler; the aim is below 5% outside `denoise`
    guidance    the time of classifier-free guidance over that of none; the aim is 2.1 at most
    diffusers   the time of the whole loop over that of diffusers' scheduler, with the same network, called as often

The sides of a ratio take turns within each round, and it is of the medians. On a GPU the clock waits for the device
before and after each call, so that what is outside is seen at its largest. The peer: pip install diffusers.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.memory import keep_freed_memory
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Field
from genlab.models.conditioning import ClassLabel, Conditioner, Unconditional
from genlab.models.diffusion.denoiser import Denoised, Denoiser
from genlab.models.diffusion.guidance import ClassifierFree, Guidance
from genlab.models.diffusion.model import GaussianDiffusion
from genlab.models.diffusion.samplers.sampler import Sampler
from genlab.models.diffusion.schedule import LinearBeta
from genlab.models.diffusion.weighting import Simple, UniformTimes
from genlab.networks.unet import UNet
from genlab.runner.build import build

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "sampler"
SHAPE = (1, 28, 28)
SPEC = {"x": Field(SHAPE, levels=256), "label": Field((), classes=10)}
MOST_OUTSIDE, MOST_GUIDED = 0.05, 2.1
# Langevin's steps at each level, so that it calls the network about as often as the others.
REPEATS = 1
WARM_UP = 1


class Clock:
    """Seconds within something, counted each time that it is entered."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds, self.calls, self.begun = device, 0.0, 0, 0.0

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def enter(self, *_: Any) -> None:
        self.begun = self.now()

    def leave(self, *_: Any) -> None:
        self.seconds += self.now() - self.begun
        self.calls += 1

    def take(self) -> tuple[float, int]:
        """What was counted since the last time."""
        counted = self.seconds, self.calls
        self.seconds, self.calls = 0.0, 0
        return counted

    def of(self, work: Callable[[], object]) -> float:
        """The seconds that this takes."""
        begun = self.now()
        work()
        return self.now() - begun


class Timed(Guidance):
    """The model's own denoiser, by the clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.note = clock, {}

    def check(self, model: GaussianDiffusion) -> None:
        """Any model will do."""

    def __call__(self, model: GaussianDiffusion, conditions: Batch, rng: Rng) -> Denoiser:
        own = model.denoiser(conditions, rng)

        def denoise(x_t: Tensor, t: Tensor) -> Denoised:
            self.clock.enter()
            denoised = own(x_t, t)
            self.clock.leave()
            return denoised

        return denoise


class Bench:
    """A network, and how samples are drawn with it.

    Arguments:
        labels: whether it is told labels, without which it can do too.
    """

    def __init__(self, arguments: argparse.Namespace, labels: bool = False) -> None:
        torch.manual_seed(0)
        self.device = torch.device(arguments.device)
        conditioner: Conditioner = ClassLabel(10, dropout=0.1) if labels else Unconditional()
        self.network = UNet(
            SHAPE, width=24, multipliers=(1, 2, 3), blocks=1, attention=(7,), dropout=0.0, vector=conditioner.vector
        )
        nn.init.normal_(self.network.last.weight, std=0.02)
        model = GaussianDiffusion(SPEC, self.network, LinearBeta(), Simple(), UniformTimes(), conditioner)
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.index = torch.arange(arguments.batch_size, device=self.device)
        self.given = {"label": self.index % 10} if labels else {}

    def draw(self, sampler: Sampler) -> Tensor:
        return self.model.sample(self.given, Rng(0, self.index), sampler)["x"]

    def sampler(self, name: str, steps: int) -> Sampler:
        """A shipped sampler with so many steps, ready for the model.

        Raises:
            UserError: the model does not take it.
        """
        config: Any = OmegaConf.to_container(OmegaConf.load(CONFIGS / f"{name}.yaml"))
        changed = {key: value for key, value in {"steps": steps, "repeats": REPEATS}.items() if key in config}
        made = build({**config, **changed}, "sampler")
        if not isinstance(made, Sampler):
            raise UserError("it is not for models of Gaussian diffusion")
        made.evaluations(self.model.schedule)
        if made.needs_data:
            data = Rng(1, self.index).normal(*SHAPE).clamp(-1, 1)
            made = made.given(made.estimate(self.model, [{"x": data}]))
        return made


def outside(bench: Bench, names: list[str], arguments: argparse.Namespace) -> None:
    """Of every sampler, the part of its time that is not its network's."""
    network, denoise = Clock(bench.device), Clock(bench.device)
    hooks = [
        bench.network.register_forward_pre_hook(network.enter),
        bench.network.register_forward_hook(network.leave),
    ]
    print(f"\n{'sampler':22}{'calls':>6}{'ms a call':>11}{'outside denoise':>17}{'outside network':>17}")
    for name in names:
        try:
            sampler = bench.sampler(name, arguments.steps)
        except UserError as error:
            print(f"{name:22}left out: {error}")
            continue
        sampler.guidance = Timed(denoise)
        parts: list[tuple[float, float, float, int]] = []
        for number in range(arguments.rounds + WARM_UP):
            network.take(), denoise.take()
            whole = network.of(partial(bench.draw, sampler))
            (in_network, calls), (in_denoise, _) = network.take(), denoise.take()
            if number >= WARM_UP:
                parts.append((1 - in_denoise / whole, 1 - in_network / whole, in_network / calls, calls))
        by_denoise, by_network, each, calls = (statistics.median(column) for column in zip(*parts, strict=True))
        verdict = "" if by_denoise < MOST_OUTSIDE else f"   above {MOST_OUTSIDE:.0%}"
        print(f"{name:22}{calls:6.0f}{1000 * each:11.2f}{by_denoise:17.2%}{by_network:17.2%}{verdict}", flush=True)
    for hook in hooks:
        hook.remove()


def ratio(
    one: Callable[[], object], other: Callable[[], object], device: torch.device, rounds: int
) -> tuple[float, tuple[float, float]]:
    """The median time of one over that of the other, and both; they take turns."""
    clock = Clock(device)
    found = [(clock.of(one), clock.of(other)) for _ in range(rounds + WARM_UP)][WARM_UP:]
    first, second = (statistics.median(seconds) for seconds in zip(*found, strict=True))
    return first / second, (first, second)


def guidance(bench: Bench, arguments: argparse.Namespace) -> None:
    """Classifier-free guidance against none."""
    plain, guided = (bench.sampler("ddim", arguments.steps) for _ in range(2))
    guided.guidance = ClassifierFree(3.0)
    draw_guided, draw_plain = (partial(bench.draw, sampler) for sampler in (guided, plain))
    found, (with_it, without) = ratio(draw_guided, draw_plain, bench.device, arguments.rounds)
    verdict = "" if found <= MOST_GUIDED else f", above {MOST_GUIDED}"
    print(f"\nclassifier-free guidance: {with_it:.3f} s, none {without:.3f} s, ratio {found:.3f}{verdict}", flush=True)


def peers() -> dict[str, Callable[[], Any]]:
    """diffusers' schedulers, by the name of the sampler that does the same."""
    import diffusers

    return {
        "ddim": lambda: diffusers.DDIMScheduler(1000, timestep_spacing="leading", set_alpha_to_one=True),
        "dpm_solver_pp": lambda: diffusers.DPMSolverMultistepScheduler(1000, solver_order=2, solver_type="midpoint"),
        "unipc": lambda: diffusers.UniPCMultistepScheduler(1000, solver_order=2, solver_type="bh2"),
        "heun": lambda: diffusers.HeunDiscreteScheduler(1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear"),
    }


class Loop:
    """The loop of diffusers' pipelines over a scheduler, with our network."""

    def __init__(self, bench: Bench, scheduler: Any, steps: int) -> None:
        self.bench, self.scheduler, self.steps = bench, scheduler, steps

    @torch.no_grad()
    def __call__(self) -> Tensor:
        scheduler, network, device = self.scheduler, self.bench.network, self.bench.device
        scheduler.set_timesteps(self.steps, device=device)
        x = torch.randn(len(self.bench.index), *SHAPE, device=device) * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            level = t.to(x).expand(len(x))
            x = scheduler.step(network(scheduler.scale_model_input(x, t), level), t, x).prev_sample
        return x


def against_diffusers(bench: Bench, names: list[str], arguments: argparse.Namespace) -> None:
    """Whole loops, with as many calls of the network on both sides."""
    print(f"\n{'against diffusers':22}{'calls':>11}{'genlab s':>11}{'theirs s':>11}{'ratio':>8}")
    clock = Clock(bench.device)
    hook = bench.network.register_forward_hook(clock.leave)
    for name, make in peers().items():
        if name not in names:
            continue
        ours, theirs = partial(bench.draw, bench.sampler(name, arguments.steps)), Loop(bench, make(), arguments.steps)
        calls = []
        for work in (ours, theirs):
            clock.take()
            work()
            calls.append(clock.take()[1])
        found, seconds = ratio(ours, theirs, bench.device, arguments.rounds)
        print(f"{name:22}{calls[0]:5} {calls[1]:5}{seconds[0]:11.3f}{seconds[1]:11.3f}{found:8.3f}", flush=True)
    hook.remove()


def main() -> None:
    keep_freed_memory()  # as `genlab` does
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=None, help="of the samplers, these")
    arguments = parser.parse_args()
    shipped = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    names = [name for name in shipped if arguments.only is None or name in arguments.only]
    print(
        f"{arguments.device}, {torch.get_num_threads()} threads, batch {arguments.batch_size}, {arguments.steps} steps"
    )
    bench = Bench(arguments)
    outside(bench, names, arguments)
    guidance(Bench(arguments, labels=True), arguments)
    against_diffusers(bench, names, arguments)


if __name__ == "__main__":
    main()
