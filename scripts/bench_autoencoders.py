"""Autoencoders against pythae's, and the quantizer against that of vector-quantize-pytorch.

    python scripts/bench_autoencoders.py [--device cpu] [--rounds 15] [--only training quantizer likelihood]

    training      images/s of a training step of a VAE on 28x28 bits: two hidden layers on each side, the same for both.
                  genlab's has its default clipping, fused Adam and moving average; pythae's is what its trainer does,
                  which neither clips nor averages. --plain leaves genlab's out
    quantizer     vectors/s of a step of the quantizer alone, forwards, backwards and with the codebook's moving average
                  and restarts; both straight through, of equal sizes
    likelihood    images/s of the importance-weighted estimate with k draws, of the same VAE

The sides take turns within each round, and the ratio is of the medians. The peers: pip install --no-deps pythae
vector-quantize-pytorch (and einops, einx, pydantic, imageio, which they import).
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from genlab.core.memory import keep_freed_memory
from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.models.autoencoder.gaussian import Gaussian
from genlab.models.autoencoder.likelihood import ImportanceWeighted
from genlab.models.autoencoder.model import Autoencoder
from genlab.models.autoencoder.objective import Elbo
from genlab.models.autoencoder.quantized import Quantized
from genlab.models.outputs.bernoulli import Bernoulli
from genlab.networks.coders.mlp import MLPDecoder, MLPEncoder

SHAPE = (1, 28, 28)
LEARNING_RATE = 2e-4
WARM_UP = 3

Work = Callable[[], None]


def bits(arguments: argparse.Namespace, rows: int) -> Tensor:
    """Data in {-1, 1}."""
    return torch.randint(0, 2, (rows, *SHAPE), device=arguments.device) * 2.0 - 1


def ours(arguments: argparse.Namespace) -> Autoencoder:
    hidden = [arguments.hidden, arguments.hidden]
    model = Autoencoder(
        {"x": Field(SHAPE, levels=2)},
        partial(MLPEncoder, SHAPE, hidden=hidden, activation=nn.ReLU),
        Gaussian(arguments.size),
        partial(MLPDecoder, SHAPE, hidden=hidden, activation=nn.ReLU),
        Bernoulli(SHAPE),
        Elbo(),
    )
    return model.to(arguments.device)


def of_pythae(arguments: argparse.Namespace) -> nn.Module:
    """Its VAE with genlab's networks for encoder and decoder."""
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    networks = ours(arguments)

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = networks.encoder

        def forward(self, x: Tensor) -> Any:
            embedding, log_covariance = self.layers(x).chunk(2, 1)
            return ModelOutput(embedding=embedding, log_covariance=log_covariance)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = networks.decoder

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.layers(z).sigmoid())

    config = VAEConfig(input_dim=SHAPE, latent_dim=arguments.size, reconstruction_loss="bce")
    return VAE(config, Encoder(), Decoder()).to(arguments.device)


def training(arguments: argparse.Namespace) -> tuple[int, dict[str, Work]]:
    x = bits(arguments, arguments.batch_size)
    index, model, theirs = torch.arange(len(x), device=x.device), ours(arguments), of_pythae(arguments)
    weights = list(model.parameters())
    average = [w.detach().clone() for w in weights]
    optimizer = torch.optim.Adam(weights, lr=LEARNING_RATE, fused=True)
    of_theirs = torch.optim.Adam(theirs.parameters(), lr=LEARNING_RATE)
    data = {"data": x / 2 + 0.5}
    steps = 0

    def step() -> None:
        nonlocal steps
        model.loss({"x": x}, Rng(0, index, step=steps).stage("train"), "model", steps)["loss"].backward()
        if not arguments.plain:
            nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if not arguments.plain:
            with torch.no_grad():
                torch._foreach_lerp_(average, weights, 1e-3)
        steps += 1

    def step_of_theirs() -> None:
        loss = theirs(data).loss
        of_theirs.zero_grad()
        loss.backward()
        of_theirs.step()

    return len(x), {"genlab": step, "pythae": step_of_theirs}


