"""Laws of the times drawn in training: how they are spread, and that what is drawn more often counts less."""

import math

import pytest
import torch
import torch.distributed as dist
from closed_form import CONTINUOUS, SCHEDULES, times
from scipy.stats import kstest, norm
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.diffusion.continuous import LinearSigma, VarianceExploding, VariancePreserving
from genlab.models.diffusion.schedule import LinearBeta
from genlab.models.diffusion.times import LogNormal, LossAware, LowDiscrepancy, UniformLogSnr, radical_inverse
from genlab.models.diffusion.weighting import Likelihood, UniformTimes

TABLE, CONTINUOUS_TIME = LinearBeta(40), VariancePreserving()
EVERY = {
    "uniform": UniformTimes(),
    "low discrepancy": LowDiscrepancy(),
    "log-normal": LogNormal(),
    "log-SNR": UniformLogSnr(),
    "loss-aware": LossAware(steps=40),
}
every = pytest.mark.parametrize("name", EVERY)


def rng(rows: int, step: int = 0, seed: int = 0) -> Rng:
    return Rng(seed, torch.arange(rows), step).stage("train")


# Of all


@every
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_times_are_those_of_the_schedule(name, schedule):
    sampler = LossAware(steps=schedule.steps or 50) if name == "loss-aware" else EVERY[name]
    if name == "log-SNR" and schedule.steps is not None:
        with pytest.raises(UserError, match=f"times=log_snr: .* a table of {schedule.steps} steps"):
            sampler.check(schedule)
        return
    sampler.check(schedule)
    t = sampler(schedule, rng(500))
    assert t.dtype == torch.float64
    assert ((t > 0) & (t <= 1)).all()
    if schedule.steps is not None:
        number = (t * schedule.steps).round()
        assert torch.equal(t, number / schedule.steps)
        assert number.min() >= 1
    assert schedule.log_snr(t).isfinite().all()
    assert (sampler.weight(schedule, t) > 0).all()


@every
def test_rows_may_be_split_over_processes(name):
    sampler, schedule = EVERY[name], CONTINUOUS_TIME
    whole = sampler(schedule, rng(12, step=3))
    parts = [sampler(schedule, rng(12, step=3).rows(rows)) for rows in (slice(0, 5), slice(5, 12))]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(sampler(schedule, rng(12, step=4)), whole)
    assert not torch.equal(sampler(schedule, rng(12, step=3, seed=1)), whole)


@pytest.mark.parametrize("name", ["uniform", "low discrepancy", "log-SNR", "loss-aware"])
def test_the_weighted_mean_is_that_of_uniform_times(name):
    """Of t^2: 1/3 in the mean over many steps."""
    sampler = EVERY[name]
    found = []
    for step in range(40):
        t = sampler(CONTINUOUS_TIME, rng(500, step))
        found.append((sampler.weight(CONTINUOUS_TIME, t) * t**2).mean())
    found = torch.stack(found)
    assert found.mean().item() == pytest.approx(1 / 3, abs=4 * found.std().item() / 40**0.5 + 1e-4)


# Low discrepancy


def test_radical_inverses_are_mirrored_digits():
    found = radical_inverse(torch.arange(8)).tolist()
    assert found == [0, 1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8]
    assert radical_inverse(torch.tensor([2**32 - 1, 2**31])).tolist() == [1 - 2.0**-32, 2.0**-32]


@pytest.mark.parametrize("k", [0, 3, 7])
def test_a_batch_of_a_power_of_two_is_evenly_spaced(k):
    for step in range(5):
        t = LowDiscrepancy(first=0.0)(CONTINUOUS_TIME, rng(2**k, step)).sort().values
        torch.testing.assert_close(t.diff(), torch.full((2**k - 1,), 2.0**-k, dtype=torch.float64), rtol=0, atol=1e-12)


def test_any_batch_has_nearly_its_share_in_every_part_of_time():
    for rows in (50, 100, 333):
        t = LowDiscrepancy()(CONTINUOUS_TIME, rng(rows))
        counts = torch.histc(t, 10, 0, 1)
        assert (counts - rows / 10).abs().max() <= 4


