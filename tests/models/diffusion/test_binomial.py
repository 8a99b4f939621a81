"""Laws of the binomial process: by brute force over all bits, all states and all paths; and of its models."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.data.heartbeat import Heartbeat
from genlab.models.conditioning import Unconditional
from genlab.models.diffusion.binomial import BinomialDiffusion
from genlab.models.diffusion.bits import (
    Beliefs,
    Erasure,
    evidence,
    flipped,
    kl,
    posterior_log_odds,
    prior_kl,
    reverse_log_probabilities,
)
from genlab.models.diffusion.bits_bound import BinomialBound
from genlab.models.diffusion.continuous import VariancePreserving
from genlab.models.diffusion.model import GaussianDiffusion
from genlab.models.diffusion.samplers.bits import AncestralBits
from genlab.models.diffusion.schedule import Cosine, Geometric, LinearBeta, Schedule, match
from genlab.models.diffusion.weighting import UniformTimes
from genlab.networks.mlp import MLP
from genlab.runner.options import check_asked

SCHEDULES = {"erasure": Erasure(6), "linear": LinearBeta(60), "cosine": Cosine(6)}
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def states(bits: int) -> Tensor:
    """(2^bits, bits), every state."""
    return torch.tensor(list(itertools.product([-1.0, 1.0], repeat=bits)), dtype=torch.float64)


def forward(schedule: Schedule, s: Tensor, t: Tensor, bits: int) -> Tensor:
    """(2^bits, 2^bits), q(x_t | x_s) of every state x_t, a column, given every x_s, a row."""
    r = schedule(t)[0] / schedule(s)[0]
    every = states(bits)
    return (0.5 * (1 + r * every[:, None] * every)).prod(2)


def opinion(x_t: Tensor, t: Tensor) -> Tensor:
    """Some beliefs, in which every bit has a part."""
    t = match(t.expand(len(x_t)), x_t.double())
    return 2 * torch.sin(3 * x_t.roll(1, 1) + x_t.flip(1) - 4 * t) + x_t * (1 - t) + 0.3


def backward(schedule: Schedule, beliefs: Beliefs, t: Tensor, s: Tensor, bits: int) -> Tensor:
    """(2^bits, 2^bits), p(x_s | x_t) of every state x_s, a column, given every x_t, a row."""
    every = states(bits)
    one, other = reverse_log_probabilities(schedule, every, beliefs(every, t), t, s)
    return torch.where(every > 0, one[:, None], other[:, None]).sum(2).exp()


def chain(schedule: Schedule, beliefs: Beliefs, times: Tensor, bits: int) -> Tensor:
    """(2^bits,), the model's probability of every state after all its steps down these times."""
    p = torch.full((2**bits,), 0.5**bits, dtype=torch.float64)
    for t, s in itertools.pairwise(times):
        p = p @ backward(schedule, beliefs, t, s, bits)
    return p


def grid(schedule: Schedule) -> Tensor:
    """0, 1 / T, .., 1."""
    return torch.arange(schedule.steps + 1, dtype=torch.float64) / schedule.steps


# The process


def test_the_papers_betas_erase_as_much_in_each_step():
    """A bit of 0 or 1 has the mean x (1 - beta_t) + beta_t / 2 after a step, with beta_t = 1 / (T - t + 1)."""
    steps = 7
    schedule, mean = Erasure(steps), torch.tensor([0.0, 1.0], dtype=torch.float64)
    for number in range(1, steps + 1):
        beta = 1 / (steps - number + 1)
        mean = mean * (1 - beta) + beta / 2
        alpha, sigma = schedule(torch.tensor(number / steps, dtype=torch.float64))
        torch.testing.assert_close(2 * mean - 1, alpha * mean.new_tensor([-1.0, 1.0]), rtol=0, atol=1e-15)
        assert alpha.item() == pytest.approx(1 - number / steps, abs=1e-15)
        assert sigma.item() == pytest.approx(math.sqrt(1 - alpha.item() ** 2), abs=1e-12)


def test_the_inverse_of_erasures_log_snr():
    t = torch.linspace(1e-4, 1 - 1e-4, 50, dtype=torch.float64)
    schedule = Erasure()
    torch.testing.assert_close(schedule.time(schedule.log_snr(t)), t, rtol=1e-9, atol=1e-12)
    assert torch.equal(schedule.level(grid(schedule)[1:]).round(), torch.arange(1000, dtype=torch.float64))


@schedules
def test_steps_together_have_the_closed_marginals(schedule):
    times = grid(schedule)
    product = torch.eye(2, dtype=torch.float64)
    for s, t in itertools.pairwise(times):
        product = product @ forward(schedule, s, t, 1)
        torch.testing.assert_close(product, forward(schedule, times[0], t, 1), rtol=1e-9, atol=1e-15)


