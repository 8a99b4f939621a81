"""Laws of the small parts: they equal what they are short for, and what others publish."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from genlab.networks.layers import (
    BinomialDown,
    BinomialUp,
    Copy,
    Downsample,
    FourierEmbedding,
    FourierFeatures,
    GroupNorm,
    Mean,
    SinusoidalEmbedding,
    Upsample,
    conv,
    linear,
)


def test_sinusoids_are_ddpms():
    noise, width = torch.tensor([0.0, 1.0, 999.0]), 8
    frequencies = torch.tensor([10_000 ** (-i / 3) for i in range(4)])
    angle = noise[:, None] * frequencies
    torch.testing.assert_close(SinusoidalEmbedding(width)(noise), torch.cat([angle.sin(), angle.cos()], 1))


def test_scale_multiplies_the_noise_level():
    noise = torch.rand(5)
    torch.testing.assert_close(SinusoidalEmbedding(16, scale=1000)(noise), SinusoidalEmbedding(16)(1000 * noise))


def test_fourier_frequencies_depend_on_their_seed_alone_and_have_the_scale():
    torch.manual_seed(0)
    first = FourierEmbedding(4096).frequencies
    torch.manual_seed(1)
    torch.testing.assert_close(FourierEmbedding(4096).frequencies, first, rtol=0, atol=0)
    assert not torch.equal(FourierEmbedding(4096, seed=1).frequencies, first)
    assert first.std().item() == pytest.approx(2 * math.pi * 16, rel=0.05)


def test_fourier_features_keep_x_and_add_four_channels_for_one():
    x = torch.rand(2, 3, 4, 4) * 2 - 1
    features = FourierFeatures()(x)
    assert features.shape == (2, 15, 4, 4)
    torch.testing.assert_close(features[:, :3], x)
    torch.testing.assert_close(features[:, 3:6] ** 2 + features[:, 9:12] ** 2, torch.ones_like(x))


@pytest.mark.parametrize(("layer", "fans"), [(linear(300, 500), 400), (conv(30, 50), 9 * 40)], ids=["linear", "conv"])
def test_initial_weights_have_the_variance_of_ddpm(layer, fans):
    assert layer.weight.var().item() * fans == pytest.approx(1, rel=0.05)
    assert layer.weight.abs().max().item() <= math.sqrt(3 / fans)
    assert (layer.bias == 0).all()


def test_scale_zero_is_zero():
    assert (conv(3, 5, scale=0).weight == 0).all()


@pytest.mark.parametrize(("channels", "groups"), [(128, 32), (384, 32), (512, 32), (48, 12), (64, 16), (6, 1), (3, 1)])
def test_groups_divide_the_channels_four_to_a_group(channels, groups):
    assert GroupNorm(channels).num_groups == groups


def test_a_norm_does_not_undo_what_is_added_to_each_channel():
    h, shift = torch.randn(2, 16, 4, 4), torch.randn(2, 16, 1, 1)
    norm = GroupNorm(16)
    assert (norm(h + shift) - norm(h)).abs().max() > 0.1


def test_a_norm_keeps_the_type_of_its_input_in_mixed_precision():
    h, norm = torch.randn(2, 16, 4, 4), GroupNorm(16)
    with torch.autocast("cpu", torch.bfloat16):
        low = norm(h.bfloat16())
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), norm(h), rtol=0.02, atol=0.02)


def test_upsampling_is_copying_and_a_convolution():
    layer, x = Upsample(6), torch.randn(2, 6, 5, 7)
    nn.init.normal_(layer.conv.bias)
    torch.testing.assert_close(layer(x), layer.conv(Copy()(x)), rtol=1e-5, atol=1e-5)


def test_downsampling_pads_right_and_bottom():
    layer, x = Downsample(6), torch.randn(2, 6, 8, 4)
    expected = F.conv2d(x, layer.conv.weight, layer.conv.bias, padding=1)[:, :, 1::2, 1::2]
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", [Copy(), Mean(), BinomialUp(), BinomialDown()], ids=lambda m: type(m).__name__)
def test_fixed_filters_keep_a_constant_inside(layer):
    out = layer(torch.full((1, 3, 8, 8), 0.7))
    torch.testing.assert_close(out[..., 1:-1, 1:-1], torch.full_like(out, 0.7)[..., 1:-1, 1:-1])


def test_binomial_filters_are_the_published_ones():
    down = pytest.importorskip("diffusers.models.downsampling").downsample_2d
    up = pytest.importorskip("diffusers.models.upsampling").upsample_2d
    x, kernel = torch.randn(2, 3, 8, 8), (1, 3, 3, 1)
    torch.testing.assert_close(BinomialDown()(x), down(x, kernel), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(BinomialUp()(x), up(x, kernel), rtol=1e-5, atol=1e-6)
