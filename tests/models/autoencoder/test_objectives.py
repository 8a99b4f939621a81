"""Laws of what autoencoders minimise, on one whose likelihood is known in closed form."""

import math

import pytest
import torch
import torch.distributed as dist
from linear_gaussian import W, data, exact, likelihood, posterior
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.autoencoder.bottleneck import Posterior
from genlab.models.autoencoder.gaussian import DiagonalGaussian
from genlab.models.autoencoder.likelihood import ImportanceWeighted as Estimate
from genlab.models.autoencoder.objective import Capacity, Elbo, ImportanceWeighted, Objective
from genlab.models.autoencoder.total_correlation import TotalCorrelation

OFF = (0.2, 1.4)
OBJECTIVES = {
    "elbo": Elbo(),
    "capacity": Capacity(),
    "importance": ImportanceWeighted(5),
    "double": ImportanceWeighted(5, "doubly_reparametrized"),
    "total correlation": TotalCorrelation(100),
}
SAMPLINGS = ("weighted", "stratified")


def of_rows(rows: int, seed: int = 0) -> Rng:
    return Rng(seed, torch.arange(rows)).stage("code")


def asked(objective: Objective, rows: int = 8, step: int = 0) -> dict[str, Tensor]:
    x = data(rows)
    return objective(likelihood(x), posterior(x, *OFF), of_rows(rows), step)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_penalties_of_the_bottleneck_are_added(name):
    x = data(6)
    plain, q = posterior(x, *OFF), posterior(x, *OFF)
    q.penalties = {"commitment": torch.arange(6.0)}
    before, after = (OBJECTIVES[name](likelihood(x), each, of_rows(6), 0)["loss"] for each in (plain, q))
    assert before.shape == (6,)
    torch.testing.assert_close(after - before, torch.arange(6.0).double())


@pytest.mark.parametrize("draws", [1, 3])
def test_the_bound_weighs_its_divergence(draws):
    x = data(8)
    q = posterior(x, *OFF)
    distortion = -likelihood(x)(q.sample(of_rows(8), draws)).mean(1)
    for beta in (0.0, 1.0, 4.0):
        found = Elbo(beta, draws)(likelihood(x), q, of_rows(8), 0)
        torch.testing.assert_close(found["distortion"], distortion)
        torch.testing.assert_close(found["rate"], q.kl())
        torch.testing.assert_close(found["loss"], distortion + beta * q.kl())


@pytest.mark.parametrize(("step", "share"), [(0, 0.1), (4, 0.5), (9, 1), (10, 1), (10_000, 1)])
def test_the_weight_rises_linearly(step, share):
    found = asked(Elbo(4.0, warmup_steps=10), step=step)
    torch.testing.assert_close(found["loss"], found["distortion"] + 4 * share * found["rate"])


@pytest.mark.parametrize(("step", "nats"), [(0, 0.0), (25, 1.0), (50, 2.0), (100, 4.0), (1000, 4.0)])
def test_the_capacity_rises_linearly_and_holds_each_datum(step, nats):
    found = asked(Capacity(capacity=4.0, steps=100, gamma=7.0), step=step)
    rate = found["rate"]
    torch.testing.assert_close(found["loss"], found["distortion"] + 7 * (rate - nats).abs())
    if nats == 2.0:
        assert ((rate < nats).any(), (rate > nats).any()) == (True, True)


def test_importance_weights_make_the_estimate_of_the_same_draws():
    x = data(8)
    q = posterior(x, *OFF)
    found = ImportanceWeighted(13)(likelihood(x), q, of_rows(8), 0)
    torch.testing.assert_close(found["loss"], Estimate(13)(likelihood(x), q, of_rows(8)).nats)
    assert (found["loss"] < -found["elbo"]).all()


