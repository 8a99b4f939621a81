"""StyleGAN2's players: filters against explicit ones, the published sizes, what rows depend on, slopes of slopes."""

import math

import pytest
import torch
import torch.nn.functional as F

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.adversarial.truncation import Truncation
from genlab.networks.adversarial.contract import Styled
from genlab.networks.adversarial.stylegan2 import StyleGAN2Generator
from genlab.networks.adversarial.stylegan2_critic import StyleGAN2Critic, group_deviation
from genlab.networks.adversarial.stylegan2_layers import EqualConv, EqualLinear, ModulatedConv
from genlab.networks.condition import Condition

DOUBLE = {"dtype": torch.float64}
SHAPE = (3, 16, 16)


def rng(*index: int, name: str = "test") -> Rng:
    return Rng(0, torch.tensor(index or (0, 1, 2))).stage(name)


def generator(**options) -> StyleGAN2Generator:
    torch.manual_seed(0)
    made = StyleGAN2Generator(**{"shape": SHAPE, "size": 4, "style": 6, "mapping": 2, "width": 8, **options})
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith(("strength", "bias")):
                parameter += 0.3 * torch.randn_like(parameter)
    return made


def critic(**options) -> StyleGAN2Critic:
    torch.manual_seed(0)
    return StyleGAN2Critic(**{"shape": SHAPE, "width": 8, "mapping": 2, **options})


