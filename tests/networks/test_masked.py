"""Masked networks: who depends on whom, and that one place after another is the same network."""

import pytest
import torch
from torch import nn

from genlab.networks.masked import MADE, MaskedLinear, even_degrees, random_degrees

CONTEXT = 3
ORDER = torch.tensor([2, 0, 4, 1, 3])
CASES = {
    "plain": (lambda: MADE(5, 2, [7, 9]), 0),
    "in an order": (lambda: MADE(5, 3, [7, 9], order=ORDER, context=CONTEXT), CONTEXT),
    "several numbers": (lambda: MADE(5, 2, [12], numbers=3, order=ORDER, direct=True), 0),
    "random": (lambda: MADE(5, 2, [9, 8, 9], random=4, order=ORDER, activation=nn.Tanh), 0),
    "no layers between": (lambda: MADE(5, 2, [], context=CONTEXT), CONTEXT),
    "one place": (lambda: MADE(1, 2, [6], numbers=2, context=CONTEXT), CONTEXT),
    "wide": (lambda: MADE(30, 2, [600, 500], context=CONTEXT, order=torch.arange(30).flip(0)), CONTEXT),
}
every = pytest.mark.parametrize("name", CASES)


def made(name: str) -> tuple[MADE, torch.Tensor, torch.Tensor | None]:
    """A network whose weights are not those of the start, data (4, N, D) and a context."""
    torch.manual_seed(0)
    make, context = CASES[name]
    network = make().double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    x = torch.randn(4, network.numbers, network.size, dtype=torch.float64)
    return network, x, torch.randn(4, context, dtype=torch.float64) if context else None


@every
def test_a_place_depends_on_all_before_it_and_on_no_other(name):
    network, x, context = made(name)
    # (F, D, B, N, D): the slope of each output to each input.
    slopes = torch.autograd.functional.jacobian(lambda x: network(x, context).sum(0), x)
    seen = slopes.abs().sum((0, 2, 3))
    for place in range(network.size):
        for other in range(network.size):
            before = bool(network.ranks[other] < network.ranks[place])
            assert bool(seen[place, other] > 0) == before


@every
def test_place_by_place_it_says_the_same(name):
    network, x, context = made(name)
    with torch.no_grad():
        whole = network(x, context)
    for gradients in (False, True):
        with torch.set_grad_enabled(gradients):
            places, last = network.start(len(x), context), None
            for place in network.order.tolist():
                torch.testing.assert_close(places.advance(last), whole[:, :, place], rtol=1e-12, atol=1e-12)
                last = x[:, :, place]


@every
def test_place_by_place_the_gradients_are_the_same(name):
    network, x, context = made(name)
    weights = list(network.parameters())
    places, last, found = network.start(len(x), context), None, torch.zeros((), dtype=torch.float64)
    for place in network.order.tolist():
        found = found + (places.advance(last) * (place + 1)).square().sum()
        last = x[:, :, place]
    whole = (network(x, context) * torch.arange(1, network.size + 1)).square().sum()
    one, other = (torch.autograd.grad(value, weights, allow_unused=True) for value in (whole, found))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b, rtol=1e-9, atol=1e-9)


@every
def test_the_context_reaches_every_place(name):
    network, x, context = made(name)
    if context is None:
        return
    moved = network(x, context + 1) - network(x, context)
    assert (moved.abs().sum((0, 1)) > 0).all()


@pytest.mark.parametrize("flip", [False, True])
def test_products_that_are_left_out_are_zeros(flip):
    rows, columns = torch.arange(800)[:, None], torch.arange(400)
    mask = (rows // 2 > columns).double()
    mask = mask.flip(1) if flip else mask
    torch.manual_seed(0)
    layer, x = MaskedLinear(mask).double(), torch.randn(5, 400, dtype=torch.float64)
    assert len(layer.spans) > 1
    assert sum(b - a for a, b in layer.spans) < 0.7 * 400 * len(layer.spans)
    expected = nn.functional.linear(x, layer.weight * mask, layer.bias)
    torch.testing.assert_close(layer(x), expected)
    one, other = (torch.autograd.grad(y.square().sum(), layer.weight)[0] for y in (layer(x), expected))
    torch.testing.assert_close(one, other)


def test_degrees_are_spread_over_all_that_are_of_use():
    for size, widths, context in ((10, [100, 37], False), (10, [50], True), (300, [100], False)):
        for degrees in (even_degrees(size, widths, context), random_degrees(size, widths, 3, context)):
            for d in degrees:
                assert d.min() >= (-1 if context else 0)
                assert d.max() <= size - 2
    assert even_degrees(10, [90])[0].bincount().tolist() == [10] * 9
    assert not random_degrees(9, [50], 0)[0].equal(random_degrees(9, [50], 1)[0])


def test_another_order_is_taken_with_the_same_weights():
    network, x, _ = made("plain")
    before = network(x)
    network.assign(ORDER, random_degrees(5, [7, 9], 0))
    assert not network(x).equal(before)
    network.assign(torch.arange(5), even_degrees(5, [7, 9]))
    assert network(x).equal(before)
    with pytest.raises(ValueError, match=r"each of 0 \.\. 4 once"):
        network.assign(torch.zeros(5, dtype=torch.long), even_degrees(5, [7, 9]))
