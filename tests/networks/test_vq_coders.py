"""The convolutions of the VQ-VAE: shapes, the published size, and sides that do not divide."""

import pytest
import torch

from genlab.core.errors import UserError
from genlab.networks.coders.vq import VQDecoder, VQEncoder


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_to_a_map_and_back(factor):
    torch.manual_seed(0)
    encoder, decoder = VQEncoder((3, 16, 24), 5, factor, 8, 4, 1), VQDecoder(5, 7, factor, 8, 4, 1)
    x = torch.rand(2, 3, 16, 24, requires_grad=True)
    z = encoder(x)
    assert z.shape == (2, 5, 16 // factor, 24 // factor)
    made = decoder(z)
    assert made.shape == (2, 7, 16, 24)
    made.square().sum().backward()
    assert (x.grad != 0).any((0, 1)).all()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in (*encoder.parameters(), *decoder.parameters()))


def test_the_size_is_that_of_the_paper():
    encoder = VQEncoder((3, 32, 32), 64, factor=4, width=256, hidden=256, blocks=2)
    block = (9 * 256 * 256 + 256) + (256 * 256 + 256)
    convs = (16 * 3 * 256 + 256) + (16 * 256 * 256 + 256) + (9 * 256 * 256 + 256) + (256 * 64 + 64)
    assert sum(p.numel() for p in encoder.parameters()) == convs + 2 * block


@pytest.mark.parametrize(
    ("shape", "factor", "message"),
    [
        ((1, 28, 28), 8, "^encoder.factor=8: does not divide the sides 28x28; choose 2 or 4$"),
        ((1, 27, 28), 2, "^encoder.factor=2: does not divide the sides 27x28; choose encoder=mlp$"),
        ((1, 28, 28), 3, "^encoder.factor=3: must be one of 2, 4, 8$"),
        ((2,), 4, "^encoder=vq: is for images"),
    ],
)
def test_what_does_not_divide_is_refused(shape, factor, message):
    with pytest.raises(UserError, match=message):
        VQEncoder(shape, 4, factor)


def test_the_decoder_has_the_same_factors():
    with pytest.raises(UserError, match=r"^decoder\.factor=16: must be one of 2, 4, 8$"):
        VQDecoder(4, 1, 16)
    with pytest.raises(ValueError, match=r"^hidden must be at least 1, not 0"):
        VQDecoder(4, 1, 4, hidden=0)