@schedules
def test_bits_are_flipped_as_often_as_the_marginal_says(schedule):
    n, t = 40_000, grid(schedule)[[1, 2, -1]]
    uniform = Rng(0, torch.arange(n)).uniform(3, dtype=torch.float64)
    for i, time in enumerate(t):
        x_t = flipped(schedule, torch.ones(n), time.expand(n), uniform[:, i])
        assert set(x_t.tolist()) <= {-1.0, 1.0}
        assert x_t.mean().item() == pytest.approx(schedule(time)[0].item(), abs=4 / math.sqrt(n))


@schedules
def test_the_posterior_obeys_bayes(schedule):
    """Between any two times, also down to the data, where it is certain."""
    times = grid(schedule)[[0, 1, 2, 4, -1]]
    x_s, x_t, x_0 = (part[:, None] for part in states(3).T)
    for s, t in itertools.combinations(times, 2):
        joint = (1 + schedule(t)[0] / schedule(s)[0] * x_t * x_s) * (1 + schedule(s)[0] * x_s * x_0)
        either = joint + (1 - schedule(t)[0] / schedule(s)[0] * x_t * x_s) * (1 - schedule(s)[0] * x_s * x_0)
        found = torch.sigmoid(x_s * posterior_log_odds(schedule, x_t, x_0, t, s))
        torch.testing.assert_close(found, joint / either, rtol=1e-9, atol=1e-15)


@schedules
def test_a_reverse_step_is_the_posteriors_mean_over_the_belief(schedule):
    times = grid(schedule)[[0, 1, 3, -1]]
    x_t = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(4)[:, None]
    belief = torch.linspace(-30, 30, 8, dtype=torch.float64)[:, None]
    for s, t in itertools.combinations(times, 2):
        sure = [torch.sigmoid(posterior_log_odds(schedule, x_t, x_0 * torch.ones_like(x_t), t, s)) for x_0 in (1, -1)]
        expected = torch.sigmoid(belief) * sure[0] + torch.sigmoid(-belief) * sure[1]
        one, other = reverse_log_probabilities(schedule, x_t, belief, t, s)
        torch.testing.assert_close(one.exp(), expected, rtol=1e-9, atol=1e-15)
        torch.testing.assert_close(one.exp() + other.exp(), torch.ones_like(one), rtol=1e-12, atol=0)
        if s == 0:
            torch.testing.assert_close(one, torch.sigmoid(belief).log(), rtol=1e-9, atol=1e-12)


def test_the_divergence_of_bits():
    q, p = torch.tensor([[0.3, 0.3, 1.0, 0.0, 1e-9], [0.7, 0.3, 0.25, 0.25, 2e-9]], dtype=torch.float64)
    found = kl(q.logit(), p.log(), (1 - p).log())
    expected = torch.distributions.kl_divergence(torch.distributions.Bernoulli(q), torch.distributions.Bernoulli(p))
    torch.testing.assert_close(found[:4], expected[:4], rtol=1e-10, atol=1e-15)
    assert found[2:4].tolist() == pytest.approx([math.log(4), -math.log(0.75)])
    assert 0 < found[4] < 1e-9


def test_what_is_left_of_the_data_at_the_end():
    x_0 = torch.ones(2, 3, 4)
    alpha = LinearBeta()(torch.ones((), dtype=torch.float64))[0]
    p = 0.5 * (1 + alpha)
    expected = 12 * (p * (2 * p).log() + (1 - p) * (2 - 2 * p).log())
    torch.testing.assert_close(prior_kl(LinearBeta(), x_0), expected.expand(2), rtol=1e-6, atol=0)
    assert prior_kl(Erasure(10), x_0).abs().max() < 1e-15


# The chain and its bound, over all states


@schedules
def test_the_models_probabilities_of_all_states_sum_to_one(schedule):
    p = chain(schedule, opinion, grid(schedule).flip(0), bits=3)
    assert p.min() > 0
    assert p.sum().item() == pytest.approx(1, abs=1e-10)


def by_terms(schedule: Schedule, beliefs: Beliefs, bits: int) -> Tensor:
    """(T + 1, 2^bits): L_0 .. L_{T-1} and L_T of each state, the expectation over x_i taken by summing over all."""
    every, times, terms = states(bits), grid(schedule), []
    count = len(every)
    for t in times[1:]:
        x_0, x_t = every.repeat_interleave(count, 0), every.repeat(count, 1)
        t_each = t.expand(len(x_0))
        values = BinomialBound.term(schedule, x_0, x_t, t_each, beliefs(x_t, t_each)).view(count, count)
        terms.append((forward(schedule, times[0], t, bits) * values).sum(1))
    return torch.stack([*terms, prior_kl(schedule, every)])


