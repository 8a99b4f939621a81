"""Categorical codes: what they are distributed like, and what their relaxation goes to."""

import math

import pytest
import torch

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.autoencoder.gumbel import Categorical, Gumbel
from genlab.models.autoencoder.likelihood import ImportanceWeighted

N = 4000


def logits(rows: int = 4, codes: int = 5, side: int = 2) -> torch.Tensor:
    return torch.randn(rows, codes, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def frequencies(posterior: Categorical) -> torch.Tensor:
    """How often each number is drawn, (B, K, *), where the codebook is the identity."""
    z = posterior.sample(Rng(0, torch.arange(len(posterior.logits))), N)
    assert ((z > 0.999) | (z < 0.001)).double().mean() > 0.99
    return z.mean(1)


@pytest.mark.parametrize("straight", [False, True])
def test_at_a_low_temperature_the_relaxation_is_a_sample_of_the_categorical(straight):
    found = frequencies(Categorical(logits(), torch.eye(5).double(), 1e-3, straight))
    torch.testing.assert_close(found, logits().softmax(1), rtol=0, atol=4 * math.sqrt(0.25 / N))


def test_without_a_temperature_samples_are_hard():
    found = frequencies(Categorical(logits(), torch.eye(5).double()))
    torch.testing.assert_close(found, logits().softmax(1), rtol=0, atol=4 * math.sqrt(0.25 / N))


def test_at_a_high_temperature_all_codes_are_mixed():
    z = Categorical(logits(), torch.eye(5).double(), 1e4).sample(Rng(0, torch.arange(4)))
    torch.testing.assert_close(z, torch.full_like(z, 1 / 5), rtol=0, atol=1e-2)


def test_straight_through_is_hard_with_the_gradient_of_the_relaxed():
    codebook, weights = torch.randn(5, 3).double(), torch.randn(4, 2, 3, 2, 2).double()
    gradients = []
    for straight in (False, True):
        h = logits().requires_grad_()
        z = Categorical(h, codebook, 0.7, straight).sample(Rng(0, torch.arange(4)), 2)
        gradients.append(torch.autograd.grad((weights * z).sum(), h)[0])
    torch.testing.assert_close(*gradients)
    rows = z.detach().movedim(2, -1).flatten(0, -2)
    torch.testing.assert_close((rows[:, None] - codebook).square().sum(2).amin(1), torch.zeros(len(rows)).double())


def test_the_divergence_is_its_closed_form():
    """And the mean of log q - log p over hard samples."""
    posterior, q = Categorical(logits(), torch.randn(5, 3).double()), logits().softmax(1)
    exact = (q * (5 * q).log()).sum((1, 2, 3))
    torch.testing.assert_close(posterior.kl(), exact)
    z = posterior.sample(Rng(1, torch.arange(4)), N)
    drawn = posterior.log_prob(z) - posterior.log_prior(z)
    torch.testing.assert_close(drawn.mean(1), exact, rtol=0, atol=4 * drawn.std().item() / math.sqrt(N))
    none = Categorical(torch.zeros(2, 5, 3), torch.eye(5))
    torch.testing.assert_close(none.kl(), torch.zeros(2))


def test_its_draws_estimate_the_likelihood_of_a_known_model():
    """One place and two codes: p(x) is a sum of two terms."""
    codebook, x = torch.tensor([[-1.0], [2.0]]), torch.tensor([0.3, 1.5])
    posterior = Categorical(torch.tensor([[0.2, -0.4], [0.5, 0.9]]), codebook)

    def log_normal(z):
        return -0.5 * (x[:, None] - z[..., 0]).square()

    found = ImportanceWeighted(k=N, chunk=1000)(log_normal, posterior, Rng(0, torch.arange(2)))
    exact = -(log_normal(codebook[:, 0].expand(2, 2)[..., None]).logsumexp(1) - math.log(2))
    torch.testing.assert_close(found.nats, exact.double(), rtol=0, atol=0.03)
    assert "categorical" in found.how


def made_of(h: torch.Tensor, **options) -> Gumbel:
    torch.manual_seed(0)
    return Gumbel(codes=h.shape[1], size=3, **options).double()


def test_codes_lead_to_what_the_decoder_was_given():
    h = logits()
    made = made_of(h).eval()
    posterior = made(h)
    fields = made.fields(posterior.mode().shape[1:])
    for rng in (None, Rng(0, torch.arange(4))):
        codes = posterior.codes(rng)
        assert {key: tuple(value.shape[1:]) for key, value in codes.items()} == {k: f.shape for k, f in fields.items()}
        for some in ({"index": codes["index"]}, {"z": codes["z"]}):
            assert torch.equal(made.vectors(some), codes["z"])
    assert torch.equal(posterior.codes()["index"], h.argmax(1))
    assert torch.equal(posterior.codes()["z"], posterior.mode())
    assert not torch.equal(codes["index"], h.argmax(1))


def test_training_alone_is_relaxed():
    h, rng = logits(), Rng(0, torch.arange(4))
    made = made_of(h, straight_through=False)
    codebook = made.codebook.detach()

    def hard(posterior):
        rows = posterior.sample(rng).detach().movedim(2, -1).flatten(0, -2)
        return (rows[:, None] - codebook).abs().sum(2).amin(1).max() < 1e-12

    assert not hard(made(h, 0))
    assert hard(made(h))
    assert hard(made.eval()(h, 0))


@pytest.mark.parametrize(("anneal", "middle"), [("cosine", (1 + 1 / 16) / 2), ("exponential", 1 / 4)])
def test_the_temperature_falls_to_its_last(anneal, middle):
    made = Gumbel(codes=3, anneal=anneal, anneal_steps=100)
    found = [made.temperature(step) for step in (0, 50, 100, 1000)]
    assert found == pytest.approx([1, middle, 1 / 16, 1 / 16])
    assert all(made.temperature(i + 1) < made.temperature(i) for i in range(100))
    assert made(torch.zeros(2, 3, 1), 50).notes["temperature"].item() == pytest.approx(middle)


def test_relaxed_draws_have_no_weight():
    posterior = made_of(logits())(logits(), 0)
    with pytest.raises(UserError, match=r"^objective=importance: .* choose elbo"):
        posterior.log_prob(posterior.sample(Rng(0, torch.arange(4))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codes": 0}, "^codes must be at least 1, not 0"),
        ({"size": 0}, "^size must be at least 1, not 0"),
        ({"temperature": 0}, "^temperature must be above 0"),
        ({"final": -1}, "^final must be above 0"),
        ({"anneal_steps": 0}, "^anneal_steps must be at least 1"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Gumbel(**options)
