"""The two sides of each game: their value where the critic is the best there is, and their slopes."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genlab.models.adversarial.objective import (
    FeatureMatching,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Objective,
    Wasserstein,
)
from genlab.networks.adversarial.contract import Judged

# A grid that holds all but nothing of two normal densities, in steps so small that sums are integrals.
X = torch.linspace(-12, 14, 20_001, dtype=torch.float64)
STEP = float(X[1] - X[0])


def normal(mean: float, deviation: float) -> Tensor:
    return (-((X - mean) / deviation).square() / 2).exp() / (deviation * math.sqrt(2 * math.pi))


P, Q = normal(0.0, 1.0), normal(1.5, 2.0)


def integral(f: Tensor) -> float:
    return float(f.sum()) * STEP


def divergence(p: Tensor, q: Tensor) -> float:
    """KL(p, q)."""
    return integral(p * (p / q).log())


def judged(score: Tensor) -> Judged:
    return Judged(score, score[:, None])


NOTHING = torch.zeros(1, dtype=torch.float64)


def side(objective: Objective, p: Tensor, q: Tensor, score: Tensor) -> Tensor:
    """What the critic with these scores expects to lose, of data of density p and what is made with density q."""
    of_data = objective.critic(judged(score), judged(NOTHING.expand_as(score)))
    of_made = objective.critic(judged(NOTHING.expand_as(score)), judged(score))
    at_zero = objective.critic(judged(NOTHING), judged(NOTHING))
    # A sum of a part of s and one of s'; what they are at 0 is in both.
    return (p * of_data + q * of_made).sum() * STEP - at_zero.sum()


def test_at_the_best_critic_the_minimax_game_is_the_jensen_shannon_divergence():
    middle = (P + Q) / 2
    jensen_shannon = (divergence(P, middle) + divergence(Q, middle)) / 2
    best = P.log() - Q.log()
    value = -float(side(Minimax(), P, Q, best))
    assert jensen_shannon > 0.1
    assert value == pytest.approx(2 * jensen_shannon - 2 * math.log(2), abs=1e-6)
    # And what differs is worse.
    for change in (0.1 * X.sin(), torch.full_like(X, -0.2)):
        assert float(side(Minimax(), P, Q, best + change)) > -value + 1e-4


def test_alike_densities_are_told_apart_by_a_coin():
    assert -float(side(Minimax(), P, P, torch.zeros_like(X))) == pytest.approx(-2 * math.log(2), abs=1e-6)


FEW = (torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64))
BEST = {
    "minimax": (Minimax(), lambda p, q: (p / q).log()),
    "smoothed": (Minimax(0.1), lambda p, q: (0.9 * p / (q + 0.1 * p)).log()),
    "nonsaturating": (NonSaturating(), lambda p, q: (p / q).log()),
    "features": (FeatureMatching(), lambda p, q: (p / q).log()),
    "least squares": (LeastSquares(), lambda p, q: p / (p + q)),
    "least squares of other labels": (LeastSquares(-1.0, 2.0, 0.5), lambda p, q: (2 * p - q) / (p + q)),
}


@pytest.mark.parametrize("name", BEST)
def test_gradient_descent_finds_the_best_critic(name):
    """Of two distributions of three symbols, by a table of scores; smoothing is of the label of data alone, so that the
    probability of being real is (1 - e) p / (p + q)."""
    objective, best = BEST[name]
    (p, q), score = FEW, torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([score], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-16)

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = side(objective, p / STEP, q / STEP, score)
        value.backward()
        return value

    optimizer.step(loss)
    torch.testing.assert_close(score.detach(), best(p, q), rtol=1e-5, atol=1e-6)


def test_the_best_hinge_critic_tells_the_total_variation():
    best = (P - Q).sign()
    overlap = integral(torch.minimum(P, Q))
    assert float(side(Hinge(), P, Q, best)) == pytest.approx(2 * overlap, abs=1e-4)
    assert float(side(Hinge(), P, Q, 0.9 * best)) > 2 * overlap


S = torch.tensor([-8.0, -1.0, 0.0, 3.0], dtype=torch.float64)
GENERATOR = {
    "minimax": (Minimax(), (1 - S.sigmoid()).log(), -S.sigmoid()),
    "nonsaturating": (NonSaturating(), -S.sigmoid().log(), S.sigmoid() - 1),
    "least squares": (LeastSquares(c=0.9), (S - 0.9).square() / 2, S - 0.9),
    "hinge": (Hinge(), -S, -torch.ones_like(S)),
    "Wasserstein": (Wasserstein(), -S, -torch.ones_like(S)),
}


@pytest.mark.parametrize("name", GENERATOR)
def test_what_the_generator_minimises_and_its_slope(name):
    """Where the critic is sure that a sample is made, s' far below 0, minimax alone has none."""
    objective, value, slope = GENERATOR[name]
    score = S.clone().requires_grad_()
    found = objective.generator(judged(score))
    torch.testing.assert_close(found.detach(), value)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), score)[0], slope)
    assert (slope[0].abs() < 1e-3) == (name == "minimax")


def test_the_wasserstein_critic_loses_what_it_does_not_tell_apart():
    real, made = judged(torch.tensor([1.0, 2.0])), judged(torch.tensor([0.5, -3.0]))
    torch.testing.assert_close(Wasserstein().critic(real, made), torch.tensor([-0.5, -5.0]))


def test_features_are_matched_in_their_means():
    torch.manual_seed(0)
    real, made = torch.randn(6, 4), torch.randn(6, 4, requires_grad=True)
    objective = FeatureMatching()
    assert objective.compares
    assert objective.whole_batch
    loss = objective.generator(Judged(made.sum(1), made), Judged(real.sum(1), real)).mean()
    apart = (made.mean(0) - real.mean(0)).detach()
    torch.testing.assert_close(loss.detach(), apart.square().sum())
    (gradient,) = torch.autograd.grad(loss, made)
    torch.testing.assert_close(gradient, (2 * apart / 6).expand(6, 4))
    shuffled = made.detach()[torch.tensor([3, 1, 0, 2, 5, 4])]
    same = objective.generator(Judged(shuffled.sum(1), shuffled), Judged(real.sum(1), real)).mean()
    torch.testing.assert_close(same, loss.detach())


def test_smoothing_is_of_one_side():
    real, made = judged(torch.tensor([2.0, -1.0])), judged(torch.tensor([0.5, -3.0]))
    expected = 0.75 * F.softplus(-real.score) + 0.25 * F.softplus(real.score) + F.softplus(made.score)
    for kind in (Minimax, NonSaturating, FeatureMatching):
        torch.testing.assert_close(kind(0.25).critic(real, made), expected)
    torch.testing.assert_close(NonSaturating(0.25).generator(made), F.softplus(-made.score))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Minimax(0.5), "^smooth=0.5 must be at least 0 and below 0.5$"),
        (lambda: NonSaturating(-0.1), "^smooth=-0.1 must be"),
        (lambda: LeastSquares(1.0, 1.0), "^b=1.0 must be above a=1.0$"),
    ],
)
def test_labels_that_say_nothing_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