def test_the_terms_are_the_bound_of_all_paths_and_above_the_exact_likelihood():
    """E_q log q(x_1..T | x_0) / p(x_0..T), path by path, for 2 bits and 4 steps."""
    schedule, bits, steps = Erasure(4), 2, 4
    times, every = grid(schedule), states(bits)
    q = [forward(schedule, s, t, bits) for s, t in itertools.pairwise(times)]
    p = [backward(schedule, opinion, t, s, bits) for s, t in itertools.pairwise(times)]
    bound = torch.zeros(len(every), dtype=torch.float64)
    for path in itertools.product(range(len(every)), repeat=steps + 1):
        moves = list(enumerate(itertools.pairwise(path)))
        of_q = math.prod(q[i][a, b].item() for i, (a, b) in moves)
        of_p = 0.5**bits * math.prod(p[i][b, a].item() for i, (a, b) in moves)
        bound[path[0]] += of_q * math.log(of_q / of_p) if of_q > 0 else 0
    torch.testing.assert_close(by_terms(schedule, opinion, bits).sum(0), bound, rtol=1e-9, atol=1e-12)
    exact = -chain(schedule, opinion, times.flip(0), bits).log()
    assert (bound > exact + 0.01).all()


@schedules
@pytest.mark.parametrize("t", ["all", 1, 3])
def test_the_estimate_of_the_bound_has_no_bias(schedule, t):
    """Neither of all terms from one path each, nor of some of them."""
    n, every = 4000, states(3)
    expected = by_terms(schedule, opinion, 3)
    for state in (1, 6):
        x_0 = every[state].expand(n, 3)
        found = BinomialBound(t)(schedule, opinion, x_0, Rng(state, torch.arange(n)))
        assert found.bound == "upper"
        torch.testing.assert_close(torch.stack([found.terms[k] for k in ("L_T", "L_1..T-1", "L_0")]).sum(0), found.nats)
        for name, value in {
            "L_0": expected[0, state],
            "L_1..T-1": expected[1:-1, state].sum(),
            "L_T": expected[-1, state],
        }.items():
            error = found.terms[name].std().item() / math.sqrt(n)
            assert found.terms[name].mean().item() == pytest.approx(value.item(), abs=4.5 * error + 1e-12)
        if t == "all":
            assert found.terms["L_t"].shape == (n, schedule.steps + 1)
            torch.testing.assert_close(found.terms["L_t"].sum(1), found.nats)


def beats(schedule: Schedule) -> Beliefs:
    """The beliefs that are right about heartbeats: Bayes' rule over the five of them."""
    x_0 = Heartbeat().split("test").batch(torch.arange(5))["x"].double()

    def beliefs(x_t: Tensor, t: Tensor) -> Tensor:
        alpha = schedule(t.expand(len(x_t)))[0][:, None, None]
        weight = torch.log1p(alpha * x_t.double()[:, None] * x_0).sum(2).softmax(1)
        return (weight @ (1 + x_0)).log() - (weight @ (1 - x_0)).log()

    return beliefs


def test_right_beliefs_cost_the_entropy_as_steps_become_many():
    """In bits a sequence: log2 5, and what independent bits in a step cost, which is less in shorter steps."""
    n, found = 500, {}
    x_0 = Heartbeat().split("test").batch(torch.arange(n))["x"]
    for steps in (5, 20, 300):
        schedule = Erasure(steps)
        nats = BinomialBound(60)(schedule, beats(schedule), x_0, Rng(0, torch.arange(n))).nats / math.log(2)
        found[steps] = nats.mean().item(), nats.std().item() / math.sqrt(n)
    assert found[5][0] > found[20][0] + 0.1 > found[300][0] + 0.2
    assert found[300][0] == pytest.approx(math.log2(5), abs=4 * found[300][1] + 0.03)


# Samples


@pytest.mark.parametrize("steps", [None, 3, 1])
def test_samples_are_those_of_the_chain(steps):
    """As often as the sum over all ways to them says, with every step of the table or longer ones."""
    schedule, n, bits = Erasure(6), 20_000, 3
    sampler, rng = AncestralBits(steps), Rng(0, torch.arange(20_000))
    coins = 2 * rng.stage("prior").integers(2, bits).double() - 1
    x = sampler(schedule, opinion, coins, rng)
    number = ((x + 1) / 2 @ torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)).long()
    often = number.bincount(minlength=8) / n
    expected = chain(schedule, opinion, sampler.times(schedule), bits)
    torch.testing.assert_close(often.double(), expected, rtol=0, atol=4 * 0.5 / math.sqrt(n))
    assert sampler.evaluations(schedule) == (steps or 6)


