"""Laws of the encoder, whatever its options."""

import pytest
import torch
from torch import nn

from genlab.core.errors import UserError
from genlab.networks.condition import Condition
from genlab.networks.encoder import Encoder

SHAPE = (3, 8, 12)
OPTIONS = {
    "mean": {"pool": "mean"},
    "attention": {"pool": "attention", "heads": 2},
    "adm": {"head_width": 4, "attention": (6,), "dropout": 0.0},
    "conv": {"resample": "conv", "scale_shift": False},
    "fir": {"resample": "fir", "skip_rescale": True, "embedding": "fourier"},
}
options = pytest.mark.parametrize("name", OPTIONS)


def made(name: str) -> Encoder:
    """With weights that have been moved from where they start, which for the last is zero."""
    torch.manual_seed(0)
    network = Encoder(SHAPE, 5, width=8, multipliers=(1, 2), blocks=1, **OPTIONS[name])
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network.eval()


def inputs(rows: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(rows, *SHAPE), torch.rand(rows)


@options
def test_a_datum_becomes_so_many_numbers(name):
    out = made(name)(*inputs())
    assert out.shape == (3, 5)
    assert out.isfinite().all()
    untrained = Encoder(SHAPE, 5, width=8, multipliers=(1, 2), **OPTIONS[name])
    assert (untrained(*inputs()) == 0).all()


@options
def test_every_parameter_moves_the_output(name):
    network = made(name)
    network(*inputs()).square().sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key


@options
def test_rows_do_not_see_each_other(name):
    network, (x, noise) = made(name), inputs()
    torch.testing.assert_close(network(x[1:2], noise[1:2]), network(x, noise)[1:2], rtol=1e-5, atol=1e-5)


@options
def test_the_noise_level_is_heard(name):
    network, (x, noise) = made(name), inputs()
    assert (network(x, noise + 0.5) - network(x, noise)).abs().max() > 1e-4


def test_attention_sees_where_a_pixel_is_and_the_mean_does_not():
    x = torch.randn(2, 4, 3, 5)
    shifted = x.roll(1, dims=3)
    for pool, sees in (("mean", False), ("attention", True)):
        network = Encoder((4, 3, 5), 2, width=4, multipliers=(1,), blocks=1, pool=pool).pool
        torch.manual_seed(0)
        for parameter in network.parameters():
            nn.init.normal_(parameter)
        moved = (network(x) - network(shifted)).abs().max() > 1e-4
        assert bool(moved) == sees


def test_what_it_cannot_do_is_said_in_a_line():
    with pytest.raises(UserError, match=r"\(2,\): try network=mlp_classes"):
        Encoder((2,), 5)
    with pytest.raises(UserError, match=r"attention=\[7\] is the side of no level: they are \[8, 4, 2\]"):
        Encoder((1, 8, 8), 5, attention=(7,))
    with pytest.raises(UserError, match="cannot be halved 2 times"):
        Encoder((1, 6, 6), 5)
    with pytest.raises(ValueError, match="features must be at least 1"):
        Encoder((1, 8, 8), 0)
    with pytest.raises(ValueError, match=r"no condition\.vector, and one was given"):
        made("mean")(*inputs(), Condition(vector=torch.zeros(3, 4)))
