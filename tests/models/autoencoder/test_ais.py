"""Laws of annealed importance sampling, on an autoencoder whose likelihood is known in closed form."""

import math
import re

import pytest
import torch
from linear_gaussian import SIZE, data, exact, likelihood, model, posterior

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.autoencoder.ais import AnnealedImportance, Run, inverse_temperatures
from genlab.models.autoencoder.bottleneck import Posterior
from genlab.models.autoencoder.gaussian import DiagonalGaussian

starts = pytest.mark.parametrize("start", ["prior", "posterior"])
# Of a q that is not the posterior.
OFF = (0.2, 1.4)


def of_rows(rows: int) -> Rng:
    return Rng(0, torch.arange(rows)).stage("code")


def accepted(how: str) -> float:
    found = re.search(r"(\d+)% accepted", how)
    assert found
    return int(found[1]) / 100


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_temperatures_lead_from_0_to_1_and_are_mirrored(count):
    b = torch.tensor(inverse_temperatures(count), dtype=torch.float64)
    assert len(b) == count + 1
    assert b[0] == 0
    assert b[-1] == 1
    assert (b.diff() > 0).all()
    torch.testing.assert_close(b + b.flip(0), torch.ones_like(b))


def test_weights_are_constant_where_q_is_the_posterior():
    x = data(10)
    found = AnnealedImportance(temperatures=8, chains=3, start="posterior")(likelihood(x), posterior(x), of_rows(10))
    torch.testing.assert_close(found.nats, exact(x), rtol=1e-10, atol=1e-10)


@starts
def test_it_meets_the_exact_likelihood(start):
    x = data(60)
    estimator = AnnealedImportance(temperatures=200, chains=12, leapfrog=3, start=start, pilot=40)
    found = estimator(likelihood(x), posterior(x, *OFF), of_rows(60))
    off = found.nats - exact(x)
    assert off.abs().max() < 0.5
    # What is left above is half the variance of the estimate of p(x).
    assert abs(off.mean()) < 4 * off.std() / math.sqrt(60) + off.var()
    assert off.abs().max() > 1e-6
    assert found.bound == "upper"


@starts
@pytest.mark.parametrize("temperatures", [1, 6])
def test_weights_are_right_in_the_mean_with_few_temperatures(start, temperatures):
    """E w = p(x), so each step leaves the density at its temperature as it is, with sizes that a pilot found."""
    rows = 3000
    x = data(1).expand(rows, -1)
    estimator = AnnealedImportance(temperatures, chains=4, leapfrog=3, start=start, pilot=4)
    ratio = (exact(x) - estimator(likelihood(x), posterior(x, *OFF), of_rows(rows)).nats).exp()
    assert ratio.std() > 0.01
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / math.sqrt(rows)


def test_more_temperatures_are_nearer_from_above():
    rows = 500
    x = data(1).expand(rows, -1)
    found = [
        AnnealedImportance(t, chains=2, pilot=10)(likelihood(x), posterior(x), of_rows(rows)).nats for t in (2, 30)
    ]
    means, errors = [nats.mean() for nats in found], [nats.std() / math.sqrt(rows) for nats in found]
    assert means[0] - means[1] > 4 * (errors[0] + errors[1])
    assert means[1] > exact(x)[0] - 4 * errors[1]


@pytest.mark.parametrize("first", [0.01, 5.0])
def test_the_pilot_finds_steps_that_are_accepted(first):
    x = data(20)
    args = (likelihood(x), posterior(x), of_rows(20))
    options = {"temperatures": 60, "chains": 8, "leapfrog": 4, "step_size": first}
    assert 0.5 < accepted(AnnealedImportance(**options, pilot=60)(*args).how) < 0.85
    fixed = accepted(AnnealedImportance(**options, pilot=0)(*args).how)
    assert fixed > 0.97 if first < 1 else fixed < 0.2


def test_a_row_does_not_depend_on_its_batch():
    x = data(6)
    estimator, rng = AnnealedImportance(temperatures=12, chains=3, pilot=5), of_rows(6)
    whole = estimator(likelihood(x), posterior(x, *OFF), rng).nats
    part = estimator(likelihood(x[2:4]), posterior(x[2:4], *OFF), rng.rows(slice(2, 4))).nats
    torch.testing.assert_close(part, whole[2:4], rtol=1e-8, atol=1e-8)


def test_codes_may_be_maps():
    x = data(4)
    flat = posterior(x, *OFF)
    maps = DiagonalGaussian(flat.mean.view(4, SIZE, 1, 1), flat.log_variance.view(4, SIZE, 1, 1))
    found = [AnnealedImportance(10, chains=2, pilot=3)(likelihood(x), q, of_rows(4)).nats for q in (flat, maps)]
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)


def test_a_path_can_be_gone_back():
    x = data(5)
    q = posterior(x, *OFF)
    run = Run(likelihood(x), q, q, leapfrog=7, chains=2)
    point, p = run.at(q.sample(of_rows(5), 2)), of_rows(5).normal(2, SIZE, dtype=torch.float64)
    step = 0.05 * run.scale(0.5)
    there, chance = run.proposal(point, 0.5, step, p)
    assert (there.z - point.z).abs().min() > 1e-4
    assert (chance > 0.99).all()
    z = point.z
    for _ in range(7):
        p = p + step / 2 * run.at(z).slope(0.5)
        z = z + step * p
        p = p + step / 2 * run.at(z).slope(0.5)
    back, _ = run.proposal(run.at(z), 0.5, step, -p)
    torch.testing.assert_close(back.z, point.z, rtol=1e-10, atol=1e-10)


def test_a_path_that_ran_away_is_refused():
    x = data(3)
    q = posterior(x)

    def broken(z):
        return torch.where(z.flatten(2).square().sum(2) < 4, likelihood(x)(z), math.nan)

    found = AnnealedImportance(10, chains=20, pilot=0, step_size=2.0, start="posterior")(broken, q, of_rows(3))
    assert accepted(found.how) < 0.9
    run = Run(broken, q, q, leapfrog=1, chains=2)
    middle = q.mean[:, None].expand(-1, 2, -1)
    _, chance = run.proposal(run.at(middle), 1.0, torch.full_like(middle, 50.0), torch.ones_like(middle))
    assert (chance == 0).all()


def test_a_model_has_the_exact_likelihood():
    x = data(30)
    made = model(*OFF).requires_grad_(False)
    found = made.nll(
        {"x": x.float()}, Rng(0, torch.arange(30)), AnnealedImportance(100, chains=8, leapfrog=3, pilot=30)
    )
    assert abs((found.nats - exact(x)).mean()) < 0.1
    assert not found.nats.requires_grad


def test_other_codes_are_refused():
    class Other(Posterior):
        sample = mode = log_prob = log_prior = None

    Other.__abstractmethods__ = frozenset()
    with pytest.raises(UserError, match="estimator=ais: is for codes that are real numbers"):
        AnnealedImportance()(likelihood(data(2)), Other(), of_rows(2))


@pytest.mark.parametrize("name", ["temperatures", "chains", "leapfrog"])
def test_a_count_of_0_is_named(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
        AnnealedImportance(**{name: 0})


def test_steps_that_cannot_be_are_named():
    with pytest.raises(ValueError, match="pilot must be at least 0, not -1"):
        AnnealedImportance(pilot=-1)
    for size in (0, -1, math.inf, math.nan):
        with pytest.raises(ValueError, match="step_size must be a number above 0"):
            AnnealedImportance(step_size=size)