def test_right_beliefs_draw_beats_and_nothing_else():
    schedule, rng, seen = Erasure(100), Rng(0, torch.arange(500)), []
    coins = 2.0 * rng.stage("prior").integers(2, 20).float() - 1
    x = AncestralBits()(schedule, beats(schedule), coins, rng, lambda progress, state: seen.append(progress))
    five = Heartbeat().split("test").batch(torch.arange(5))["x"]
    same = (x[:, None] == five).all(2)
    assert same.any(1).float().mean() > 0.98
    assert same.float().mean(0).tolist() == pytest.approx([0.2] * 5, abs=0.08)
    assert seen == pytest.approx([i / 100 for i in range(101)])


# Models


def model(schedule: Schedule | None = None, spec: Field | None = None, **network: int) -> BinomialDiffusion:
    field = spec or Field((4,), levels=2)
    net = MLP(field.shape, **{"width": 8, "layers": 1, **network})
    return BinomialDiffusion({"x": field}, net, schedule or Erasure(5), UniformTimes(), Unconditional())


def test_a_network_that_says_nothing_believes_what_the_bit_says():
    """Its last layer is zero at first."""
    made = model()
    x, t = states(4).float(), torch.tensor(0.4, dtype=torch.float64)
    found = made.beliefs({})(x, t)
    torch.testing.assert_close(found, x.double() * evidence(torch.tensor(0.6, dtype=torch.float64)))
    assert found.dtype == torch.float64


def test_the_loss_is_the_bound_in_bits_a_dimension():
    torch.manual_seed(0)
    made, n = model(Cosine(20)), 1500
    nn.init.normal_(made.network.last.weight, std=0.3)
    x_0 = states(4).float().repeat(n, 1)
    rng = Rng(0, torch.arange(len(x_0)))
    with torch.no_grad():
        loss = made.loss({"x": x_0}, rng, "model", 0)["loss"].item()
    nats = made.nll({"x": x_0}, rng, BinomialBound("all")).nats
    assert loss == pytest.approx(nats.mean().item() / (4 * math.log(2)), rel=0.03)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: model(spec=Field((4,), levels=17)), "data: bits are flipped, and x has 17 levels; choose data of two"),
        (lambda: model(spec=Field((4,))), "data: bits are flipped, and x has real values"),
        (lambda: model(VariancePreserving()), "schedule: bits are flipped in steps, and the schedule is continuous"),
        (
            lambda: model(Geometric()),
            "schedule: .* it does not preserve the variance; choose erasure, linear or cosine",
        ),
        (lambda: AncestralBits(7).evaluations(Erasure(6)), "sampler.steps=7: the model's schedule has 6 steps"),
        (
            lambda: BinomialBound()(VariancePreserving(), opinion, states(2), Rng(0, torch.arange(4))),
            "schedule: bits are flipped in steps",
        ),
    ],
    ids=["levels", "real", "continuous", "exploding", "steps", "bound"],
)
def test_what_cannot_be_done_is_said_in_a_line(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_a_schedule_that_would_learn_is_refused():
    schedule = Erasure(5)
    schedule.weight = nn.Parameter(torch.zeros(1))
    with pytest.raises(UserError, match="schedule: flips have no gradient by which it could learn"):
        model(schedule)


def test_wrong_settings_are_named():
    for make, message in (
        (lambda: Erasure(1), "steps must be at least 2, not 1"),
        (lambda: BinomialBound(0), "t must be at least 1 or all, not 0"),
        (lambda: AncestralBits(0), "steps must be at least 1, not 0"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_samplers_and_bounds_of_normal_noise_are_not_for_bits_nor_the_reverse():
    name = "genlab.models.diffusion"
    ours, theirs = (f"{c.__module__}.{c.__qualname__}" for c in (BinomialDiffusion, GaussianDiffusion))
    wrong = {
        (ours, "sampler"): f"{name}.samplers.ancestral.Ancestral",
        (ours, "estimator"): f"{name}.bound.VariationalBound",
        (theirs, "sampler"): f"{name}.samplers.bits.AncestralBits",
        (theirs, "estimator"): f"{name}.bits_bound.BinomialBound",
    }
    for (target, part), asked in wrong.items():
        with pytest.raises(UserError, match=rf"{part}: \w+ takes \w+ or null, not {asked}"):
            check_asked({"_target_": target}, part, {"_target_": asked})
