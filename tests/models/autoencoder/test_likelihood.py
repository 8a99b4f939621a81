"""Laws of an autoencoder's likelihood, on one that has it in closed form."""

import math

import pytest
import torch
from linear_gaussian import DIMENSIONS, SCALE, VARIANCE, B, W, data, exact, likelihood, model, posterior

from genlab.core.rng import Rng
from genlab.models.autoencoder.gaussian import DiagonalGaussian, Gaussian
from genlab.models.autoencoder.likelihood import Elbo, ImportanceWeighted
from genlab.models.autoencoder.objective import log_weights


def of_rows(rows: int) -> Rng:
    return Rng(0, torch.arange(rows)).stage("code")


def any_posterior(*shape: int) -> DiagonalGaussian:
    generator = torch.Generator().manual_seed(2)
    mean, log_variance = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    return DiagonalGaussian(mean, log_variance)


def test_densities_and_divergence_are_those_of_torch():
    q = any_posterior(4, 2, 3)
    theirs = torch.distributions.Normal(q.mean, (q.log_variance / 2).exp())
    prior = torch.distributions.Normal(torch.zeros_like(q.mean), torch.ones_like(q.mean))
    z = q.sample(of_rows(4), 5)
    for found, distribution in ((q.log_prob(z), theirs), (q.log_prior(z), prior)):
        expected = torch.stack([distribution.log_prob(z[:, i]).flatten(1).sum(1) for i in range(5)], 1)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    expected = torch.distributions.kl_divergence(theirs, prior).flatten(1).sum(1)
    torch.testing.assert_close(q.kl(), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(q.kl_of_each().flatten(1).sum(1), q.kl())


def test_the_divergence_is_the_mean_of_what_draws_say():
    q = any_posterior(3, 4)
    z = q.sample(of_rows(3), 40_000)
    each = q.log_prob(z) - q.log_prior(z)
    assert ((each.mean(1) - q.kl()).abs() < 4 * each.std(1) / 200).all()


def test_a_variance_is_kept_where_it_can_be_computed_with():
    h = torch.tensor([[0.0, 1000.0], [0.0, -1000.0]]).requires_grad_()
    q = Gaussian(1)(h)
    assert q.kl().isfinite().all()
    assert q.log_prob(q.sample(of_rows(2), 3)).isfinite().all()


def test_weights_are_constant_where_q_is_the_posterior():
    x = data(20)
    q = posterior(x)
    weights = log_weights(likelihood(x), q, q.sample(of_rows(20), 7))
    torch.testing.assert_close(weights, -exact(x)[:, None].expand(-1, 7), rtol=1e-11, atol=1e-11)
    for estimator in (ImportanceWeighted(k=1), ImportanceWeighted(k=130, chunk=7)):
        torch.testing.assert_close(estimator(likelihood(x), q, of_rows(20)).nats, exact(x), rtol=1e-11, atol=1e-11)


def test_with_many_draws_a_worse_q_has_the_exact_likelihood():
    x = data(100)
    found = ImportanceWeighted(k=5000)(likelihood(x), posterior(x, 0.2, 1.3), of_rows(100))
    off = found.nats - exact(x)
    assert off.abs().max() < 0.1
    assert abs(off.mean()) < 4 * off.std() / 10 + 1e-4
    assert off.abs().max() > 1e-6, "the q is not the posterior"
    assert found.bound == "estimate"
    assert "5000 draws" in found.how


def test_bounds_come_down_to_the_exact_likelihood_with_draws():
    rows = 4000
    x = data(1).expand(rows, -1)
    args = (likelihood(x), posterior(x, 0.3, 1.5), of_rows(rows))
    found = [Elbo()(*args).nats, *(ImportanceWeighted(k=k)(*args).nats for k in (1, 4, 16, 64))]
    means, errors = zip(*((nats.mean(), nats.std() / math.sqrt(rows)) for nats in found), strict=True)
    assert abs(means[0] - means[1]) < 4 * (errors[0] + errors[1])
    for k in range(1, 4):
        assert means[k] - means[k + 1] > 3 * (errors[k] + errors[k + 1])
    assert means[-1] > exact(x)[0] - 3 * errors[-1]


def test_the_bound_is_what_its_closed_form_says():
    rows = 4000
    x, shift, widen = data(1).expand(rows, -1), 0.3, 1.5
    q = posterior(x, shift, widen)
    found = Elbo(draws=5)(likelihood(x), q, of_rows(rows))
    off = (x[0] - W @ q.mean[0] - B).square().sum() + (W.square() * VARIANCE * widen**2).sum()
    distortion = off / (2 * SCALE**2) + DIMENSIONS * (math.log(2 * math.pi) / 2 + math.log(SCALE))
    nats = found.terms["distortion"]
    assert abs(nats.mean() - distortion) < 4 * nats.std() / math.sqrt(rows)
    torch.testing.assert_close(found.terms["rate"], q.kl())
    torch.testing.assert_close(sum(found.terms.values()), found.nats)
    assert found.bound == "upper"


@pytest.mark.parametrize("chunk", [1, 7, 50, 60, 1000])
def test_chunks_change_nothing(chunk):
    x, asked = data(5), []
    q = posterior(x, 0.2, 1.3)

    def counted(z):
        asked.append(z.shape[1])
        return likelihood(x)(z)

    whole, parts = ImportanceWeighted(k=130), ImportanceWeighted(k=130, chunk=chunk)
    draws = [torch.cat(list(each.drawn(q, of_rows(5))), 1) for each in (whole, parts)]
    assert torch.equal(*draws)
    assert len(draws[0].flatten().unique()) == draws[0].numel() == 5 * 130 * 3
    expected = whole(likelihood(x), q, of_rows(5)).nats
    torch.testing.assert_close(parts(counted, q, of_rows(5)).nats, expected, rtol=1e-12, atol=1e-12)
    assert max(asked) <= chunk
    assert sum(asked) == 130


def test_fewer_draws_are_the_first_of_more():
    q = posterior(data(3))
    few, many = (torch.cat(list(ImportanceWeighted(k=k).drawn(q, of_rows(3))), 1) for k in (73, 130))
    assert torch.equal(few, many[:, :73])


def test_a_row_does_not_depend_on_its_batch():
    x = data(6)
    estimator = ImportanceWeighted(k=60, chunk=11)
    whole = estimator(likelihood(x), posterior(x, 0.2), of_rows(6)).nats
    part = estimator(likelihood(x[2:4]), posterior(x[2:4], 0.2), of_rows(6).rows(slice(2, 4))).nats
    torch.testing.assert_close(part, whole[2:4], rtol=1e-12, atol=1e-12)


def test_a_model_has_the_exact_likelihood():
    x = data(50)
    for made, bound in ((model(), 1e-4), (model(0.2, 1.3), 0.1)):
        found = made.nll({"x": x.float()}, Rng(0, torch.arange(50)), ImportanceWeighted(k=5000))
        assert (found.nats - exact(x)).abs().max() < bound
        assert not found.nats.requires_grad


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Elbo(draws=0), "draws must be at least 1, not 0"),
        (lambda: ImportanceWeighted(k=0), "k must be at least 1, not 0"),
        (lambda: ImportanceWeighted(chunk=0), "chunk must be at least 1, not 0"),
        (lambda: Gaussian(0), "size must be at least 1, not 0"),
    ],
)
def test_an_option_out_of_range_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
