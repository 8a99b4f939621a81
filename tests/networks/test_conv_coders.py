"""Convolutional encoders and decoders: shapes, published sizes, and sides that do not divide."""

import inspect
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from genlab.core.errors import UserError
from genlab.networks.coders.conv import ConvDecoder, ConvEncoder, double, halve

CONFIGS = Path(__file__).parents[2] / "configs"
FITTING = [((1, 28, 28), (8, 4)), ((3, 32, 32), (4, 8, 4)), ((1, 64, 64), (4, 4, 6, 8)), ((2, 16, 24), (4, 4, 4))]


@pytest.mark.parametrize(("shape", "widths"), FITTING)
def test_to_a_code_and_back_no_pixel_is_left_out(shape, widths):
    encoder = ConvEncoder(shape, 5, widths, (16,), nn.Tanh)
    decoder = ConvDecoder(shape, 5, 7, widths, (16,), nn.Tanh)
    x = torch.rand(2, *shape, requires_grad=True)
    z = encoder(x)
    assert z.shape == (2, 5)
    parameters = decoder(z)
    assert parameters.shape == (2, 7, *shape[1:])
    z.square().sum().backward(retain_graph=True)
    assert (x.grad != 0).all()
    other = decoder(z + 0.1)
    assert (other != parameters).all()
    parameters.square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in (*encoder.parameters(), *decoder.parameters()))


def test_the_sizes_are_those_of_the_disentanglement_studies():
    maps = [(1, 32), (32, 32), (32, 64), (64, 64)]
    convs = sum(16 * a * b for a, b in maps)
    encoder, decoder = ConvEncoder((1, 64, 64), 20), ConvDecoder((1, 64, 64), 10, 1)
    plain = (1024 * 256 + 256) + (256 * 20 + 20)
    assert sum(p.numel() for p in encoder.parameters()) == convs + (32 + 32 + 64 + 64) + plain
    plain = (10 * 256 + 256) + (256 * 1024 + 1024)
    assert sum(p.numel() for p in decoder.parameters()) == convs + (64 + 32 + 32 + 1) + plain


def test_layers_keep_the_variance_of_what_they_are_given():
    torch.manual_seed(0)
    x = torch.randn(8, 64, 32, 32)
    assert halve(64, 64)(x)[:, :, 1:-1, 1:-1].var().item() == pytest.approx(1, rel=0.1)
    assert double(64, 64)(x)[:, :, 2:-2, 2:-2].var().item() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize(("name", "coder"), [("encoder", ConvEncoder), ("decoder", ConvDecoder)])
@pytest.mark.parametrize(
    ("shape", "widths", "message"),
    [
        (
            (1, 28, 28),
            (8, 8, 8),
            r"widths=\[8, 8, 8\]: .* 3 times, and 28x28 is not divisible by 8; give at most 2, as",
        ),
        ((1, 64, 48), (8,) * 5, "64x48 is not divisible by 32; give at most 4"),
        ((1, 27, 28), (8,), "27x28 is not divisible by 2; choose NAME=mlp"),
        ((1, 28, 28), (), "widths: must be one number or more"),
    ],
)
def test_sides_that_are_not_divisible_are_refused(name, coder, shape, widths, message):
    sizes = [3] if coder is ConvEncoder else [3, 2]
    with pytest.raises(UserError, match=f"^{name}.*{message}".replace("NAME", name)):
        coder(shape, *sizes, widths)


@pytest.mark.parametrize(("name", "coder"), [("encoder", ConvEncoder), ("decoder", ConvDecoder)])
def test_vectors_and_empty_layers_are_refused(name, coder):
    sizes = [3] if coder is ConvEncoder else [3, 2]
    with pytest.raises(UserError, match=rf"^{name}=conv: is for images.*\[2\]; choose {name}=mlp"):
        coder((2,), *sizes)
    with pytest.raises(ValueError, match="widths must be at least 1, not 0"):
        coder((1, 28, 28), *sizes, (8, 0))


@pytest.mark.parametrize(("name", "coder"), [("encoder", ConvEncoder), ("decoder", ConvDecoder)])
def test_files_write_out_all_options(name, coder):
    file = CONFIGS / name / "conv.yaml"
    part = OmegaConf.load(file)
    assert part.pop("_target_") == f"{coder.__module__}.{coder.__qualname__}"
    assert part.pop("_partial_") is True
    assert file.read_text().startswith("# ")
    assert list(part) == [
        option for option in inspect.signature(coder).parameters if option not in ("inputs", "outputs")
    ]