def test_each_row_by_itself_has_uniform_times():
    t = torch.stack([LowDiscrepancy()(CONTINUOUS_TIME, rng(3, step)) for step in range(500)])
    for row in t.unbind(1):
        assert kstest(row, "uniform").pvalue > 1e-3


def test_a_table_is_gone_through_evenly():
    t = LowDiscrepancy()(LinearBeta(64), rng(256))
    assert (torch.bincount((t * 64).round().long(), minlength=65)[1:] == 4).all()


# Log-normal


@pytest.mark.parametrize("schedule", [LinearSigma(), VarianceExploding(low=1e-4), VariancePreserving()], ids=str)
def test_log_noise_is_normal(schedule):
    t = LogNormal(-1.2, 1.2)(schedule, rng(5000))
    log_noise = -0.5 * schedule.log_snr(t)
    inside = (t > schedule.t_min) & (t < schedule.t_max)
    assert kstest((log_noise[inside] + 1.2) / 1.2, "norm").pvalue > 1e-3
    assert inside.double().mean() > 0.98


def test_a_table_has_the_step_that_a_normal_level_falls_to():
    schedule = LinearBeta(40)
    t = LogNormal(-1.0, 1.0)(schedule, rng(20_000))
    ends = -0.5 * schedule.log_snr(times(schedule))
    for i in (5, 20, 35):
        share = norm.cdf(float(ends[i]) + 1) - norm.cdf(float(ends[i - 1]) + 1)
        found = ((t * 40).round() == i + 1).double().mean().item()
        assert found == pytest.approx(share, abs=4 * (share / 20_000) ** 0.5)


# Uniform in log-SNR


@pytest.mark.parametrize("name", CONTINUOUS)
def test_log_snr_is_uniform(name):
    schedule, sampler = CONTINUOUS[name], UniformLogSnr(1e-3)
    log_snr = schedule.log_snr(sampler(schedule, rng(5000)))
    most, least = schedule.log_snr(torch.tensor([1e-3, schedule.t_max], dtype=torch.float64)).tolist()
    assert kstest((log_snr - least) / (most - least), "uniform").pvalue > 1e-3


def test_the_likelihoods_weights_are_then_all_alike():
    t = UniformLogSnr()(CONTINUOUS_TIME, rng(100))
    weight = Likelihood()(CONTINUOUS_TIME, t) * UniformLogSnr().weight(CONTINUOUS_TIME, t)
    torch.testing.assert_close(weight, weight[:1].expand(100), rtol=1e-9, atol=0)


# Loss-aware


class Reference:
    """Improved DDPM's sampler with a loop over the batch: the last `history` losses of each step."""

    def __init__(self, steps: int, history: int, uniform: float = 1e-3) -> None:
        self.lists: list[list[float]] = [[] for _ in range(steps)]
        self.history, self.uniform = history, uniform

    def observe(self, t: Tensor, losses: Tensor) -> None:
        for number, loss in zip((t * len(self.lists)).round().long().tolist(), losses.tolist(), strict=True):
            self.lists[number - 1] = [*self.lists[number - 1], loss][-self.history :]

    def probabilities(self) -> Tensor:
        steps = len(self.lists)
        if min(map(len, self.lists)) < self.history:
            return torch.full((steps,), 1 / steps, dtype=torch.float64)
        root = torch.tensor([math.sqrt(sum(x * x for x in each) / len(each)) for each in self.lists]).double()
        return root / root.sum() * (1 - self.uniform) + self.uniform / steps


def batches(count: int, rows: int = 64, schedule: LinearBeta = TABLE) -> list[tuple[Tensor, Tensor]]:
    """Times, some of them many times in one batch, and their losses."""
    return [
        (UniformTimes()(schedule, rng(rows, step)) ** (1 + step % 2), 2 + rng(rows, step).stage("loss").normal())
        for step in range(count)
    ]


def in_table(t: Tensor, schedule: LinearBeta = TABLE) -> Tensor:
    return (t * schedule.steps).ceil() / schedule.steps


@pytest.mark.parametrize("history", [1, 3, 10])
def test_probabilities_are_the_published_ones(history):
    sampler, reference = LossAware(40, history).train(), Reference(40, history)
    warm = []
    for t, losses in batches(30):
        sampler.observe(TABLE, in_table(t), losses)
        reference.observe(in_table(t), losses)
        torch.testing.assert_close(sampler.probabilities(), reference.probabilities(), rtol=1e-6, atol=0)
        warm.append(bool((sampler.seen >= history).all()))
    assert not warm[0]
    assert warm[-1]


