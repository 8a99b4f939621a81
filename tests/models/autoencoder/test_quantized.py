"""Vector quantization: the nearest vector, its gradients, how a codebook learns, and what codes are."""

import math

import pytest
import torch
import torch.distributed as dist

from genlab.core.rng import Rng
from genlab.models.autoencoder.codebook import AT_ONCE, nearest, spread, usage
from genlab.models.autoencoder.quantized import Quantized


def maps(seed: int = 0, rows: int = 4, size: int = 3, side: int = 2) -> torch.Tensor:
    return torch.randn(rows, size, side, side, generator=torch.Generator().manual_seed(seed))


def started(h: torch.Tensor | None = None, **options) -> Quantized:
    torch.manual_seed(0)
    made = Quantized(**{"codes": 8, "size": 3, "restart": 0.0, **options})
    made.prepare([maps(9, rows=16) if h is None else h])
    return made


def test_the_nearest_vector_is_that_of_all_distances(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    vectors, codebook = (torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in (200, 37))
    brute = (vectors[:, None] - codebook).square().sum(2).argmin(1)
    assert torch.equal(nearest(vectors, codebook), brute)
    monkeypatch.setattr("genlab.models.autoencoder.codebook.AT_ONCE", 37 * 7)
    assert AT_ONCE > 37 * 200
    assert torch.equal(nearest(vectors, codebook), brute)


def test_of_equally_near_vectors_it_is_the_first():
    codebook = torch.tensor([[4.0, 4.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert nearest(torch.tensor([[1.0, 1.0], [1.0, 0.0], [3.0, 4.0]]), codebook).tolist() == [1, 1, 0]


@pytest.mark.parametrize("cosine", [False, True])
def test_gradients_pass_straight_through(cosine):
    """What comes to the encoder from the decoder is what the decoder has at the code itself."""
    made, h = started(cosine=cosine).eval(), maps().requires_grad_()
    weights = maps(1)
    z = made(h).sample(Rng(0, torch.arange(4)), 2)
    (gradient,) = torch.autograd.grad((z.square() * weights[:, None]).sum(), h)
    code = z[:, 0].detach()
    expected = 2 * (2 * weights * code)
    if cosine:
        (expected,) = torch.autograd.grad(torch.nn.functional.normalize(h, dim=1), h, expected)
    torch.testing.assert_close(gradient, expected)
    rows = code.movedim(1, -1).flatten(0, -2)
    assert all((made.codebook == row).all(1).any() for row in rows)


def test_the_commitment_is_a_sum_that_holds_the_encoder_alone():
    made, h = started(ema=False, commitment=0.3), maps().requires_grad_()
    posterior = made(h, 0)
    distance = (h.detach() - posterior.z.detach()).square().flatten(1).sum(1)
    torch.testing.assert_close(posterior.penalties["commitment"], 0.3 * distance)
    torch.testing.assert_close(posterior.penalties["codebook"], distance)
    of_h, of_codes = torch.autograd.grad(
        posterior.penalties["commitment"].sum(), (h, made.codebook), allow_unused=True, retain_graph=True
    )
    torch.testing.assert_close(of_h, 0.6 * (h - posterior.z).detach())
    assert of_codes is None
    of_h, of_codes = torch.autograd.grad(posterior.penalties["codebook"].sum(), (h, made.codebook), allow_unused=True)
    assert of_h is None
    vectors, index = h.detach().movedim(1, -1).flatten(0, -2), posterior.given["index"].flatten()
    for j in range(8):
        torch.testing.assert_close(of_codes[j], 2 * (made.codebook[j] - vectors[index == j]).sum(0).detach())


def test_two_steps_of_the_moving_average_by_hand():
    made = started(decay=0.9, smoothing=0.01).double()
    counts, sums, codebook = torch.ones(8).double(), made.codebook.clone(), made.codebook.clone()
    for step in range(2):
        h = maps(step, rows=6).double()
        vectors = h.movedim(1, -1).flatten(0, -2)
        index = (vectors[:, None] - codebook).square().sum(2).argmin(1)
        for j in range(8):
            mine = vectors[index == j]
            counts[j] = 0.9 * counts[j] + 0.1 * len(mine)
            sums[j] = 0.9 * sums[j] + 0.1 * mine.sum(0)
        total = counts.sum()
        codebook = sums / ((counts + 0.01) / (total + 8 * 0.01) * total)[:, None]
        made(h, step)
        made.after_step(step)
    torch.testing.assert_close(made.counts, counts)
    torch.testing.assert_close(made.codebook, codebook)


def taught(parts: list[torch.Tensor], **options) -> Quantized:
    """After one step in which it saw these micro-batches."""
    made = started(**options)
    for part in parts:
        made(part, 0)
    made.after_step(5)
    return made


def test_micro_batches_count_as_one_batch():
    h = maps(rows=8)
    whole, parts = taught([h], restart=0.9), taught([h[:3], h[3:]], restart=0.9)
    assert not torch.equal(whole.codebook, started().codebook)
    torch.testing.assert_close(parts.state_dict(), whole.state_dict())


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    made = taught([maps(rows=8)[4 * rank : 4 * rank + 4]], restart=0.9)
    torch.save(made.state_dict(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_learn_what_one_would(tmp_path):
    torch.multiprocessing.spawn(process, args=(str(tmp_path),), nprocs=2)
    whole, parts = taught([maps(rows=8)], restart=0.9), [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    torch.testing.assert_close(parts[0], whole.state_dict())
    assert all(torch.equal(parts[0][key], parts[1][key]) for key in parts[0])


def test_what_is_not_learned_from_changes_nothing():
    made = started(restart=0.5)
    before = {key: value.clone() for key, value in made.state_dict().items()}
    made(maps(), None)
    made.eval()(maps(), 3)
    made.after_step(3)
    torch.testing.assert_close(made.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("ema", [True, False])
@pytest.mark.parametrize("restart", [0.0, 0.1])
def test_codes_that_nothing_takes_start_again(ema, restart):
    made, h = started(ema=ema, restart=restart, decay=0.5), maps(3, rows=16)
    with torch.no_grad():
        made.codebook[2:] += 100
        made.sums[2:] += 100
    for step in range(20):
        made(h, step)
        made.after_step(step)
    used = made.eval()(h).given["index"].unique()
    if restart == 0:
        assert len(used) == 2
        return
    assert len(used) == 8
    assert (made.counts[2:] > 0.01).all()


def test_codes_start_from_different_vectors_of_the_data():
    """Even where most places look the same."""
    h = torch.zeros(64, 3, 2, 2)
    h[0], h[1] = maps(0, 2)
    made = started(h)
    vectors = h.movedim(1, -1).flatten(0, -2)
    assert all((vectors == code).all(1).any() for code in made.codebook)
    assert len(made.codebook.unique(dim=0)) >= 6
    few = spread(vectors[:3], 8, Rng(0, torch.arange(8)))
    assert len(few.unique(dim=0)) == 3


@pytest.mark.parametrize("options", [{}, {"cosine": True}, {"dimension": 2}, {"ema": False, "cosine": True}], ids=str)
def test_codes_lead_to_what_the_decoder_was_given(options):
    made, h = started(**options).eval(), maps()
    posterior = made(h)
    codes = posterior.codes()
    fields = made.fields(posterior.mode().shape[1:])
    assert {key: tuple(value.shape[1:]) for key, value in codes.items()} == {k: f.shape for k, f in fields.items()}
    assert fields["index"].classes == 8
    assert codes["index"].dtype == torch.int64
    for some in (codes, {"index": codes["index"]}, {"z": codes["z"]}):
        assert torch.equal(made.vectors(some), posterior.mode())
    if options.get("cosine"):
        torch.testing.assert_close(codes["z"].norm(dim=1), torch.ones(4, 2, 2))


def test_a_vector_has_one_number():
    made = started(torch.randn(32, 3))
    codes = made(torch.randn(5, 3)).codes()
    assert codes["index"].shape == (5,)
    assert torch.equal(made.vectors({"index": codes["index"]}), codes["z"])


def test_the_prior_is_uniform_over_all_maps():
    made = started().eval()
    posterior = made(maps())
    z = posterior.sample(Rng(0, torch.arange(4)), 3)
    torch.testing.assert_close(posterior.kl(), torch.full((4,), 4 * math.log(8)))
    torch.testing.assert_close(posterior.log_prob(z) - posterior.log_prior(z), posterior.kl()[:, None].expand(4, 3))
    index = made.prior(made.fields(torch.Size([3, 2, 2])), Rng(0, torch.arange(2000)))["index"]
    assert index.shape == (2000, 2, 2)
    torch.testing.assert_close(index.flatten().bincount() / 8000, torch.full((8,), 1 / 8), rtol=0, atol=0.02)


def test_perplexity_is_the_exponential_of_the_entropy():
    index = torch.tensor([[0, 0, 1], [2, 0, 1]])
    found = usage(index, 5)
    p = torch.tensor([3 / 6, 2 / 6, 1 / 6])
    torch.testing.assert_close(found["perplexity"], (-(p * p.log()).sum()).exp())
    torch.testing.assert_close(found["used"], torch.tensor(3 / 5))
    posterior = started()(maps(), 0)
    torch.testing.assert_close(dict(posterior.notes), usage(posterior.given["index"], 8))


@pytest.mark.parametrize("ema", [True, False])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_codebook_that_is_not_finite_is_seen_in_the_loss(ema, bad):
    """Also where no place takes the vector that it spoiled."""
    made, h = started(ema=ema), maps()
    unused = next(j for j in range(8) if j not in made(h).given["index"])
    assert made(h, 0).penalties["commitment"].isfinite().all()
    with torch.no_grad():
        made.codebook[unused, 0] = bad
    assert not made(h, 0).penalties["commitment"].isfinite().any()


def test_encoders_that_are_not_finite_spoil_the_loss_at_once():
    h = maps()
    h[0, 0, 0, 0] = math.nan
    assert not started()(h, 0).penalties["commitment"].isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codes": 0}, "^codes must be at least 1, not 0"),
        ({"size": 0}, "^size must be at least 1, not 0"),
        ({"dimension": 0}, "^dimension must be at least 1, or null for size, not 0"),
        ({"commitment": -1}, "^commitment must be at least 0"),
        ({"decay": 1}, "^decay must be at least 0 and below 1"),
        ({"smoothing": 0}, "^smoothing must be above 0"),
        ({"restart": 1}, "^restart must be at least 0"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Quantized(**options)
