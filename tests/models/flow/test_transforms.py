"""What every transform promises."""

import pytest
import torch
from every_transform import MAKE, made, rows

from genlab.core.rng import Rng
from genlab.models.flow.batch_norm import BatchNorm
from genlab.models.flow.glow import Glow
from genlab.models.flow.permutation import random_order
from genlab.models.flow.squeeze import Squeeze, corners_together
from genlab.networks.actnorm import moments, shown_first

every = pytest.mark.parametrize("name", MAKE)


@every
def test_the_inverse_inverts(name):
    transform = made(name)
    x, context = rows(name)
    z, log_det = transform(x, context)
    back, log_det_back = transform.inverse(z, context)
    torch.testing.assert_close(back, x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(log_det_back, -log_det, rtol=1e-9, atol=1e-9)


@every
def test_log_det_is_that_of_the_jacobian(name):
    transform = made(name)
    x, context = rows(name)
    _, log_det = transform(x, context)
    for i in range(len(x)):
        jacobian = torch.autograd.functional.jacobian(
            lambda row: transform(row[None], context[i : i + 1])[0].flatten(),  # noqa: B023
            x[i],
        )
        expected = torch.linalg.slogdet(jacobian.flatten(1))[1]
        torch.testing.assert_close(log_det[i], expected, rtol=1e-8, atol=1e-8)


@every
def test_a_row_depends_on_itself_alone(name):
    transform = made(name)
    x, context = rows(name)
    for map_ in (transform.forward, transform.inverse):
        given = x if map_ == transform.forward else transform(x, context)[0]
        whole = map_(given, context)
        alone = map_(given[1:2], context[1:2])
        for one, other in zip(alone, whole, strict=True):
            torch.testing.assert_close(one[0], other[1], rtol=1e-10, atol=1e-10)


@every
def test_every_parameter_has_a_gradient(name):
    transform = made(name)
    parameters = list(transform.parameters())
    x, context = rows(name)
    z, log_det = transform(x, context)
    weight = Rng(5, torch.arange(len(z))).normal_like(z)
    value = (z.square() * weight).sum() + log_det.sum()
    for gradient in torch.autograd.grad(value, parameters) if parameters else ():
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0


@every
def test_the_shape_is_that_which_is_said(name):
    transform, (shape, _) = made(name), MAKE[name]
    x, context = rows(name)
    assert transform(x, context)[0].shape[1:] == transform.out_shape(shape)


def test_squeezing_is_in_the_published_order():
    x = torch.arange(32.0).view(1, 2, 4, 4)
    z, _ = Squeeze()(x)
    for channel in range(2):
        for row in range(2):
            for column in range(2):
                assert torch.equal(z[0, 4 * channel + 2 * row + column], x[0, channel, row::2, column::2])
    # Before a split, the first half are two opposite corners of both channels.
    kept = z[:, corners_together(2)].chunk(2, dim=1)[0]
    corners = [x[0, c, i::2, i::2] for i in range(2) for c in range(2)]
    assert torch.equal(kept[0], torch.stack(corners))


def test_a_random_order_is_a_permutation_of_its_seed():
    assert torch.equal(random_order(40, 3), random_order(40, 3))
    assert not torch.equal(random_order(40, 3), random_order(40, 4))
    assert torch.equal(random_order(40, 3).sort().values, torch.arange(40))


def test_the_first_data_leave_each_step_of_glow_normalised():
    torch.manual_seed(0)
    glow, x = Glow((1, 4, 4), 1, 3, 8), 5 + 3 * torch.randn(64, 1, 4, 4)
    seen = []
    for layer in (m for m in glow.modules() if type(m).__name__ == "ChannelScale"):
        layer.register_forward_hook(lambda module, given, out: seen.append(moments(out)))
    with torch.no_grad(), shown_first(glow):
        glow(x)
    assert len(seen) == 9
    for mean, variance in seen:
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-4, rtol=0)
        torch.testing.assert_close(variance, torch.ones_like(variance), atol=1e-3, rtol=0)
    before = glow(x)[0]
    assert torch.equal(before, glow(x)[0])


def test_batch_norm_normalises_by_the_batch_and_comes_to_its_averages():
    norm, x = BatchNorm(2).double().train(), 4 + 3 * torch.randn(50, 2, 3, 3, dtype=torch.float64)
    z, log_det = norm(x)
    mean, variance = moments(z)
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-9, rtol=0)
    torch.testing.assert_close(variance, torch.ones_like(variance), atol=1e-4, rtol=0)
    # The Jacobian of the whole batch knows that its statistics move; the published density does not.
    torch.testing.assert_close(log_det, (-9 * (moments(x)[1] + 1e-5).log().sum() / 2).expand(50))
    for _ in range(300):
        norm(x)
    torch.testing.assert_close(norm.eval()(x)[0], z, rtol=1e-6, atol=1e-6)


def test_recomputed_steps_have_the_same_gradients():
    x = torch.rand(4, 1, 4, 4, dtype=torch.float64)
    gradients, kept = [], []
    for recompute in (False, True):
        torch.manual_seed(0)
        glow = Glow((1, 4, 4), 2, 3, 8, recompute=recompute).double()
        with torch.no_grad():
            for parameter in glow.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        sizes = []

        def count(tensor, sizes=sizes):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            z, log_det = glow(x)
            value = z.square().sum() - log_det.sum()
        kept.append(sum(sizes))
        gradients.append(torch.autograd.grad(value, list(glow.parameters())))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert kept[1] < kept[0] / 4
