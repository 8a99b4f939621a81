"""Rows/s of log_prob, of a training step and of sampling, against zuko, nflows and normflows.

    python scripts/bench_flows.py [--device cpu] [--size 64] [--steps 5] [--width 256] [--batch-size 256] [--rounds 7]
                                  [--flows maf realnvp nsf nsf_ar] [--what log_prob "training step"] [--clock wall]

    maf        affine maps told by masked networks of two hidden layers
    realnvp    affine couplings told by networks of two hidden layers
    nsf        couplings of splines of 8 bins
    nsf_ar     splines of 8 bins told by masked networks

All sides have the same number of steps, of hidden layers and their widths, no normalisation, orders that are reversed
from step to step, and standard normal noise; the parameters are printed. A training step is the mean negative
log-likelihood, its gradients and Adam. The sides take turns within each round, and the ratio is of the medians, to the
best of the peers; on a machine that others use, --clock cpu counts the process's own time. The peers: pip install zuko
nflows normflows; one that is missing, or has no such flow, is left out.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.models.conditioning import Unconditional
from genlab.models.flow.base import StandardNormal
from genlab.models.flow.maf import MAF
from genlab.models.flow.model import Flow
from genlab.models.flow.nsf import NSF
from genlab.models.flow.preprocess import Preprocess
from genlab.models.flow.realnvp import RealNVPVector
from genlab.models.flow.transform import Transform

BINS, BOUND = 8, 3.0
WHAT = ("log_prob", "training step", "sample")


def mlp(width: int) -> Callable[[int, int], nn.Module]:
    class Layers(nn.Module):
        """Two hidden layers, as the peers call a network."""

        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
            )

        def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
            return self.layers(x)

    return Layers


def masks(size: int, steps: int) -> list[Tensor]:
    """Which numbers are changed by each step: the odd and the even ones in turn."""
    return [(torch.arange(size) + i) % 2 for i in range(steps)]


class Side(nn.Module):
    """A library's flow."""

    def log_prob(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def sample(self, count: int) -> Tensor:
        raise NotImplementedError


class Genlab(Side):
    def __init__(self, flow: str, size: int, steps: int, width: int) -> None:
        super().__init__()
        hidden = [width, width]
        transform: Transform = {
            "maf": lambda: MAF((size,), steps, hidden, "none"),
            "realnvp": lambda: RealNVPVector((size,), steps, hidden, "none"),
            "nsf": lambda: NSF((size,), steps, "coupling", hidden, BINS, BOUND, "none"),
            "nsf_ar": lambda: NSF((size,), steps, "autoregressive", hidden, BINS, BOUND, "none"),
        }[flow]()
        self.flow = Flow({"x": Field((size,))}, transform, StandardNormal(), Preprocess(), Unconditional())

    def log_prob(self, x: Tensor) -> Tensor:
        return -torch.stack(list(self.flow.terms(x, None, None)[1].values())).sum(0)

    def sample(self, count: int) -> Tensor:
        return self.flow.sample({}, Rng(0, torch.arange(count, device=self.flow.device)))["x"]


class Zuko(Side):
    def __init__(self, flow: str, size: int, steps: int, width: int) -> None:
        super().__init__()
        import zuko

        options: dict[str, Any] = {"features": size, "transforms": steps, "hidden_features": (width, width)}
        self.flow = {
            "maf": lambda: zuko.flows.MAF(**options),
            "realnvp": lambda: zuko.flows.NICE(**options),
            "nsf": lambda: zuko.flows.NSF(bins=BINS, passes=2, **options),
            "nsf_ar": lambda: zuko.flows.NSF(bins=BINS, **options),
        }[flow]()

    def log_prob(self, x: Tensor) -> Tensor:
        return self.flow().log_prob(x)

    def sample(self, count: int) -> Tensor:
        return self.flow().sample((count,))


class Nflows(Side):
    def __init__(self, flow: str, size: int, steps: int, width: int) -> None:
        super().__init__()
        from nflows import distributions, transforms
        from nflows.flows.base import Flow as Theirs

        masked = {"features": size, "hidden_features": width, "num_blocks": 1, "use_residual_blocks": False}
        spline = {"num_bins": BINS, "tails": "linear", "tail_bound": BOUND}
        made: list[nn.Module] = []
        for mask in masks(size, steps):
            if flow == "maf":
                made += [transforms.MaskedAffineAutoregressiveTransform(**masked), transforms.ReversePermutation(size)]
            elif flow == "nsf_ar":
                one = transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(**masked, **spline)
                made += [one, transforms.ReversePermutation(size)]
            elif flow == "realnvp":
                made.append(transforms.AffineCouplingTransform(mask, mlp(width)))
            else:
                made.append(transforms.PiecewiseRationalQuadraticCouplingTransform(mask, mlp(width), **spline))
        self.flow = Theirs(transforms.CompositeTransform(made), distributions.StandardNormal([size]))

    def log_prob(self, x: Tensor) -> Tensor:
        return self.flow.log_prob(x)

    def sample(self, count: int) -> Tensor:
        return self.flow.sample(count)


class Normflows(Side):
    """Its masked flows map noise to data in one pass; turned around, the likelihood is what takes one."""

    def __init__(self, flow: str, size: int, steps: int, width: int) -> None:
        super().__init__()
        import normflows
        from normflows.flows.neural_spline.coupling import PiecewiseRationalQuadraticCoupling

        library, made = normflows.flows, []
        for mask in masks(size, steps):
            if flow == "maf":
                one = library.MaskedAffineAutoregressive(size, width, num_blocks=1, use_residual_blocks=False)
                made += [library.Reverse(one), Flipped()]
            elif flow == "realnvp":
                half = size // 2
                made += [
                    library.AffineCouplingBlock(mlp(width)(half, 2 * half)),
                    library.Permute(size, mode="swap"),
                ]
            elif flow == "nsf":
                made.append(
                    PiecewiseRationalQuadraticCoupling(
                        mask, mlp(width), num_bins=BINS, tails="linear", tail_bound=BOUND
                    )
                )
            else:
                raise ImportError("normflows has no such flow without residual networks")
        self.flow = normflows.NormalizingFlow(normflows.distributions.DiagGaussian(size, trainable=False), made)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.flow.log_prob(x)

    def sample(self, count: int) -> Tensor:
        return self.flow.sample(count)[0]


class Flipped(nn.Module):
    """The numbers in the reverse order, as normflows calls a flow."""

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z.flip(1), z.new_zeros(len(z))

    inverse = forward


SIDES: dict[str, type[Side]] = {"genlab": Genlab, "zuko": Zuko, "nflows": Nflows, "normflows": Normflows}


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def seconds(work: Callable[[], object], device: str, clock: Callable[[], float]) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    begun = clock()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - begun


def train(side: Side, optimizer: torch.optim.Optimizer, x: Tensor) -> None:
    side.train()
    loss = -side.log_prob(x).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def ask(side: Side, what: str, x: Tensor) -> None:
    side.eval()
    if what == "sample":
        side.sample(len(x))
    else:
        side.log_prob(x)


def turns(
    sides: dict[str, Side], x: Tensor, tasks: list[str], rounds: int, clock: Callable[[], float]
) -> Iterator[tuple[str, str, float]]:
    """(what, who, rows/s), every side once a round, after two rounds of warming up."""
    optimizers = {who: torch.optim.Adam(side.parameters(), lr=1e-5) for who, side in sides.items()}
    for number in range(rounds + 2):
        for what in tasks:
            for who, side in sides.items():

                def work(side: Side = side, who: str = who, what: str = what) -> None:
                    train(side, optimizers[who], x) if what == "training step" else ask(side, what, x)

                taken = seconds(work, str(x.device), clock)
                if number >= 2:
                    yield what, who, len(x) / taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--flows", nargs="+", default=["maf", "realnvp", "nsf", "nsf_ar"])
    parser.add_argument("--what", nargs="+", choices=WHAT, default=list(WHAT))
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall")
    options = parser.parse_args()
    x = torch.randn(options.batch_size, options.size, device=options.device)
    print(f"{options.device}, {torch.get_num_threads()} threads, batch {len(x)}, {options.size} dimensions")
    for flow in options.flows:
        sides: dict[str, Side] = {}
        for who, side in SIDES.items():
            try:
                sides[who] = side(flow, options.size, options.steps, options.width).to(options.device)
            except ImportError as error:
                print(f"{flow}: without {who} ({error})")
        sizes = {who: sum(p.numel() for p in side.parameters()) for who, side in sides.items()}
        print(f"{flow}: " + ", ".join(f"{who} {count:,}" for who, count in sizes.items()) + " parameters")
        rates: dict[tuple[str, str], list[float]] = {}
        for what, who, rate in turns(sides, x, options.what, options.rounds, CLOCKS[options.clock]):
            rates.setdefault((what, who), []).append(rate)
        for what in options.what:
            medians = {who: statistics.median(rates[what, who]) for who in sides}
            best = max(rate for who, rate in medians.items() if who != "genlab")
            figures = ", ".join(f"{who} {rate:,.0f}" for who, rate in medians.items())
            print(f"  {what}: {figures} rows/s, ratio to the best {medians['genlab'] / best:.2f}", flush=True)


if __name__ == "__main__":
    main()
