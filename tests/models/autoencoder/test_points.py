"""Codes that are points: what is done to data before, what codes cost, and what is fitted to them after."""

import math

import pytest
import torch
import torch.distributed as dist
from sklearn.mixture import GaussianMixture

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.autoencoder.contraction import squared_jacobian
from genlab.models.autoencoder.corruption import Gaussian, Masking, SaltAndPepper
from genlab.models.autoencoder.density import CodeDensity
from genlab.models.autoencoder.point import KSparse, Point
from genlab.models.autoencoder.sparse import Sparse, divergence

ROWS = 2000


def rng(rows: int = ROWS, seed: int = 0) -> Rng:
    return Rng(seed, torch.arange(rows))


def test_masking_blots_out_whole_places_at_its_rate():
    x = torch.full((ROWS, 3, 4, 4), 0.5)
    seen = Masking(0.3, value=-0.25)(x, rng())
    blotted = seen == -0.25
    assert torch.equal(blotted | (seen == 0.5), torch.ones_like(blotted))
    assert torch.equal(blotted, blotted[:, :1].expand_as(blotted))
    assert abs(blotted[:, 0].float().mean() - 0.3) < 4 * math.sqrt(0.21 / (16 * ROWS))


def test_salt_is_as_frequent_as_pepper():
    x = torch.full((ROWS, 16), 0.5)
    seen = SaltAndPepper(0.4)(x, rng())
    for value, rate in ((-1.0, 0.2), (1.0, 0.2), (0.5, 0.6)):
        assert abs((seen == value).float().mean() - rate) < 4 * math.sqrt(rate * (1 - rate) / (16 * ROWS))


def test_gaussian_noise_has_its_scale():
    noise = Gaussian(0.3)(torch.zeros(ROWS, 16), rng())
    assert abs(noise.std() - 0.3) < 0.01
    assert abs(noise.mean()) < 0.01


@pytest.mark.parametrize("corruption", [Gaussian(), Masking(), SaltAndPepper()], ids=lambda c: type(c).__name__)
def test_what_is_done_to_a_datum_is_its_own(corruption):
    x = torch.linspace(-1, 1, 8 * 12).reshape(8, 3, 2, 2)
    whole = corruption(x, rng(8))
    assert torch.equal(corruption(x[2:5], rng(8).rows(slice(2, 5))), whole[2:5])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Masking(1.5), "probability must be in"),
        (lambda: SaltAndPepper(-0.1), "probability must be in"),
        (lambda: Gaussian(-1.0), "scale must be"),
        (lambda: Point(0), "size must be at least 1"),
        (lambda: KSparse(4, k=5), "k must be 1 to size=4"),
        (lambda: KSparse(4, k=2, alpha=0.5), "alpha must be at least 1"),
        (lambda: Sparse(4, rho=0.0), "rho must be between 0 and 1"),
        (lambda: Sparse(4, penalty=-1.0), "penalty must be at least 0"),
        (lambda: CodeDensity(2, components=0), "components must be at least 1"),
    ],
)
def test_what_is_out_of_range_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_the_k_largest_numbers_survive_and_have_the_gradients():
    h = torch.tensor([[3.0, -1.0, 2.0, 0.5]], requires_grad=True)
    bottleneck = KSparse(4, k=2, alpha=1.5)
    z = bottleneck(h, step=0).mode()
    assert z.tolist() == [[3.0, 0.0, 2.0, 0.0]]
    z.sum().backward()
    assert h.grad is not None
    assert h.grad.tolist() == [[1.0, 0.0, 1.0, 0.0]]
    assert bottleneck(h).mode().tolist() == [[3.0, 0.0, 2.0, 0.5]]


def test_the_sparse_penalty_is_its_formula_and_its_gradient_pulls_to_rho():
    h = torch.tensor([[-4.0, 0.0], [-2.0, 1.0], [-3.0, 2.0]], dtype=torch.float64, requires_grad=True)
    posterior = Sparse(2, rho=0.05, penalty=2.0)(h, step=3)
    r = torch.sigmoid(h).mean(0)
    by_hand = sum(0.05 * math.log(0.05 / p) + 0.95 * math.log(0.95 / (1 - p)) for p in r.tolist())
    penalty = posterior.penalties["sparsity"]
    torch.testing.assert_close(penalty, torch.full((3,), 2 * by_hand, dtype=torch.float64))
    penalty.mean().backward()
    s = torch.sigmoid(h)
    expected = 2 * (-0.05 / r + 0.95 / (1 - r)) * s * (1 - s) / 3
    torch.testing.assert_close(h.grad, expected.detach())
    assert not Sparse(2)(h).penalties


