"""Two levels of codes: round trips, what depends on what, and maps that cannot be halved."""

import math

import pytest
import torch

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.autoencoder.quantized import Quantized
from genlab.models.autoencoder.two_level import TwoLevel


def started(**options) -> tuple[TwoLevel, torch.Tensor]:
    torch.manual_seed(0)
    top, bottom = Quantized(8, 3, **options), Quantized(16, 5, dimension=2, **options)
    made, h = TwoLevel(top, bottom, size=4, width=6, hidden=4, blocks=1), torch.randn(6, 4, 4, 6)
    made.prepare(iter([h]))
    return made, h


def test_codes_lead_to_what_the_decoder_was_given():
    made, h = started()
    posterior = made.eval()(h)
    codes, z = posterior.codes(), posterior.mode()
    assert z.shape == (6, made.outputs, 4, 6)
    fields = made.fields(z.shape[1:])
    assert {key: tuple(value.shape[1:]) for key, value in codes.items()} == {k: f.shape for k, f in fields.items()}
    assert set(codes) == {"z_top", "index_top", "z_bottom", "index_bottom"}
    assert (fields["index_top"].classes, fields["index_bottom"].classes) == (8, 16)
    assert codes["index_top"].shape == (6, 2, 3)
    for kind in ("", "z", "index"):
        assert torch.equal(made.vectors({k: v for k, v in codes.items() if k.startswith(kind)}), z)


def test_both_codebooks_start_from_data_and_learn():
    made, h = started()
    posterior = made(h, 0)
    assert len(posterior.given["index_top"].unique()) > 4
    assert len(posterior.given["index_bottom"].unique()) > 8
    assert set(posterior.penalties) == {"commitment_top", "commitment_bottom"}
    assert set(posterior.notes) == {"perplexity_top", "used_top", "perplexity_bottom", "used_bottom"}
    before = [level.codebook.clone() for level in (made.top, made.bottom)]
    made.after_step(0)
    assert not torch.equal(made.top.codebook, before[0])
    assert not torch.equal(made.bottom.codebook, before[1])


def test_gradients_reach_all_of_it():
    made, h = started(ema=False)
    posterior = made(h.requires_grad_(), 0)
    loss = posterior.sample(Rng(0, torch.arange(6))).square().sum()
    (loss + sum(penalty.sum() for penalty in posterior.penalties.values())).backward()
    assert h.grad.any()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in made.parameters())


def test_the_bottom_is_told_what_the_top_says():
    made, h = started()
    z_top = made.eval().top(made.coarse(h)).z
    assert not torch.equal(made.fine(h, z_top), made.fine(h, z_top.flip(0)))


def test_the_prior_is_uniform_on_both_levels():
    made, h = started()
    posterior = made.eval()(h)
    torch.testing.assert_close(posterior.kl(), torch.full((6,), 6 * math.log(8) + 24 * math.log(16)))
    drawn = made.prior(made.fields(posterior.mode().shape[1:]), Rng(0, torch.arange(3)))
    assert made.vectors(drawn).shape == (3, made.outputs, 4, 6)
    assert not torch.equal(drawn["index_top"], drawn["index_bottom"][:, ::2, ::2])


def test_maps_that_cannot_be_halved_are_refused():
    made, _ = started()
    with pytest.raises(UserError, match=r"^bottleneck=two_level: .* 7x7 is not divisible by 2; choose a smaller"):
        made(torch.zeros(1, 4, 7, 7))
    with pytest.raises(UserError, match=r"^bottleneck=two_level: is for codes that are maps"):
        made(torch.zeros(1, 4))
    with pytest.raises(ValueError, match=r"^size must be at least 1, not 0"):
        TwoLevel(made.top, made.bottom, size=0)
