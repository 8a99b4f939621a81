"""Images a second through the 2015 Inception network, genlab's against torch-fidelity's, in one process.

    python scripts/bench_metrics.py [--images 32] [--side 32] [--batch 16] [--rounds 7] [--device cpu]

Both get the same weights (those that GENLAB_WEIGHTS names, else random ones, which cost the same) and the same images,
and their features are compared first. A round times one and then the other, so that what else the machine does befalls
both; the ratio is the median of the rounds' ratios.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from genlab.metrics.inception import CLASSES, FEATURES, Inception, InceptionFeatures
from genlab.metrics.weights import find, read


def complete(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All names that torch-fidelity asks for; weights that are not given are random and keep the size of signals."""
    generator = torch.Generator().manual_seed(0)
    made = {"fc.weight": torch.zeros(CLASSES, FEATURES), "fc.bias": torch.zeros(CLASSES)}
    for prefix, convolution in Inception().convolutions():
        for name, shape in convolution.shapes().items():
            if name.endswith("conv.weight"):
                made[prefix + name] = (
                    torch.randn(shape, generator=generator) * (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
                )
            else:
                made[prefix + name] = torch.full(shape, float(name.endswith(("bn.weight", "running_var"))))
            made[prefix + name.split(".")[0] + ".bn.num_batches_tracked"] = torch.tensor(0)
    return {**made, **state}


def seconds(network: Callable[[Tensor], object], images: Tensor, batch: int) -> float:
    """What all of the images take."""
    if images.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    for part in images.split(batch):
        network(part)
    if images.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


@torch.inference_mode()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=32, help="in a round")
    parser.add_argument("--side", type=int, default=32, help="of an image, in pixels")
    parser.add_argument("--batch", type=int, default=16, help="images at a time")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    path = find()
    state = complete(read(path) if path else {})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.pth"
        torch.save(state, file)
        theirs = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=file)
    ours = InceptionFeatures(state, path.name if path else "random").to(options.device)
    theirs = theirs.to(options.device)

    shape = (options.images, 3, options.side, options.side)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = images.to(options.device)
    part = images[: options.batch]
    expected = theirs(part)[0]
    apart = float((ours(part)[0] - expected).norm() / expected.norm())
    print(f"{ours.how['inception_weights']} weights, {options.device}, {torch.get_num_threads()} threads")
    print(f"features differ by {apart:.1e} relative")

    rounds = []
    for _ in range(options.rounds):
        mine, reference = (seconds(network, images, options.batch) for network in (ours, theirs))
        rounds.append((mine, reference))
        print(f"  genlab {len(images) / mine:8.1f} images/s   torch-fidelity {len(images) / reference:8.1f} images/s")
    mine, reference = (statistics.median(times) for times in zip(*rounds, strict=True))
    ratio = statistics.median(b / a for a, b in rounds)
    print(f"median {len(images) / mine:.1f} against {len(images) / reference:.1f} images/s, ratio {ratio:.2f}")
    return 0 if apart < 1e-3 else 1


if __name__ == "__main__":
    sys.exit(main())
