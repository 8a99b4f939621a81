"""Residual generators and critics: published sizes, sides, conditions, norms, and what depends on the batch."""

import inspect
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import nn

from genlab.core.errors import UserError
from genlab.networks.adversarial import resnet
from genlab.networks.adversarial.conditional_norm import ConditionalBatchNorm
from genlab.networks.adversarial.resnet import ResNetCritic, ResNetGenerator
from genlab.networks.condition import Condition

CONFIGS = Path(__file__).parents[2] / "configs"
CIFAR = (3, 32, 32)


def told(rows: int, width: int = 3) -> Condition:
    return Condition(vector=torch.randn(rows, width, generator=torch.Generator().manual_seed(1)))


def shaken(network: nn.Module) -> nn.Module:
    """With no weight left where it started, which for some is zero."""
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return network


@pytest.mark.parametrize(
    ("file", "size"),
    [
        ("generator/resnet", 4_276_739),
        ("generator/resnet_wgan_gp", 1_204_483),
        ("critic/resnet", 1_053_825),
        ("critic/resnet_wgan_gp", 1_053_825),
    ],
)
def test_files_make_networks_of_the_published_size(file, size):
    """SNGAN's as in the public reproductions of it."""
    spec = {"x": {"shape": list(CIFAR), "levels": 256}}
    around = {"spec": spec, "conditioner": {"vector": 0}, "noise": {"size": 128}}
    config = OmegaConf.create({**around, "part": OmegaConf.load(CONFIGS / f"{file}.yaml")})
    part = OmegaConf.to_container(config.part, resolve=True)
    kind = getattr(resnet, part.pop("_target_").split(".")[-1])
    assert list(part) == list(inspect.signature(kind).parameters)
    assert sum(weight.numel() for weight in kind(**part).parameters()) == size


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), CIFAR, (3, 48, 48), (2, 64, 32)])
def test_what_is_made_has_the_shape_and_is_bounded_where_data_have_levels(shape):
    torch.manual_seed(0)
    z = torch.randn(2, 5)
    x = ResNetGenerator(shape, 256, 5, 4)(z)
    assert x.shape == (2, *shape)
    assert x.abs().max() <= 1
    torch.manual_seed(1)
    bounded = ResNetGenerator(shape, 256, 5, 4, norm="none")
    free = ResNetGenerator(shape, None, 5, 4, norm="none")
    free.load_state_dict(bounded.state_dict())
    torch.testing.assert_close(bounded(z), free(z).tanh())
    judged = ResNetCritic(shape, 4)(x)
    assert (judged.score.shape, judged.features.shape) == ((2,), (2, 4))


def test_widths_may_change_from_block_to_block():
    generator = ResNetGenerator((3, 48, 48), 256, 5, 2, (8, 4, 2, 1))
    assert generator(torch.randn(2, 5)).shape == (2, 3, 48, 48)
    critic = ResNetCritic((3, 48, 48), 2, (1, 2, 4, 8, 16), downs=4)
    assert critic(torch.rand(2, 3, 48, 48)).features.shape == (2, 32)


