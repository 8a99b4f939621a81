"""Images/s of a training step and of a DDIM step, against diffusers and denoising-diffusion-pytorch.

    python scripts/bench_diffusion.py [--device cpu] [--width 32] [--side 32] [--batch-size 16] [--rounds 7]

Networks are matched within 2% in the FLOPs of what they compute, and both figures are printed. (genlab's U-Net needs
fewer for the same result, since it enlarges and convolves in one step; what it executes is printed beside.) Each side
trains by its own library's noising, loss and moving average, with Adam and gradient clipping, and samples by its own
DDIM. The sides take turns within each round, and the ratio is of the medians. On a GPU both run in bf16 with compiled
networks (--no-compile to leave that out). The peers: pip install diffusers denoising-diffusion-pytorch.
"""

import argparse
import contextlib
import io
import statistics
import time
import unittest.mock
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.models.conditioning import Unconditional
from genlab.models.diffusion.model import GaussianDiffusion
from genlab.models.diffusion.samplers.ancestral import Ancestral
from genlab.models.diffusion.schedule import LinearBeta
from genlab.models.diffusion.weighting import Simple, UniformTimes
from genlab.networks.layers import Upsample
from genlab.networks.unet import UNet

MULTIPLIERS = (1, 2, 2, 2)
DDIM_STEPS = 4
TOLERANCE = 0.02