def aware(steps: int = 40) -> LossAware:
    """One that has seen losses that grow with t."""
    sampler = LossAware(steps, history=2).train()
    t = (torch.arange(2 * steps) % steps + 1).double() / steps
    sampler.observe(LinearBeta(40), t, 0.1 + t)
    return sampler


def test_the_weighted_mean_over_its_times_is_the_uniform_mean():
    sampler, t = aware(), times(TABLE)
    h = torch.randn(40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close((sampler.probabilities() * sampler.weight(TABLE, t) * h).sum(), h.mean())
    assert sampler.weight(TABLE, t)[0] > 4
    assert sampler.probabilities().sum().item() == pytest.approx(1)


def test_times_are_drawn_as_often_as_their_probabilities_say():
    sampler, n = aware(), 40_000
    counts = torch.bincount((sampler(TABLE, rng(n)) * 40).round().long(), minlength=41)[1:]
    expected = n * sampler.probabilities()
    assert ((counts - expected).abs() < 5 * expected.sqrt()).all()


def test_continuous_time_and_finer_tables_are_divided_into_parts():
    sampler, n = LossAware(10, history=1, first=0.0).train(), 20_000
    middle = (torch.arange(10).double() + 0.5) / 10
    sampler.observe(CONTINUOUS_TIME, middle, 1.0 + torch.arange(10))
    for schedule in (CONTINUOUS_TIME, LinearBeta(40)):
        sampler.check(schedule)
        t = sampler(schedule, rng(n))
        part = ((t - 1e-9) * 10).long()
        expected = n * sampler.probabilities()
        assert ((torch.bincount(part, minlength=10) - expected).abs() < 5 * expected.sqrt()).all()
        torch.testing.assert_close(sampler.weight(schedule, t), 1 / (10 * sampler.probabilities()[part]))
        within = (t - 1e-9) * 10 % 1
        assert within.mean().item() == pytest.approx(0.5, abs=0.15)
        assert within.std().item() == pytest.approx(12**-0.5, abs=0.03)


def test_nothing_is_learned_from_evaluation_and_all_is_part_of_the_state():
    sampler, again = aware(), LossAware(40, history=2)
    before = {key: value.clone() for key, value in sampler.state_dict().items()}
    sampler.eval().observe(TABLE, times(TABLE), torch.ones(40))
    assert all(torch.equal(value, before[key]) for key, value in sampler.state_dict().items())
    again.load_state_dict(before)
    assert torch.equal(again(TABLE, rng(50)), sampler(TABLE, rng(50)))


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    sampler = LossAware(40, history=3).train()
    for t, losses in batches(5):
        rows = slice(32 * rank, 32 * (rank + 1))
        sampler.observe(TABLE, in_table(t)[rows], losses[rows])
    torch.save(sampler.state_dict(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_learn_what_one_would(tmp_path):
    torch.multiprocessing.spawn(process, args=(str(tmp_path),), nprocs=2)
    alone = LossAware(40, history=3).train()
    for t, losses in batches(5):
        alone.observe(TABLE, in_table(t), losses)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert all(torch.equal(found[key], value) for key, value in alone.state_dict().items())


# Bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UniformTimes(1.0), "first must be at least 0 and below 1, not 1.0"),
        (lambda: LowDiscrepancy(-0.1), "first must be at least 0 and below 1, not -0.1"),
        (lambda: UniformLogSnr(0.0), "first must be above 0"),
        (lambda: LogNormal(std=0.0), "std must be above 0, not 0.0"),
        (lambda: LossAware(0), "steps must be at least 1, not 0"),
        (lambda: LossAware(history=0), "history must be at least 1, not 0"),
        (lambda: LossAware(uniform=0.0), "uniform must be above 0 and at most 1, not 0.0"),
        (lambda: LossAware(7).check(TABLE), "times.steps=7: the schedule is a table of 40 steps"),
    ],
    ids=["uniform", "low discrepancy", "log-SNR", "no spread", "no steps", "no history", "no share", "no divisor"],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
