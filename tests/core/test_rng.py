"""Laws of random numbers: the published answers, and that a number depends on what it is for and on nothing else."""

import math

import pytest
import torch
from scipy import stats

from genlab.core.rng import Rng, philox

WORD = 2**32
PUBLISHED = [
    ("00000000 00000000 00000000 00000000 00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
"""Counter, key and answer of `philox4x32 10` in the kat_vectors of the Random123 distribution."""

DRAWS = {
    "bits": lambda rng: rng.bits(3, 5),
    "uniform": lambda rng: rng.uniform(7),
    "uniform64": lambda rng: rng.uniform(2, 3, dtype=torch.float64),
    "normal": lambda rng: rng.normal(1, 8, 8),
    "normal64": lambda rng: rng.normal(3, 3, dtype=torch.float64),
    "one normal": lambda rng: rng.normal(dtype=torch.float64),
    "normal_like": lambda rng: rng.normal_like(torch.empty(len(rng), 5, dtype=torch.float64)),
    "integers": lambda rng: rng.integers(10),
}
draws = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def philox_of_integers(counter: list[int], key: list[int]) -> list[int]:
    """The definition, in Python's integers of any length."""
    c, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c[0], WORD)
        high1, low1 = divmod(0xCD9E8D57 * c[2], WORD)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) % WORD, (k[1] + 0xBB67AE85) % WORD]
    return c


def of_tensors(counter: list[int], key: list[int]) -> list[int]:
    return [int(w) for w in philox(tuple(map(torch.tensor, counter)), tuple(map(torch.tensor, key)))]


@pytest.mark.parametrize(("question", "answer"), PUBLISHED, ids=["zeros", "ones", "pi"])
def test_philox_gives_the_published_answers(question, answer):
    counter, key = words(question)[:4], words(question)[4:]
    assert of_tensors(counter, key) == words(answer)
    assert philox_of_integers(counter, key) == words(answer)


def test_philox_equals_its_definition():
    many = torch.randint(WORD, (6, 200), generator=torch.Generator().manual_seed(0))
    found = torch.stack(philox(tuple(many[:4]), tuple(many[4:])))
    for column in range(many.shape[1]):
        numbers = many[:, column].tolist()
        assert found[:, column].tolist() == philox_of_integers(numbers[:4], numbers[4:])


@draws
def test_a_row_is_the_same_alone_in_a_batch_and_in_any_order(draw):
    index = torch.tensor([5, 0, 17, 2**32 - 1, 3])
    whole = draw(Rng(9, index, step=4).stage("a"))
    for row, number in enumerate(index):
        assert torch.equal(draw(Rng(9, number[None], step=4).stage("a"))[0], whole[row])
    assert torch.equal(draw(Rng(9, index.flip(0), step=4).stage("a")), whole.flip(0))


@draws
def test_rows_draw_what_the_whole_draws(draw):
    rng = Rng(1, torch.arange(6)).stage("a")
    rng.bits(3)
    part = rng.rows(slice(2, 5))
    assert len(part) == 3
    assert torch.equal(draw(part), draw(rng)[2:5])


@draws
def test_the_same_numbers_again_and_others_for_anything_else(draw):
    index = torch.arange(100)
    first = draw(Rng(0, index, step=3).stage("a"))
    assert torch.equal(draw(Rng(0, index, step=3).stage("a")), first)
    later = Rng(0, index, step=3).stage("a")
    draw(later)
    others = [
        later,
        Rng(1, index, step=3).stage("a"),
        Rng(0, index + 100, step=3).stage("a"),
        Rng(0, index, step=4).stage("a"),
        Rng(0, index, step=3).stage("b"),
        Rng(0, index, step=3),
    ]
    for other in others:
        assert (draw(other) == first).double().mean() < 0.3


def test_neighbouring_seeds_share_no_numbers():
    """With seed + index for a key, sample i of seed s would be sample i - 1 of seed s + 1."""
    rows = torch.cat([Rng(seed, torch.arange(50)).bits(8) for seed in range(20)])
    assert len(rows.unique(dim=0)) == len(rows)


