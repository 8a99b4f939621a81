"""Laws of progressive coding: what a receiver knows is what the posterior says, and all that is sent is the bound."""

import math

import pytest
import torch
from closed_form import C, M, ideal_denoiser
from torch import Tensor

from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.models.diffusion.bound import VariationalBound
from genlab.models.diffusion.coding import Coded, progressive
from genlab.models.diffusion.process import prior_kl
from genlab.models.diffusion.samplers.spacing import spaced_times
from genlab.models.diffusion.schedule import LinearBeta
from genlab.models.diffusion.variance import Variance

SCHEDULE, N, D = LinearBeta(200), 600, 8
FIELD = Field((D,))


def data(n: int = N) -> Tensor:
    return M + C * Rng(3, torch.arange(n)).normal(D, dtype=torch.float64)


def coded(
    x_0: Tensor,
    steps: int = 200,
    keep: tuple[int, ...] = (0,),
    rows: slice | None = None,
    variance: Variance = "posterior",
) -> Coded:
    rng = Rng(0, torch.arange(len(x_0))).stage("code")
    times = spaced_times(SCHEDULE, "trailing", steps)
    rng = rng if rows is None else rng.rows(rows)
    x_0 = x_0 if rows is None else x_0[rows]
    bound = VariationalBound("all", variance)
    return progressive(SCHEDULE, ideal_denoiser(SCHEDULE), x_0, times, bound, FIELD, rng, False, keep)


def test_the_distortion_is_the_variance_of_what_is_not_known() -> None:
    """Var(x_0 | x_t) = C^2 sigma^2 / (alpha^2 C^2 + sigma^2)."""
    times = spaced_times(SCHEDULE, "trailing", 200)[:-1]
    alpha, sigma = SCHEDULE(times)
    wanted = C**2 * sigma**2 / (alpha**2 * C**2 + sigma**2)
    found = coded(data()).distortion.mean(0)
    torch.testing.assert_close(found, wanted, rtol=6 * (2 / (N * D)) ** 0.5, atol=0)


def test_bits_only_add_up_and_come_to_the_variational_bound() -> None:
    x_0 = data()
    found = coded(x_0)
    assert (found.rate.diff(dim=1) >= 0).all()
    torch.testing.assert_close(found.rate[:, 0], prior_kl(SCHEDULE, x_0))
    whole = found.rate[:, -1] + found.rest
    bound = VariationalBound("all")(SCHEDULE, ideal_denoiser(SCHEDULE), x_0, FIELD, Rng(1, torch.arange(N)), False)
    for own, others in ((whole, bound.nats), (found.rest, bound.terms["L_0"])):
        error = (own.var() + others.var()).sqrt() / N**0.5
        assert abs(own.mean() - others.mean()) < 3 * error


@pytest.mark.parametrize("variance", ["posterior", "transition"])
@pytest.mark.parametrize("steps", [200, 20, 3])
def test_no_code_takes_less_than_the_entropy(steps: int, variance: str) -> None:
    code = coded(data(), steps, variance=variance)
    whole = code.rate[:, -1] + code.rest
    entropy = D * 0.5 * math.log(2 * math.pi * math.e * C**2)
    assert whole.mean() > entropy - 3 * whole.std() / N**0.5


def test_estimates_come_nearer_and_belong_to_their_own_datum() -> None:
    x_0 = data(4)
    whole = coded(x_0, keep=(0, 100, 199))
    off = (whole.estimates - x_0[:, None]).square().flatten(2).mean(2)
    torch.testing.assert_close(off, whole.distortion[:, [0, 100, 199]])
    assert (off[:, 2] < off[:, 0]).all()
    parts = [coded(x_0, keep=(0, 100, 199), rows=rows) for rows in (slice(0, 1), slice(1, 4))]
    for one, others in zip(whole, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(one, torch.cat(others))


def test_what_the_first_thing_sent_costs() -> None:
    """KL(N(alpha x_0, sigma^2) || N(0, 1)), at any time that the code begins with."""
    x_0, t = data(3), torch.tensor(0.4, dtype=torch.float64)
    alpha, sigma = SCHEDULE(t)
    wanted = 0.5 * (sigma**2 + (alpha * x_0) ** 2 - 1 - 2 * sigma.log()).sum(1)
    torch.testing.assert_close(prior_kl(SCHEDULE, x_0, t), wanted)
    assert prior_kl(SCHEDULE, x_0, t).shape == (3,)
    assert float(prior_kl(SCHEDULE, x_0, torch.ones_like(t)).mean()) == pytest.approx(
        float(prior_kl(SCHEDULE, x_0).mean())
    )
