"""Seconds to draw, by networks that keep what they computed and by the naive loop, which computes all anew each time.

    python scripts/bench_autoregressive.py [--device cpu] [--batch-size 16] [--networks pixelcnn pixelcnn_pp]
                                           [--naive-places 4] [--rounds 3] [--side 28]

Both draw by the same calls with the same noise; networks have their first weights, on which no time depends. The whole
is drawn with what was kept. Naively a place costs the same wherever it is, so that a few are timed and scaled to all:
--naive-places 0 draws them all, and then also says by how much the two differ. Times are medians of the rounds, in
which the two take turns.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from genlab.core.rng import Rng
from genlab.models.autoregressive.drawing import draw
from genlab.models.outputs.bernoulli import Bernoulli
from genlab.models.outputs.categorical import Categorical
from genlab.models.outputs.logistic_mixture import LogisticMixture
from genlab.models.outputs.output import Output
from genlab.networks.causal.causal import Causal, Naive
from genlab.networks.causal.diagonal_bilstm import DiagonalBiLSTM
from genlab.networks.causal.gated_pixelcnn import GatedPixelCNN
from genlab.networks.causal.image_transformer import ImageTransformer
from genlab.networks.causal.pixelcnn import PixelCNN
from genlab.networks.causal.pixelcnn_pp import PixelCNNPP
from genlab.networks.causal.pixelrnn import PixelRNN
from genlab.networks.causal.row_lstm import RowLSTM
from genlab.networks.causal.wavenet import WaveNet

# What is drawn: the network, the distribution of a place, and the shape of a datum.
Drawn = tuple[Causal, Output, tuple[int, ...]]


def pixelcnn(side: int) -> Drawn:
    shape = (1, side, side)
    return PixelCNN(shape, 1, width=64, head=64), Bernoulli(shape), shape


def gated_pixelcnn(side: int) -> Drawn:
    shape = (1, side, side)
    return GatedPixelCNN(shape, 256, width=64, head=64), Categorical(shape), shape


def gated_pixelcnn_rgb(side: int) -> Drawn:
    shape = (3, side, side)
    return GatedPixelCNN(shape, 768, head=96), Categorical(shape), shape


def pixelcnn_pp(side: int) -> Drawn:
    shape = (3, side, side)
    output = LogisticMixture(shape)
    return PixelCNNPP(shape, output.features, width=64, blocks=2, dropout=0.0), output, shape


def row_lstm(side: int) -> Drawn:
    shape = (1, side, side)
    return PixelRNN(shape, 1, RowLSTM, width=32, depth=3), Bernoulli(shape), shape


def diagonal_bilstm(side: int) -> Drawn:
    shape = (1, side, side)
    return PixelRNN(shape, 1, DiagonalBiLSTM, width=16, depth=3), Bernoulli(shape), shape


def image_transformer(side: int) -> Drawn:
    shape = (1, side, side)
    return ImageTransformer(shape, 1, width=128, depth=4), Bernoulli(shape), shape


def wavenet(side: int) -> Drawn:
    """Half a second of sound at 8 kHz whatever the side; each place sees the 2,047 before it."""
    shape = (1, 4000)
    return WaveNet(shape, 256, levels=256), Categorical(shape), shape


NETWORKS: dict[str, Callable[[int], Drawn]] = {
    "pixelcnn": pixelcnn,
    "gated_pixelcnn": gated_pixelcnn,
    "gated_pixelcnn_rgb": gated_pixelcnn_rgb,
    "pixelcnn_pp": pixelcnn_pp,
    "row_lstm": row_lstm,
    "diagonal_bilstm": diagonal_bilstm,
    "image_transformer": image_transformer,
    "wavenet": wavenet,
}
"""By name, a function of the side of an image. Networks of sequences take its square as their length."""


def seconds(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def first_places(network: Causal, output: Output, x: Tensor, rng: Rng, count: int) -> None:
    """So many places, as `draw` goes through all."""
    state, size = network.start(x), x.shape[1] // network.groups
    for place in network.order.tolist()[:count]:
        value = torch.full_like(x.flatten(2)[..., place], -1.0)
        for first in range(0, x.shape[1], size):
            drawn = output.sample(network.at(state, place, value), rng.stage(f"channel {first}"))
            value[:, first : first + size] = drawn[:, first : first + size]
        state = network.put(state, place, value)


class Cells(TorchDispatchMode):
    """Counts the steps of LSTMs, each of which makes its cells by one product and sum."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function is torch.ops.aten.addcmul.default
        return function(*args, **(kwargs or {}))


@torch.no_grad()
def print_steps(kind: str, sides: tuple[int, ...] = (16, 32)) -> None:
    """How many steps follow one another in a layer's pass over images of these sides."""
    for side in sides:
        network, _, shape = NETWORKS[kind](side)
        with Cells() as cells:
            network(torch.zeros(1, *shape))
        steps = cells.count / len(network.layers)  # type: ignore[arg-type]
        print(f"  side {side}: {steps:g} steps a layer follow one another, for {side**2} places")


@torch.no_grad()
def compare(name: str, options: argparse.Namespace, device: torch.device) -> None:
    torch.manual_seed(0)
    network, output, shape = NETWORKS[name](options.side)
    network, output = network.to(device).eval(), output.to(device)
    places, naive = len(network.order), Naive(network)
    rng = Rng(0, torch.arange(options.batch_size, device=device))
    x = torch.zeros(options.batch_size, *shape, device=device)
    some = options.naive_places or places
    first_places(network, output, x, rng, 2)
    first_places(naive, output, x, rng, 1)
    cached_times, naive_times = [], []
    for _ in range(options.rounds):
        cached_times.append(seconds(lambda: draw(network, output, x, rng), device))
        naive_times.append(seconds(lambda: first_places(naive, output, x, rng, some), device) * places / some)
    cached, scaled = statistics.median(cached_times), statistics.median(naive_times)
    how = "all drawn" if some == places else f"{some} of {places} places, scaled"
    parameters = sum(p.numel() for p in network.parameters())
    print(
        f"{name}: {parameters:,} parameters, {'x'.join(map(str, shape))}, batch {len(x)}: "
        f"cached {cached:.2f} s, naive {scaled:.1f} s ({how}), {scaled / cached:.0f} times as fast",
        flush=True,
    )
    if some == places:
        difference = (draw(network, output, x, rng) - draw(naive, output, x, rng)).abs().max()
        print(f"  largest difference of the two draws: {float(difference):.2g}")
    if isinstance(network, PixelRNN):
        print_steps(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--naive-places", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, default=28)
    options = parser.parse_args()
    print(f"{options.device}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}")
    for name in options.networks:
        compare(name, options, torch.device(options.device))


if __name__ == "__main__":
    main()
