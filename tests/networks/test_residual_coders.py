"""The networks of latent diffusion's first stages: the published ones with equal weights, and what they refuse."""

import re

import pytest
import torch
from torch import nn

from genlab.core.errors import UserError
from genlab.networks.coders.residual import ResidualDecoder, ResidualEncoder


def published(multipliers: tuple[int, ...], width: int, codes: int) -> nn.Module:
    diffusers = pytest.importorskip("diffusers")
    levels = len(multipliers)
    return diffusers.AutoencoderKL(
        3,
        3,
        ("DownEncoderBlock2D",) * levels,
        ("UpDecoderBlock2D",) * levels,
        tuple(width * m for m in multipliers),
        layers_per_block=2,
        latent_channels=codes,
        norm_num_groups=min(32, width // 4),
    )


def size(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("multipliers", "codes", "million"), [((1, 2, 4, 4), 4, 83.7), ((1, 2, 4), 3, 55.3)], ids=["kl-f8", "kl-f4"]
)
def test_they_have_the_published_sizes(multipliers, codes, million):
    with torch.device("meta"):
        theirs = published(multipliers, 128, codes)
        encoder = ResidualEncoder((3, 256, 256), 2 * codes, 128, multipliers)
        decoder = ResidualDecoder((3, 256, 256), codes, 3, 128, multipliers)
    assert size(encoder) == size(theirs.encoder)
    assert size(decoder) == size(theirs.decoder)
    beside = (2 * codes) ** 2 + 2 * codes + codes**2 + codes
    assert size(encoder) + size(decoder) == size(theirs) - beside
    assert round(size(theirs) / 1e6, 1) == million


def translated(theirs: nn.Module, levels: int, blocks: int, upward: bool) -> dict[str, torch.Tensor]:
    """Their weights under our names; our levels and the middle are one list."""
    first = 2 if upward else 0
    middle = 0 if upward else levels * (blocks + 1) - 1
    state = {}
    for key, value in theirs.state_dict().items():
        if found := re.match(r"(?:down|up)_blocks\.(\d)\.(resnets\.(\d)|\w+samplers\.0)\.(.*)", key):
            place = int(found[3]) if found[3] else blocks
            part = "block" if found[3] else "layer"
            key = f"cells.{first + int(found[1]) * (blocks + 1) + place}.{part}.{found[4]}"
        elif found := re.match(r"mid_block\.(resnet|attention)s\.(\d)\.(.*)", key):
            part = "block" if found[1] == "resnet" else "attention"
            key = f"cells.{middle + int(found[2])}.{part}.{found[3]}"
        for pattern, name in [
            (r"^conv_in", "first"),
            (r"^conv_norm_out", "norm"),
            (r"^conv_out", "last"),
            (r"conv_shortcut", "shortcut"),
            (r"group_norm", "norm"),
            (r"to_out\.0", "out"),
        ]:
            key = re.sub(pattern, name, key)
        state[key] = value
    for kind in ("weight", "bias"):
        for key in [key for key in state if key.endswith(f"to_q.{kind}")]:
            stem = key.removesuffix(f"to_q.{kind}")
            state[f"{stem}queries_keys_values.{kind}"] = torch.cat([state.pop(f"{stem}to_{n}.{kind}") for n in "qkv"])
    return state


def test_with_equal_weights_they_say_what_the_published_ones_say():
    torch.manual_seed(0)
    multipliers, width, codes = (1, 2, 2), 16, 3
    theirs = published(multipliers, width, codes).eval()
    encoder = ResidualEncoder((3, 16, 24), 2 * codes, width, multipliers, groups=4).eval()
    decoder = ResidualDecoder((3, 16, 24), codes, 3, width, multipliers, groups=4).eval()
    encoder.load_state_dict(translated(theirs.encoder, 3, 2, upward=False))
    decoder.load_state_dict(translated(theirs.decoder, 3, 3, upward=True))
    x, z = torch.randn(2, 3, 16, 24), torch.randn(2, codes, 4, 6)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), theirs.encoder(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(decoder(z), theirs.decoder(z), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_a_level_more_is_half_the_sides(levels):
    torch.manual_seed(0)
    options = {"width": 8, "multipliers": [1] * levels, "blocks": 1, "attention": [24 >> (levels - 1)]}
    encoder, decoder = ResidualEncoder((1, 16, 24), 5, **options), ResidualDecoder((1, 16, 24), 5, 2, **options)
    x = torch.rand(3, 1, 16, 24)
    z = encoder(x)
    assert z.shape == (3, 5, 16 >> (levels - 1), 24 >> (levels - 1))
    assert decoder(z).shape == (3, 2, 16, 24)
    torch.testing.assert_close(decoder(encoder(x[1:2])), decoder(z)[1:2])
    attentive = [cell for cell in encoder.cells if getattr(cell, "attention", None) is not None]
    assert len(attentive) == 2


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((1, 28, 28), {"multipliers": [1, 2, 2, 2]}, r"^{}.multipliers=\[1, 2, 2, 2\]: .* 28x28 .* at most 3 of them$"),
        ((1, 28, 27), {"multipliers": [1, 2]}, r"^{}.multipliers=.* 28x27 is not divisible by 2; give at most 1 of"),
        ((1, 32, 32), {"multipliers": [1, 2], "attention": [8]}, r"^{}.attention=\[8\]: .*; they are \[32, 16\]$"),
        ((2,), {}, "^{}=residual: is for images"),
    ],
)
def test_what_does_not_divide_is_refused_by_name(shape, options, message):
    with pytest.raises(UserError, match=message.format("encoder")):
        ResidualEncoder(shape, 4, 8, **options)
    with pytest.raises(UserError, match=message.format("decoder")):
        ResidualDecoder(shape, 4, 1, 8, **options)


@pytest.mark.parametrize(("options", "name"), [({"multipliers": []}, "multipliers"), ({"blocks": 0}, "blocks")])
def test_sizes_of_nothing_are_refused(options, name):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        ResidualEncoder((1, 8, 8), 4, 8, **options)
