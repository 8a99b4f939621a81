"""Laws of units: levels and values are one thing in two scales, and a uniform model of 256 levels has 8 bits/dim."""

import math

import pytest
import torch

from genlab.core.spec import Field
from genlab.core.units import bits_per_dim, from_levels, half_bin, to_levels, to_uint8

every_level = pytest.mark.parametrize("levels", [2, 17, 256])
every_type = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


@every_level
@every_type
def test_levels_survive_the_round_trip(levels, dtype):
    v = torch.arange(levels)
    x = from_levels(v, levels, dtype)
    assert x.dtype == dtype
    assert x[0] == -1
    assert x[-1] == 1
    assert torch.equal(to_levels(x, levels), v)


@every_level
def test_what_lies_within_half_a_bin_is_the_level_and_what_lies_outside_is_clipped(levels):
    v = torch.arange(levels)
    x = from_levels(v, levels, torch.float64)
    for shift in (-0.99, -0.5, 0.5, 0.99):
        assert torch.equal(to_levels(x + shift * half_bin(levels), levels), v)
    assert torch.equal(to_levels(x[1:] - 1.01 * half_bin(levels), levels), v[:-1])
    assert to_levels(torch.tensor([-3.0, 3.0]), levels).tolist() == [0, levels - 1]


def test_half_a_bin_of_256_levels_is_1_255():
    assert half_bin(256) == 1 / 255


@pytest.mark.parametrize("value", [0.4, 0.5001, 0.999, 99.6])
def test_bytes_are_rounded_and_not_cut(value):
    assert to_uint8(torch.tensor([value / 127.5 - 1], dtype=torch.float64)).item() == round(value)


@every_level
def test_bytes_of_fewer_levels_are_the_bytes_of_the_nearest_level(levels):
    x = torch.linspace(-1.1, 1.1, 1001, dtype=torch.float64)
    found = to_uint8(x, levels)
    assert found.dtype == torch.uint8
    assert len(found.unique()) == levels
    assert torch.equal(found, to_uint8(from_levels(to_levels(x, levels), levels)))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (5,)], ids=str)
def test_a_uniform_model_of_256_levels_has_8_bits_per_dimension(shape):
    nats = torch.tensor([math.prod(shape) * math.log(256)], dtype=torch.float64)
    assert bits_per_dim(nats, Field(shape, levels=256)).item() == pytest.approx(8, rel=1e-15)


def test_padded_digits_count_784_dimensions():
    padded, plain = Field((1, 32, 32), levels=256, dims=784), Field((1, 28, 28), levels=256)
    nats = torch.tensor([1234.5])
    assert bits_per_dim(nats, padded) == bits_per_dim(nats, plain)


def test_the_published_nats_and_bits_of_nice_on_mnist_are_one_number():
    """1,980.50 nats of log-density on data in [0, 1] are 4.356 bits/dim of the bytes."""
    nats_of_bytes = torch.tensor([-1980.50 + 784 * math.log(256)], dtype=torch.float64)
    assert bits_per_dim(nats_of_bytes, Field((1, 28, 28), levels=256)).item() == pytest.approx(4.356, abs=5e-4)