def test_copies_and_means_are_one_with_the_convolution_beside_them():
    torch.manual_seed(0)
    layer, x = nn.Conv2d(3, 5, 3, padding=1).double(), torch.rand(2, 3, 8, 6, dtype=torch.float64)
    up = layer(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    torch.testing.assert_close(resnet.enlarged(x, layer), up)
    torch.testing.assert_close(resnet.reduced(x, layer), F.avg_pool2d(layer(x), 2))


def test_a_block_of_the_critic_is_what_was_published():
    torch.manual_seed(0)
    x = torch.rand(2, 4, 8, 8)
    block = resnet.DownBlock(4, 6, True, (nn.Identity(), nn.Identity()), lambda layer: layer)
    expected = F.avg_pool2d(block.conv_2(block.conv_1(x.relu()).relu()) + block.short(x), 2)
    torch.testing.assert_close(block(x), expected)
    first = resnet.DownBlock(4, 6, True, (None, nn.Identity()), lambda layer: layer)
    expected = F.avg_pool2d(first.conv_2(first.conv_1(x).relu()) + first.short(x), 2)
    torch.testing.assert_close(first(x), expected)
    same = resnet.DownBlock(4, 4, False, (nn.Identity(), nn.Identity()), lambda layer: layer)
    torch.testing.assert_close(same(x), x + same.conv_2(same.conv_1(x.relu()).relu()))


@pytest.mark.parametrize("norm", ["conditional", "batch", "none"])
def test_a_generator_hears_its_condition(norm):
    torch.manual_seed(0)
    generator = shaken(ResNetGenerator(CIFAR, 256, 5, 4, norm=norm, vector=3)).eval()
    z = torch.randn(1, 5).expand(4, 5)
    made = generator(z, told(4))
    assert (made[:1] - made[1:]).abs().amax(dim=(1, 2, 3)).min() > 1e-3
    # In evaluation a row is made of its own noise and condition alone.
    torch.testing.assert_close(generator(z[:1], Condition(told(4).vector[2:3])), made[2:3], rtol=1e-4, atol=1e-5)


def test_conditional_gains_and_biases_by_hand():
    torch.manual_seed(0)
    layer = shaken(ConditionalBatchNorm(4, 3))
    x, condition = torch.randn(5, 4, 2, 3), told(5)
    normed = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
    gain, bias = layer.told(condition.vector).chunk(2, dim=1)
    torch.testing.assert_close(layer(x, condition), normed * (1 + gain[:, :, None, None]) + bias[:, :, None, None])
    start = ConditionalBatchNorm(4, 3)
    torch.testing.assert_close(start(x, condition), ConditionalBatchNorm(4)(x))
    with pytest.raises(UserError, match=r"condition\.vector"):
        layer(x)


@pytest.mark.parametrize("norm", ["spectral", "layer", "group", "none"])
def test_a_judgement_is_of_its_datum_alone_without_discrimination(norm):
    torch.manual_seed(0)
    critic, x = ResNetCritic(CIFAR, 8, norm=norm, vector=3).eval(), torch.rand(3, *CIFAR)
    alone = critic(x[1:2], Condition(told(3).vector[1:2])).score
    torch.testing.assert_close(critic(x, told(3)).score[1:2], alone, rtol=1e-4, atol=1e-5)
    assert not critic.whole_batch
    assert ResNetCritic(CIFAR, 8, norm=norm, minibatch=2).whole_batch


def test_layer_norm_is_that_of_all_of_a_datums_maps():
    torch.manual_seed(0)
    critic, x = ResNetCritic(CIFAR, 4, norm="layer"), torch.rand(2, 4, 8, 8)
    norm = critic.blocks[1].norm_1
    torch.testing.assert_close(norm(x), F.layer_norm(x, (4, 8, 8), eps=1e-6))


def norms(network: nn.Module) -> list[float]:
    """The largest singular value of each layer, as a matrix of what goes out by what comes in."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    return [torch.linalg.svdvals(layer.weight.detach().flatten(1))[0].item() for layer in layers]


def test_spectral_norms_are_those_of_the_singular_value_decomposition():
    """Weights are divided by what power iteration, one round each time that they are used, takes for their norm."""
    torch.manual_seed(0)
    critic = shaken(ResNetCritic((1, 8, 8), 4, vector=3))
    x = torch.rand(2, 1, 8, 8)
    for _ in range(100):
        critic(x, told(2))
    critic.eval()
    found = norms(critic)
    assert len(found) == 12
    assert found == pytest.approx([1] * 12, abs=1e-3)
    layer = critic.blocks[1].conv_1
    free = layer.parametrizations.weight.original
    u, s, v = torch.linalg.svd(free.detach().flatten(1), full_matrices=False)
    assert s[0] > 1.1
    torch.testing.assert_close(layer.weight, free / s[0], rtol=1e-3, atol=1e-4)
    # The slope of W / s is G / s - (G : W) u v' / s^2, since that of s is u v'.
    along = torch.randn_like(free)
    (slope,) = torch.autograd.grad((layer.weight * along).sum(), free)
    outer = torch.outer(u[:, 0], v[0]).view_as(free)
    expected = along / s[0] - (along * free.detach()).sum() / s[0] ** 2 * outer
    torch.testing.assert_close(slope, expected, rtol=1e-2, atol=1e-2)


def test_a_look_in_evaluation_leaves_the_power_iteration_where_it_was():
    torch.manual_seed(0)
    critic = shaken(ResNetCritic((1, 8, 8), 4)).eval()
    before = {name: value.clone() for name, value in critic.named_buffers()}
    critic(torch.rand(2, 1, 8, 8))
    assert len(before) == 22
    assert all(torch.equal(value, before[name]) for name, value in critic.named_buffers())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResNetGenerator((1, 30, 30), 256, 5, norm="batch", multipliers=(1,)), r"^generator.multipliers=\[1\]"),
        (lambda: ResNetGenerator((1, 27, 27), 256, 5), "^generator: cannot make 27x27 pixels"),
        (lambda: ResNetGenerator((2,), 256, 5), "^generator: is for images"),
        (lambda: ResNetGenerator(CIFAR, 256, 5, norm="layer"), "^generator.norm=layer must be"),
        (lambda: ResNetCritic((2,)), "^critic: is for images"),
        (lambda: ResNetCritic((1, 30, 28)), "^critic.downs=2: 30x28 pixels cannot be halved so often; give fewer$"),
        (lambda: ResNetCritic(CIFAR, downs=5), "^critic.downs=5 must be at least 0 and at most 4, the blocks$"),
        (lambda: ResNetCritic(CIFAR, multipliers=()), r"^critic.multipliers=\[\]"),
        (lambda: ResNetCritic(CIFAR, norm="batch"), "^critic.norm=batch must be"),
        (lambda: ResNetCritic(CIFAR, pool="max"), "^critic.pool=max must be"),
    ],
)
def test_what_cannot_be_made_is_said_in_a_line(make, message):
    with pytest.raises(UserError, match=message):
        make()