def ours(width: int, arguments: argparse.Namespace) -> UNet:
    shape = (3, arguments.side, arguments.side)
    return UNet(shape, width=width, multipliers=MULTIPLIERS, attention=(arguments.side // 2,), dropout=0.1)


def of_diffusers(width: int, arguments: argparse.Namespace) -> nn.Module:
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=arguments.side,
        block_out_channels=tuple(width * m for m in MULTIPLIERS),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        attention_head_dim=None,
        dropout=0.1,
    )


def of_lucidrains(width: int, arguments: argparse.Namespace) -> nn.Module:
    from denoising_diffusion_pytorch import Unet

    return Unet(width, dim_mults=MULTIPLIERS, dropout=0.1)


def executed(network: nn.Module, arguments: argparse.Namespace) -> int:
    """FLOPs of one forward pass of one image, as they are executed."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, arguments.side, arguments.side), torch.zeros(1))
    return counter.get_total_flops()


def flops(network: nn.Module, arguments: argparse.Namespace) -> int:
    """FLOPs of what the network computes: with each enlargement and its convolution as two steps, as in the paper."""

    def two_steps(self: Upsample, x: Tensor) -> Tensor:
        return self.conv(nn.functional.interpolate(x, scale_factor=2.0))

    with unittest.mock.patch.object(Upsample, "forward", two_steps):
        return executed(network, arguments)


def matched(
    peer: Callable[[int, argparse.Namespace], nn.Module], arguments: argparse.Namespace
) -> tuple[nn.Module, nn.Module]:
    """A pair of networks whose FLOPs differ by less than `TOLERANCE`, near the asked width."""
    near = [arguments.width + 8 * i for i in (0, 1, -1, 2, 3, 4)]
    for own in near:
        mine = flops(ours(own, arguments), arguments)
        for other in [own, *(8 * k for k in range(2, own // 4 + 2))]:
            theirs = flops(peer(other, arguments), arguments)
            if abs(theirs / mine - 1) < TOLERANCE:
                done = executed(ours(own, arguments), arguments)
                print(
                    f"against {peer.__name__[3:]}: width {own}, {mine / 1e9:.4f} GFLOP ({done / 1e9:.4f} executed); "
                    f"peer's width {other}, {theirs / 1e9:.4f} GFLOP"
                )
                return ours(own, arguments), peer(other, arguments)
    raise SystemExit(f"{peer.__name__[3:]}: no widths near {arguments.width} match in FLOPs")


class Side:
    """A library's way to train and to sample; `step` and `draw` are timed."""

    def __init__(self, network: nn.Module, arguments: argparse.Namespace) -> None:
        self.arguments, self.device = arguments, torch.device(arguments.device)
        self.network = network.to(self.device)
        if self.device.type == "cuda":
            self.network = self.network.to(memory_format=torch.channels_last)
        self.x = torch.rand(arguments.batch_size, 3, arguments.side, arguments.side, device=self.device) * 2 - 1
        self.weights = list(self.network.parameters())
        fused = self.device.type == "cuda"
        self.optimizer = torch.optim.Adam(self.weights, lr=1e-4, fused=fused)
        self.count = 0
        self.prepare()
        if self.device.type == "cuda" and arguments.compile:
            self.network.compile()

    def prepare(self) -> None:
        """What the library needs beside the network."""

    def loss(self) -> Tensor:
        raise NotImplementedError

    def average(self) -> None:
        raise NotImplementedError

    def sample(self) -> None:
        """`DDIM_STEPS` steps."""
        raise NotImplementedError

    def cast(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast("cuda", torch.bfloat16) if self.device.type == "cuda" else contextlib.nullcontext()

    def step(self) -> None:
        self.network.train()
        with self.cast():
            loss = self.loss()
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average()
        self.count += 1

    def draw(self) -> None:
        self.network.eval()
        with torch.no_grad(), self.cast():
            self.sample()


class Genlab(Side):
    def prepare(self) -> None:
        spec = {"x": Field((3, self.arguments.side, self.arguments.side), levels=256)}
        self.model = GaussianDiffusion(spec, self.network, LinearBeta(), Simple(), UniformTimes(), Unconditional())
        self.model.to(self.device)
        self.averaged = [w.detach().clone() for w in self.weights]
        self.index = torch.arange(len(self.x), device=self.device)
        self.sampler = Ancestral(steps=DDIM_STEPS, eta=0)

    def loss(self) -> Tensor:
        return self.model.loss({"x": self.x}, Rng(0, self.index, step=self.count), "model", self.count)["loss"]

    @torch.no_grad()
    def average(self) -> None:
        torch._foreach_lerp_(self.averaged, self.weights, 1e-4)

    def sample(self) -> None:
        self.model.sample({}, Rng(0, self.index), self.sampler)


class Diffusers(Side):
    def prepare(self) -> None:
        from diffusers import DDIMScheduler, DDPMScheduler
        from diffusers.training_utils import EMAModel

        self.noising = DDPMScheduler(1000)
        self.ddim = DDIMScheduler(1000)
        self.ddim.set_timesteps(DDIM_STEPS)
        self.ema = EMAModel(self.weights, decay=0.9999, foreach=True)

    def loss(self) -> Tensor:
        t = torch.randint(0, 1000, (len(self.x),), device=self.device)
        noise = torch.randn_like(self.x)
        guess = self.network(self.noising.add_noise(self.x, noise, t), t).sample
        return nn.functional.mse_loss(guess.float(), noise)

    def average(self) -> None:
        self.ema.step(self.weights)

    def sample(self) -> None:
        x = torch.randn_like(self.x)
        for t in self.ddim.timesteps:
            x = self.ddim.step(self.network(x, t).sample, t, x).prev_sample


class Lucidrains(Side):
    def prepare(self) -> None:
        from denoising_diffusion_pytorch import GaussianDiffusion as Theirs
        from ema_pytorch import EMA

        self.theirs = Theirs(
            self.network, image_size=self.arguments.side, sampling_timesteps=DDIM_STEPS, objective="pred_noise",
            beta_schedule="linear",
        ).to(self.device)  # fmt: skip
        self.ema = EMA(self.network, beta=0.9999, update_every=1, update_after_step=0, use_foreach=True)

    def loss(self) -> Tensor:
        return self.theirs(self.x / 2 + 0.5)

    def average(self) -> None:
        self.ema.update()

    def sample(self) -> None:
        with contextlib.redirect_stderr(io.StringIO()):
            self.theirs.ddim_sample((len(self.x), 3, self.arguments.side, self.arguments.side))


PEERS: dict[str, tuple[Callable[[int, argparse.Namespace], nn.Module], type[Side]]] = {
    "diffusers": (of_diffusers, Diffusers),
    "denoising-diffusion-pytorch": (of_lucidrains, Lucidrains),
}


def seconds(work: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def turns(sides: dict[str, Side], rounds: int) -> Iterator[tuple[str, str, float]]:
    """(what, who, images/s), every side once a round, after two rounds of warming up."""
    for number in range(rounds + 2):
        for who, side in sides.items():
            size = len(side.x)
            training, drawing = seconds(side.step, side.device), seconds(side.draw, side.device)
            if number >= 2:
                yield "training step", who, size / training
                yield "DDIM step", who, size * DDIM_STEPS / drawing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    arguments = parser.parse_args()
    print(f"{arguments.device}, {torch.get_num_threads()} threads, batch {arguments.batch_size}, side {arguments.side}")
    for name, (network, side) in PEERS.items():
        mine, theirs = matched(network, arguments)
        sides = {"genlab": Genlab(mine, arguments), name: side(theirs, arguments)}
        rates: dict[tuple[str, str], list[float]] = {}
        for what, who, rate in turns(sides, arguments.rounds):
            rates.setdefault((what, who), []).append(rate)
        for what in ("training step", "DDIM step"):
            own, other = (statistics.median(rates[what, who]) for who in ("genlab", name))
            print(f"  {what}: genlab {own:.2f}, {name} {other:.2f} images/s, ratio {own / other:.2f}", flush=True)


if __name__ == "__main__":
    main()