def upfirdn(x: torch.Tensor, up: int, down: int, pad: tuple[int, int], gain: float) -> torch.Tensor:
    """Zeros between the places, a margin, [1, 3, 3, 1] / 8 along each axis, every so many places: one at a time."""
    rows, height, width = x.flatten(0, 1).shape
    wide = x.new_zeros(rows, height * up, width * up)
    wide[:, ::up, ::up] = x.flatten(0, 1)
    wide = F.pad(wide, (*pad, *pad))
    taps = x.new_tensor([1, 3, 3, 1]) / 8
    out = x.new_zeros(rows, wide.shape[1] - 3, wide.shape[2] - 3)
    for i in range(4):
        for j in range(4):
            out += gain * taps[i] * taps[j] * wide[:, i : i + out.shape[1], j : j + out.shape[2]]
    return out[:, ::down, ::down].unflatten(0, x.shape[:2])


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize(("side", "up"), [(3, False), (1, False), (3, True)])
def test_a_modulated_filter_is_one_of_each_row(side, up, demodulate):
    torch.manual_seed(0)
    conv = ModulatedConv(3, 5, 4, side, up, demodulate).double()
    x, w = torch.randn(2, 3, 6, 6, **DOUBLE), torch.randn(2, 4, **DOUBLE)
    rows = []
    for row in range(2):
        s = w[row] @ conv.affine.weight.T / 2 + conv.affine.bias
        filter = conv.filter / math.sqrt(3 * side**2) * s[None, :, None, None]
        if demodulate:
            filter = filter / (filter.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        one = x[row : row + 1]
        if up:
            # Between zeros, the filter the other way round, and what sticks out on each side; then smoothed.
            between = torch.zeros(1, 3, 11, 11, **DOUBLE)
            between[:, :, ::2, ::2] = one
            grown = F.conv2d(F.pad(between, (2, 2, 2, 2)), filter.flip(2, 3))
            rows.append(upfirdn(grown, 1, 1, (1, 1), 4))
        else:
            rows.append(F.conv2d(one, filter, padding=side // 2))
    torch.testing.assert_close(conv(x, w), torch.cat(rows))
    assert conv(x, w).shape[2:] == ((12, 12) if up else (6, 6))


@pytest.mark.parametrize(("side", "pad"), [(3, (2, 2)), (1, (1, 1))])
def test_a_halving_convolution_smooths_first(side, pad):
    torch.manual_seed(0)
    conv, x = EqualConv(3, 5, side, down=True).double(), torch.randn(2, 3, 8, 6, **DOUBLE)
    smooth = upfirdn(x, 1, 1 if side == 3 else 2, pad, 1)
    expected = F.conv2d(smooth, conv.filter / math.sqrt(3 * side**2), stride=2 if side == 3 else 1)
    torch.testing.assert_close(conv(x), expected)
    assert conv(x).shape == (2, 5, 4, 3)


def test_images_of_smaller_maps_are_smoothly_doubled():
    x = torch.randn(2, 3, 5, 4, **DOUBLE)
    torch.testing.assert_close(generator().up.double()(x), upfirdn(x, 2, 1, (2, 1), 4))


def test_weights_learn_at_one_rate_whatever_the_inputs():
    """One step of Adam, whose size is the learning rate, moves an output by as much as its inputs and rate say."""
    moved = {}
    for inputs in (10, 1000):
        for rate in (1.0, 0.01):
            layer = EqualLinear(inputs, 1, bias=None, rate=rate).double()
            before = layer(torch.ones(1, inputs, **DOUBLE))
            before.sum().backward()
            torch.optim.Adam(layer.parameters(), lr=1e-3).step()
            moved[inputs, rate] = (before - layer(torch.ones(1, inputs, **DOUBLE))).item()
    for (inputs, rate), change in moved.items():
        assert change == pytest.approx(1e-3 * rate * math.sqrt(inputs), rel=1e-4)


def test_first_maps_have_variance_one():
    torch.manual_seed(0)
    conv, x = ModulatedConv(64, 64, 16), torch.randn(4, 64, 16, 16)
    assert conv(x, 5 * torch.randn(4, 16)).var((2, 3)).mean().item() == pytest.approx(1, abs=0.1)
    assert EqualLinear(400, 300)(torch.randn(50, 400)).var().item() == pytest.approx(1, abs=0.1)


def test_the_sizes_are_the_published_ones():
    """Of config F for 1024x1024 pixels."""
    with torch.device("meta"):
        players = (
            StyleGAN2Generator((3, 1024, 1024), 512, product=32768),
            StyleGAN2Critic((3, 1024, 1024), product=32768),
        )
    assert [sum(p.numel() for p in player.parameters()) for player in players] == [30_370_060, 29_012_513]


def test_a_row_depends_on_itself_alone():
    made = generator()
    z = torch.randn(3, 4)
    for training in (True, False):
        made.train(training)
        whole = made(z, None, rng())
        assert whole.shape == (3, *SHAPE)
        torch.testing.assert_close(made(z[1:2], None, rng(1)), whole[1:2], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(made(z, None, rng(name="other")), whole, atol=1e-3)
    torch.testing.assert_close(made(z), made.synthesize(made.styles(z)))


def test_styles_change_once_on_the_way_where_they_are_mixed():
    made = generator(mixing=0.5)
    rows = torch.arange(400)
    w = made.styles(torch.randn(400, 4))
    found = made.mixed(w, None, Rng(0, rows))
    own = (found == w[:, None]).all(2)
    assert own[:, 0].all()
    assert not (own[:, 1:] & ~own[:, :-1]).any()
    assert (~own[:, -1]).float().mean().item() == pytest.approx(0.5, abs=0.08)
    changes = own.sum(1)[~own[:, -1]]
    assert set(changes.tolist()) == set(range(1, made.layers))
    others = found[torch.arange(400), -1][~own[:, -1]]
    assert others.unique(dim=0).shape[0] == len(others)


def test_the_mean_style_follows_those_of_training_and_truncation_goes_there():
    made = generator(mixing=0)
    assert isinstance(made, Styled)
    z = torch.randn(3, 4)
    w = made.styles(z).detach()
    made.train()(z, None, rng())
    torch.testing.assert_close(made.mean_style, 0.002 * w.mean(0))
    made.eval()(z, None, rng())
    torch.testing.assert_close(made.mean_style, 0.002 * w.mean(0))
    made.mean_style.copy_(w.mean(0))
    same, half = (Truncation(psi)(made, z, None, rng(0, 0, 0)) for psi in (0.0, 0.5))
    torch.testing.assert_close(same[:1].expand_as(same), same, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(half, made.synthesize((w + w.mean(0)) / 2, rng(0, 0, 0)))
    torch.testing.assert_close(Truncation(1)(made, z, None, rng()), made(z, None, rng()))


def test_both_are_told_the_condition():
    made, judge = generator(vector=5).eval(), critic(vector=5, group=0).eval()
    z, x, one, two = torch.randn(3, 4), torch.randn(3, *SHAPE), torch.randn(3, 5), torch.randn(3, 5)
    first, second = (made(z, Condition(vector=vector)) for vector in (one, two))
    assert (first - second).abs().amax((1, 2, 3)).min() > 1e-2
    judged = judge(x, Condition(vector=one))
    assert judged.score.shape == (3,)
    product = judge.score(judged.features) * judge.mapping(None, Condition(vector=one))
    torch.testing.assert_close(judged.score, product.sum(1) / math.sqrt(8))
    assert not torch.allclose(judge(x, Condition(vector=two)).score, judged.score)
    # A row's length is no matter, only where it points.
    torch.testing.assert_close(judge(x, Condition(vector=3 * one)).score, judged.score)
    for network, inputs in ((made, z), (judge, x)):
        with pytest.raises(UserError, match=r"the network takes a 5-wide condition.vector, and none was given"):
            network(inputs)


@pytest.mark.parametrize("rows", [2, 3, 4, 8, 11])
def test_the_deviation_is_that_of_every_so_manyth_datum(rows):
    x = torch.randn(rows, 3, 2, 2, **DOUBLE)
    groups = max(1, rows // 4)
    expected = torch.stack([x[i % groups :: groups].var(0, correction=0).add(1e-8).sqrt().mean() for i in range(rows)])
    torch.testing.assert_close(group_deviation(x, 4), expected)


def test_the_critic_sees_how_its_batch_varies():
    judge, x = critic(), torch.randn(4, *SHAPE)
    assert judge.whole_batch
    assert not critic(group=0).whole_batch
    alone = critic(group=0)
    torch.testing.assert_close(alone(x).score[:1], alone(x[:1]).score)
    assert not torch.allclose(judge(x).score[:1], judge(x[:1].expand(4, -1, -1, -1)).score[:1])
    with pytest.raises(UserError, match=r"^critic.group: compares the data of a batch, and trainer.batch_size=1"):
        judge.train()(x[:1])
    assert judge.eval()(x[:1]).score.isfinite()


def test_slopes_have_slopes():
    """As R1 needs them."""
    judge = critic(shape=(1, 8, 8), width=3).double()
    weight = judge.blocks[0].first.filter

    def slope(filter: torch.Tensor) -> torch.Tensor:
        x = torch.linspace(-1, 1, 2 * 64, **DOUBLE).sin().view(2, 1, 8, 8).requires_grad_()
        score = torch.func.functional_call(judge, {"blocks.0.first.filter": filter}, x).score
        return torch.autograd.grad(score.sum(), x, create_graph=True)[0].square().sum()

    assert torch.autograd.gradcheck(slope, weight.detach().clone().requires_grad_())


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 28, 28), r"cannot make 28x28 pixels, .* pad the data \(data.pad=32\)"),
        ((3, 32, 64), r"cannot make 32x64 pixels, whose sides must be one power of two"),
        ((3, 4, 4), r"cannot make 4x4 pixels, .* 8 or more"),
        ((2,), r"is for images"),
    ],
)
def test_sides_that_cannot_be_made_are_refused(shape, message):
    with pytest.raises(UserError, match=f"^generator: {message}"):
        StyleGAN2Generator(shape, 4)
    with pytest.raises(UserError, match=f"^critic: {message}"):
        StyleGAN2Critic(shape)


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(UserError, match=r"^generator.product=15: leaves no channel of 16x16 pixels; give at least 16"):
        generator(product=15)
    with pytest.raises(ValueError, match=r"mixing=1.5 must be in \[0, 1\]"):
        generator(mixing=1.5)
    with pytest.raises(ValueError, match="group=1 must be at least 2, or 0 for none"):
        critic(group=1)