def test_a_path_of_stages_is_more_than_its_letters():
    rng = Rng(0, torch.arange(4))
    paths = [rng.stage("ab"), rng.stage("a").stage("b"), rng.stage("b").stage("a"), rng.stage("a"), rng.stage("b"), rng]
    drawn = torch.stack([path.bits(4) for path in paths]).flatten(1)
    assert len(drawn.unique(dim=0)) == len(paths)


def test_what_one_stage_draws_does_not_shift_another():
    rng = Rng(0, torch.arange(4))
    before = rng.stage("b").uniform(3)
    rng.stage("a").uniform(10)
    rng.bits(7)
    assert torch.equal(rng.stage("b").uniform(3), before)


def test_the_global_generator_is_neither_read_nor_moved():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = Rng(0, torch.arange(3)).normal(5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(Rng(0, torch.arange(3)).normal(5), first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_uniforms_are_uniform(dtype):
    u = Rng(0, torch.arange(200)).uniform(500, dtype=dtype)
    assert u.dtype == dtype
    u = u.double().flatten()
    assert stats.kstest(u.numpy(), "uniform").pvalue > 1e-3
    error = 1 / math.sqrt(len(u))
    assert u.mean().item() == pytest.approx(1 / 2, abs=4 * error * math.sqrt(1 / 12))
    assert u.var().item() == pytest.approx(1 / 12, abs=4 * error * math.sqrt(1 / 180))


@pytest.mark.parametrize("bits", [0, WORD - 1], ids=["lowest", "highest"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_uniforms_never_reach_0_or_1(monkeypatch, bits, dtype):
    monkeypatch.setattr("genlab.core.rng.philox", lambda counter, key: 4 * (torch.full((1, 1), bits),))
    u = Rng(0, torch.arange(1)).uniform(2, dtype=dtype)
    assert u.dtype == dtype
    assert ((u > 0) & (u < 1)).all()
    assert Rng(0, torch.arange(1)).normal(2, dtype=dtype).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_normals_are_standard_normal_and_pairs_independent(dtype):
    z = Rng(0, torch.arange(200)).normal(500, dtype=dtype)
    assert z.dtype == dtype
    z = z.double()
    assert stats.kstest(z.flatten().numpy(), "norm").pvalue > 1e-3
    error = 1 / math.sqrt(z.numel())
    assert z.mean().item() == pytest.approx(0, abs=4 * error)
    assert z.var().item() == pytest.approx(1, abs=4 * error * math.sqrt(2))
    assert (z**4).mean().item() == pytest.approx(3, abs=4 * error * math.sqrt(96))
    # Box and Muller's pairs lie next to each other; neither they nor their squares may be correlated.
    a, b = z.unflatten(1, (-1, 2)).flatten(0, 1).unbind(1)
    assert (a * b).mean().item() == pytest.approx(0, abs=4 * error * math.sqrt(2))
    assert ((a**2 - 1) * (b**2 - 1)).mean().item() == pytest.approx(0, abs=4 * 2 * error * math.sqrt(2))


def test_rows_and_draws_are_uncorrelated():
    rng = Rng(0, torch.arange(500))
    z = torch.stack([rng.normal(dtype=torch.float64) for _ in range(50)], dim=1)
    assert stats.kstest(z.flatten().numpy(), "norm").pvalue > 1e-3
    correlation = torch.corrcoef(z.T) - torch.eye(50)
    assert correlation.abs().max().item() < 5 / math.sqrt(500)


@pytest.mark.parametrize("high", [2, 10, 1000, 2**31])
def test_integers_are_uniform(high):
    n = Rng(0, torch.arange(100)).integers(high, 100).flatten()
    assert n.dtype == torch.int64
    assert ((n >= 0) & (n < high)).all()
    cells = 2 if high == 2 else 10
    counts = torch.bincount(n * cells // high, minlength=cells)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_an_integer_below_1_is_0():
    assert (Rng(0, torch.arange(100)).integers(1, 100) == 0).all()


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_is_no_word_is_named(seed):
    with pytest.raises(ValueError, match=f"seed must be at least 0 and below 2\\^32, not {seed}"):
        Rng(seed, torch.arange(1))