def likelihood(arguments: argparse.Namespace) -> tuple[int, dict[str, Work]]:
    x = bits(arguments, arguments.images)
    index, model, theirs = torch.arange(len(x), device=x.device), ours(arguments).eval(), of_pythae(arguments).eval()
    estimator, data = ImportanceWeighted(arguments.k), x / 2 + 0.5

    def estimate() -> None:
        model.nll({"x": x}, Rng(0, index).stage("nll"), estimator)

    @torch.no_grad()
    def estimate_of_theirs() -> None:
        theirs.get_nll(data, n_samples=arguments.k, batch_size=min(100, arguments.k))

    return len(x), {"genlab": estimate, "pythae": estimate_of_theirs}


def quantizer(arguments: argparse.Namespace) -> tuple[int, dict[str, Work]]:
    from vector_quantize_pytorch import VectorQuantize

    sizes, dimension = (arguments.vq_batch, arguments.vq_side, arguments.vq_side), arguments.dimension
    h = torch.randn(sizes[0], dimension, *sizes[1:], device=arguments.device, requires_grad=True)
    goal = torch.randn_like(h)
    own = Quantized(arguments.codes, dimension, decay=0.99).to(arguments.device).train()
    own.prepare([h])
    theirs = VectorQuantize(
        dimension,
        arguments.codes,
        decay=0.99,
        commitment_weight=0.25,
        threshold_ema_dead_code=1,
        accept_image_fmap=True,
        rotation_trick=False,
    )
    theirs.to(arguments.device).train()
    steps = 0

    def step() -> None:
        nonlocal steps
        found = own(h, steps)
        loss = (found.mode() * goal).sum() + sum(penalty.sum() for penalty in found.penalties.values())
        torch.autograd.grad(loss, h)
        own.after_step(steps)
        steps += 1

    def step_of_theirs() -> None:
        z, _, commitment = theirs(h)
        torch.autograd.grad((z * goal).sum() + commitment.sum(), h)

    return h.numel() // dimension, {"genlab": step, "vector-quantize-pytorch": step_of_theirs}


PARTS: dict[str, tuple[str, Callable[[argparse.Namespace], tuple[int, dict[str, Work]]]]] = {
    "training": ("images/s", training),
    "quantizer": ("vectors/s", quantizer),
    "likelihood": ("images/s", likelihood),
}


def seconds(work: Work, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--plain", action="store_true", help="without clipping and moving average")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--hidden", type=int, default=300)
    parser.add_argument("--size", type=int, default=50, help="of a code")
    parser.add_argument("--images", type=int, default=64, help="of which the likelihood is estimated at once")
    parser.add_argument("--k", type=int, default=1000)
    parser.add_argument("--codes", type=int, default=512)
    parser.add_argument("--dimension", type=int, default=64, help="of the quantizer's vectors")
    parser.add_argument("--vq-batch", type=int, default=32)
    parser.add_argument("--vq-side", type=int, default=8)
    arguments = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    print(f"{arguments.device}, {torch.get_num_threads()} threads")
    for name in arguments.only:
        unit, make = PARTS[name]
        count, sides = make(arguments)
        taken: dict[str, list[float]] = {who: [] for who in sides}
        for number in range(arguments.rounds + WARM_UP):
            for who, work in sides.items():
                spent = seconds(work, arguments.device)
                if number >= WARM_UP:
                    taken[who].append(spent)
        rates = {who: count / statistics.median(times) for who, times in taken.items()}
        own, (peer, other) = rates["genlab"], list(rates.items())[1]
        print(f"  {name}: genlab {own:.2f}, {peer} {other:.2f} {unit}, ratio {own / other:.2f}", flush=True)


if __name__ == "__main__":
    main()