def gradients(gradient: str, rows: int, k: int, off: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Of each datum's loss in its posterior's mean and log-variance (rows, 6), and of their mean in W."""
    x, w = data(rows), W.clone().requires_grad_()
    q = posterior(x, *off)
    q = DiagonalGaussian(q.mean.requires_grad_(), q.log_variance.contiguous().requires_grad_())
    loss = ImportanceWeighted(k, gradient)(likelihood(x, w), q, of_rows(rows), 0)["loss"]
    mean, log_variance, decoder = torch.autograd.grad(loss.sum(), (q.mean, q.log_variance, w))
    return torch.cat([mean, log_variance], 1), decoder / rows


def test_the_standard_gradient_is_the_weighted_mean_of_those_of_the_weights():
    x, k = data(3), 4
    mean = posterior(x, *OFF).mean.requires_grad_()
    q = DiagonalGaussian(mean, posterior(x, *OFF).log_variance)
    z = q.sample(of_rows(3), k)
    weights = likelihood(x)(z) + q.log_prior(z) - q.log_prob(z)
    share = (weights.exp() / weights.exp().sum(1, keepdim=True)).detach()
    each = [torch.autograd.grad(weights[:, i].sum(), mean, retain_graph=True)[0] for i in range(k)]
    expected = -sum(share[:, i : i + 1] * each[i] for i in range(k))
    torch.testing.assert_close(gradients("standard", 3, k, OFF)[0][:, : mean.shape[1]], expected)


def test_the_doubly_reparametrized_gradient_has_the_mean_of_the_standard_one():
    rows = 20_000
    (standard, of_w), (double, same) = (gradients(g, rows, 6, OFF) for g in ("standard", "doubly_reparametrized"))
    difference = standard - double
    assert (difference.mean(0).abs() < 4 * difference.std(0) / math.sqrt(rows)).all()
    assert (difference.std(0) > 0.01).all()
    torch.testing.assert_close(of_w, same)


def test_at_the_posterior_the_doubly_reparametrized_gradient_is_zero_without_noise():
    standard, double = (gradients(g, 10, 6, (0.0, 1.0))[0] for g in ("standard", "doubly_reparametrized"))
    assert double.abs().max() < 1e-10
    assert standard.abs().max() > 0.01


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("beta", [1.0, 6.0])
def test_the_parts_add_up_to_the_divergence_and_beta_1_is_the_bound(sampling, beta):
    x = data(8)
    q = posterior(x, *OFF)
    found = TotalCorrelation(50, beta, sampling)(likelihood(x), q, of_rows(8), 0)
    z = q.sample(of_rows(8))
    bound = -likelihood(x)(z)[:, 0] + (q.log_prob(z) - q.log_prior(z))[:, 0]
    total = found["total_correlation"]
    torch.testing.assert_close(found["loss"] - (beta - 1) * total, bound)
    parts = found["information"] + total + found["dimension_wise"]
    torch.testing.assert_close(parts, (q.log_prob(z) - q.log_prior(z))[:, 0])


def split(
    mean: Tensor, spread: float, sampling: str, data_size: int | None = None, draws: int = 1
) -> dict[str, Tensor]:
    """The mean parts for codes N(mean, spread^2), over several draws."""
    q = DiagonalGaussian(mean, torch.full_like(mean, 2 * math.log(spread)))
    objective, index = TotalCorrelation(data_size or len(mean), 1.0, sampling), torch.arange(len(mean))
    found = [objective.split(q, q.sample(of_rows(len(mean), seed)), index) for seed in range(draws)]
    return {name: torch.stack([each[name].mean() for each in found]).mean() for name in found[0]}


def test_with_all_data_codes_that_say_one_thing_twice_are_dependent():
    """N codes far from each other on a diagonal: log N nats of information, and as many of total correlation."""
    line = 100.0 * torch.arange(6.0).double()
    found = split(torch.stack([line, line], 1), 0.1, "stratified")
    torch.testing.assert_close(found["information"], torch.tensor(6.0).double().log(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found["total_correlation"], torch.tensor(6.0).double().log(), rtol=1e-12, atol=1e-12)


def test_with_all_data_codes_on_a_grid_are_independent():
    line = 100.0 * torch.arange(4.0).double()
    grid = torch.cartesian_prod(line, line)
    found = split(grid, 0.1, "stratified")
    torch.testing.assert_close(found["information"], torch.tensor(16.0).double().log(), rtol=1e-12, atol=1e-12)
    assert found["total_correlation"].abs() < 1e-10


def test_with_all_data_the_parts_are_those_of_normal_codes():
    """q(z | x) = N(A x, s^2) of normal x has a normal q(z), of which every part is known."""
    s, rows = 0.6, 2000
    a = torch.tensor([[1.0, 0.0], [0.8, 0.5]], dtype=torch.float64)
    mean = Rng(3, torch.arange(rows)).normal(2, dtype=torch.float64) @ a.T
    mean = mean - mean.mean(0)
    covariance = mean.T @ mean / rows + s**2 * torch.eye(2)
    found = split(mean, s, "stratified", draws=2)
    correlation = -(covariance.det() / covariance.diag().prod()).log() / 2
    assert found["total_correlation"] == pytest.approx(correlation.item(), abs=0.03)
    assert found["information"] == pytest.approx((covariance.det() / s**4).log().item() / 2, abs=0.05)
    dimension_wise = (covariance.diag() - 1 - covariance.diag().log()).sum() / 2
    assert found["dimension_wise"] == pytest.approx(dimension_wise.item(), abs=0.05)


def test_with_all_data_sampling_by_weights_is_too_small_by_n():
    """So its information is larger by log N, and with D numbers its total correlation smaller by (D - 1) log N."""
    mean = posterior(data(7)).mean
    weighted, stratified = (split(mean, 0.5, sampling) for sampling in SAMPLINGS)
    log_n, numbers = math.log(7), mean.shape[1]
    for name, off in (("information", 1), ("total_correlation", numbers - 1), ("dimension_wise", -numbers)):
        assert (weighted[name] - stratified[name]).item() == pytest.approx(off * log_n, abs=1e-10)


def test_stratified_samples_are_right_in_the_mean():
    """q(z) of a code, averaged over all batches of 3 of 5 data that its datum may find itself in."""
    q = DiagonalGaussian(posterior(data(5)).mean, torch.zeros(5, 3).double())
    z, objective = q.sample(of_rows(5))[:1], TotalCorrelation(5, sampling="stratified")

    def density(rows: list[int]) -> Tensor:
        part = DiagonalGaussian(q.mean[rows], q.log_variance[rows])
        found = objective.split(part, z.expand(len(rows), -1, -1), torch.arange(len(rows)))
        own = DiagonalGaussian(q.mean[:1], q.log_variance[:1]).log_prob(z)[0, 0]
        return (own - found["information"][0]).exp()

    expected = q.log_prob(z.expand(5, -1, -1)).exp().mean()
    batches = [[0, i, j] for i in range(1, 5) for j in range(i + 1, 5)]
    torch.testing.assert_close(torch.stack([density(rows) for rows in batches]).mean(), expected)
    torch.testing.assert_close(density([0, 1, 2, 3, 4]), expected)


def of_a_part(rows: slice, sampling: str) -> Tensor:
    """The gradient in W of the mean loss of some rows of 6, where the encoder has parameters of its own."""
    x, w = data(6)[rows], W.clone().requires_grad_()
    q = posterior(x, *OFF)
    q = DiagonalGaussian(q.mean * w[0] ** 2, q.log_variance + w[1])
    rng = of_rows(6).rows(rows)
    loss = TotalCorrelation(50, sampling=sampling)(likelihood(x, w), q, rng, 0)["loss"].mean()
    return torch.autograd.grad(loss, w)[0]


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    rows = slice(3 * rank, 3 * rank + 3)
    torch.save({sampling: of_a_part(rows, sampling) for sampling in SAMPLINGS}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_have_the_gradient_of_their_whole_batch(tmp_path):
    torch.multiprocessing.spawn(process, args=(str(tmp_path),), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for sampling in SAMPLINGS:
        mean = (found[0][sampling] + found[1][sampling]) / 2
        torch.testing.assert_close(mean, of_a_part(slice(0, 6), sampling))
        alone = (of_a_part(slice(0, 3), sampling) + of_a_part(slice(3, 6), sampling)) / 2
        assert (mean - alone).abs().max() > 1e-3


def test_codes_that_do_not_suit_are_refused():
    class Other(Posterior):
        sample = mode = log_prob = log_prior = None

    Other.__abstractmethods__ = frozenset()
    with pytest.raises(UserError, match="objective=total_correlation: is for codes of independent numbers"):
        TotalCorrelation(10)(likelihood(data(2)), Other(), of_rows(2), 0)
    with pytest.raises(UserError, match=r"objective.gradient=doubly_reparametrized: is for bottleneck=gaussian"):
        Other().held()
    Elbo().check(variational=False)
    for objective in (Capacity(), ImportanceWeighted(), TotalCorrelation(10)):
        objective.check(variational=True)
        with pytest.raises(UserError, match="for codes that have a prior, and these are points"):
            objective.check(variational=False)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Elbo(beta=-1), "beta must be a number of at least 0, not -1"),
        (lambda: Elbo(beta=math.nan), "beta must be a number of at least 0, not nan"),
        (lambda: Elbo(draws=0), "draws must be at least 1, not 0"),
        (lambda: Elbo(warmup_steps=-1), "warmup_steps must be at least 0, not -1"),
        (lambda: Capacity(capacity=-1), "capacity must be a number of at least 0, not -1"),
        (lambda: Capacity(gamma=math.inf), "gamma must be a number of at least 0, not inf"),
        (lambda: Capacity(steps=0), "steps must be at least 1, not 0"),
        (lambda: ImportanceWeighted(0), "k must be at least 1, not 0"),
        (lambda: TotalCorrelation(1), "data_size must be at least 2, not 1"),
        (lambda: TotalCorrelation(10, beta=-1), "beta must be a number of at least 0, not -1"),
    ],
)
def test_an_option_out_of_range_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_bound_of_many_samples_is_below_that_of_one():
    x = data(1).expand(4000, -1)
    losses = [ImportanceWeighted(k)(likelihood(x), posterior(x, *OFF), of_rows(4000), 0)["loss"] for k in (1, 20)]
    error = sum(loss.std() for loss in losses) / math.sqrt(4000)
    assert losses[0].mean() - losses[1].mean() > 4 * error
    assert losses[1].mean() > exact(x)[0] - 4 * error
