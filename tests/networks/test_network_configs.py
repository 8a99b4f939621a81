"""Every shipped network and conditioner is built from its file, which writes out all that can be chosen."""

import inspect
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from genlab.models import conditioning
from genlab.networks import encoder, mlp, transformer, unet

CONFIGS = Path(__file__).parents[2] / "configs"
NETWORKS = (unet.UNet, mlp.MLP, transformer.DiT, encoder.Encoder)
CLASSES = {c.__name__: c for c in (*NETWORKS, conditioning.ClassLabel, conditioning.Unconditional)}
SHAPES = {
    "unet_digits": (1, 8, 8),
    "dit_digits": (1, 8, 8),
    "encoder_digits": (1, 8, 8),
    "unet_mnist": (1, 28, 28),
    "mlp": (2,),
    "mlp_classes": (2,),
}
# Networks of classifiers are not told what they shall tell.
CLASSIFIERS = ("encoder", "encoder_digits", "mlp_classes")


def files(group: str):
    found = sorted((CONFIGS / group).glob("*.yaml"))
    return pytest.mark.parametrize("file", found, ids=[f.stem for f in found])


def read(file: Path, shape: tuple[int, ...]) -> tuple[type, dict]:
    spec = {"x": {"shape": list(shape)}, "label": {"classes": 10}}
    config = OmegaConf.create({"spec": spec, "conditioner": {"vector": 7}, "part": OmegaConf.load(file)})
    part = OmegaConf.to_container(config.part, resolve=True)
    return CLASSES[part.pop("_target_").split(".")[-1]], part


@files("network")
def test_networks(file):
    shape = SHAPES.get(file.stem, (3, 32, 32))
    kind, arguments = read(file, shape)
    assert list(arguments) == list(inspect.signature(kind).parameters)
    assert arguments.get("vector", 0) == (0 if file.stem in CLASSIFIERS else 7)
    assert file.read_text().startswith("# ")
    with torch.device("meta"):
        network = kind(**arguments)
    assert sum(p.numel() for p in network.parameters()) > 0


@files("conditioner")
def test_conditioners(file):
    kind, arguments = read(file, (2,))
    assert list(arguments) == list(inspect.signature(kind).parameters)
    assert kind(**arguments).vector == arguments["vector"]


@pytest.mark.parametrize(
    ("name", "count"), [("unet_cifar", 35_746_307), ("ddpmpp", 62_513_667), ("ncsnpp", 63_402_499)]
)
def test_networks_for_cifar_have_the_size_that_their_files_say(name, count):
    kind, arguments = read(CONFIGS / "network" / f"{name}.yaml", (3, 32, 32))
    with torch.device("meta"):
        network = kind(**{**arguments, "vector": 0})
    assert sum(p.numel() for p in network.parameters()) == count
    assert f"{count / 1e6:.1f}M parameters" in (CONFIGS / "network" / f"{name}.yaml").read_text()