def test_a_divergence_is_0_at_rho():
    h = torch.full((7, 1), math.log(0.05 / 0.95), dtype=torch.float64)
    assert float(divergence(0.05, h).abs()) < 1e-12


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("level", "slope"), [(-40.0, -0.05), (40.0, 0.95)])
def test_numbers_that_are_never_or_always_on_are_drawn_back(kind, level, slope):
    """d KL / dh = (r - rho) / N where all rows are alike, however far h is from 0."""
    h = torch.full((4, 3), level, dtype=kind, requires_grad=True)
    penalty = Sparse(3, penalty=1.0)(h, step=0).penalties["sparsity"]
    assert penalty.isfinite().all()
    penalty.mean().backward()
    torch.testing.assert_close(h.grad.float(), torch.full((4, 3), slope / 4), rtol=1e-2, atol=1e-6)


def cost(rows: slice, w: torch.Tensor) -> torch.Tensor:
    """The mean penalty of some rows of 6, where the encoder has a parameter w."""
    h = torch.linspace(-3, 2, 12, dtype=torch.float64).reshape(6, 2)[rows] * w
    return Sparse(2)(h, step=0).penalties["sparsity"].mean()


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    w = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    # Parts that differ in size: the mean is over data, and not over processes.
    value = cost([slice(0, 2), slice(2, 6)][rank], w)
    density = CodeDensity(2, components=2)
    density.fit([torch.randn(50, 2, generator=torch.Generator().manual_seed(rank))])
    found = (value.detach(), torch.autograd.grad(value, w)[0], density.state_dict())
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_have_the_penalty_of_their_whole_batch_and_one_density(tmp_path):
    torch.multiprocessing.spawn(process, args=(str(tmp_path),), nprocs=2)
    (value, slope, density), (other, its_slope, its_density) = (torch.load(tmp_path / f"{r}.pt") for r in range(2))
    w = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    whole = cost(slice(0, 6), w)
    torch.testing.assert_close(torch.stack([value, other]), whole.detach().expand(2))
    torch.testing.assert_close((slope + its_slope) / 2, torch.autograd.grad(whole, w)[0])
    assert density["fitted"]
    assert all(torch.equal(density[key], its_density[key]) for key in density)


def test_the_contraction_is_the_norm_of_the_jacobian():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)).double()
    x = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    found = squared_jacobian(network(x), x)
    expected = [torch.autograd.functional.jacobian(network, row).square().sum() for row in x.detach()]
    torch.testing.assert_close(found, torch.stack(expected))
    with torch.enable_grad():
        z = network(x)
    with torch.no_grad():
        measured = squared_jacobian(z, x)
    torch.testing.assert_close(measured, found.detach())
    assert not measured.requires_grad
    found.sum().backward()
    assert network[0].weight.grad.abs().sum() > 0


def test_the_density_is_scikit_learns_mixture_and_is_drawn_from():
    torch.manual_seed(0)
    z = torch.cat([torch.randn(400, 2) * 0.3 + 2, torch.randn(600, 2) @ torch.tensor([[1.0, 0.5], [0.0, 0.2]]) - 2])
    density = CodeDensity(2, components=2)
    density.fit(z.split(128))
    mixture = GaussianMixture(2, random_state=0).fit(z.double().numpy())
    expected = torch.from_numpy(mixture.score_samples(z.double().numpy()))
    assert (density.log_prob(z) - expected).abs().max() < 1e-2
    drawn = density.sample(rng(4 * ROWS), (2,))
    assert (drawn.mean(0) - z.mean(0)).abs().max() < 0.1
    assert (drawn.T.cov() - z.T.cov()).abs().max() < 0.25
    assert torch.equal(density.sample(rng(10), (2,))[3:5], density.sample(rng(10).rows(slice(3, 5)), (2,)))
    other = CodeDensity(2, components=2)
    other.load_state_dict(density.state_dict())
    assert torch.equal(other.sample(rng(5), (2,)), density.sample(rng(5), (2,)))


def test_a_density_forgets_what_it_was_fitted_to():
    density, fresh = CodeDensity(2, components=2), CodeDensity(2, components=2)
    density.fit([torch.randn(50, 2, generator=torch.Generator().manual_seed(0))])
    density.forget()
    assert all(torch.equal(value, fresh.state_dict()[key]) for key, value in density.state_dict().items())


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        (torch.zeros(3, 2), r"model.density.components=4: there are 3 training data"),
        (torch.full((9, 2), math.nan), r"model.density: the codes of training data are not finite"),
    ],
)
def test_codes_that_nothing_can_be_fitted_to_are_refused(codes, said):
    density = CodeDensity(2, components=4)
    with pytest.raises(UserError, match=said):
        density.fit([codes])
    assert not density.fitted


def test_codes_that_never_move_are_drawn_as_they_are():
    density = CodeDensity(2, components=1)
    density.fit([torch.tensor([[1.0, -2.0]]).expand(20, 2)])
    torch.testing.assert_close(
        density.sample(rng(5), (2,)), torch.tensor([[1.0, -2.0]]).expand(5, 2), atol=1e-4, rtol=0
    )
