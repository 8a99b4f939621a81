"""Conditions stacked for one call of a network are those of two calls."""

import pytest
import torch

from genlab.networks.condition import Condition, stacked
from genlab.networks.unet import UNet

WIDTHS = {"vector": 5, "context": 6, "concat": 2}


def some(seed: int, rows: int = 2) -> Condition:
    torch.manual_seed(seed)
    shapes = {"vector": (5,), "context": (4, 6), "concat": (2, 8, 8)}
    return Condition(**{name: torch.randn(rows, *shape) for name, shape in shapes.items()})


def test_one_call_is_two():
    torch.manual_seed(0)
    network = UNet((1, 8, 8), width=8, multipliers=(1, 2), blocks=1, attention=(4,), **WIDTHS).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x, noise, first, second = torch.randn(2, 1, 8, 8), torch.rand(2), some(1), some(2)
    both = network(torch.cat([x, x]), noise.repeat(2), stacked(first, second))
    for rows, condition in ((slice(0, 2), first), (slice(2, 4), second)):
        torch.testing.assert_close(both[rows], network(x, noise, condition), rtol=1e-4, atol=1e-5)


def test_nothing_stays_nothing():
    assert stacked(None, None) is None
    with pytest.raises(ValueError, match="the other has none"):
        stacked(some(0), None)
    with pytest.raises(ValueError, match="one has a vector and the other has none"):
        stacked(Condition(vector=torch.zeros(2, 5)), Condition(context=torch.zeros(2, 4, 6)))
