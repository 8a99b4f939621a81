"""Tones sound at the pitch that their label says, and never change."""

import pytest
import torch

from genlab.core.units import to_levels
from genlab.data.audio import expand
from genlab.data.tones import LOWEST, Tones


def test_the_strongest_part_of_a_tone_is_a_partial_of_its_label():
    batch = Tones(size=40).split("train").batch(torch.arange(40))
    power = torch.fft.rfft(expand(batch["x"][:, 0].double()), 16 * 4000).abs()
    steps = 12 * (power.argmax(1) / 8.0 / LOWEST).log2() - batch["label"]
    # A whole number of octaves above, and the weight of higher partials is less than that of the first.
    assert (steps / 12 - (steps / 12).round()).abs().max() < 0.02
    assert batch["label"].unique().tolist() == list(range(12))


def test_held_out_tones_are_others_and_do_not_depend_on_the_size():
    small, large = Tones(length=200, size=5), Tones(length=200, size=9)
    assert small.split("train").x.equal(large.split("train").x[:5])
    assert small.split("test").x.equal(large.split("test").x)
    assert not small.split("test").x[:5].equal(small.split("train").x)


def test_tones_never_change():
    levels = to_levels(Tones(size=1).split("train").batch(torch.arange(1))["x"], 256).flatten()
    assert levels[[5, 100, 1000, 3999]].tolist() == pytest.approx([163, 45, 72, 80], abs=1)


def test_a_rate_too_low_for_the_tones_is_refused():
    with pytest.raises(ValueError, match="rate must be at least 1760, not 1000"):
        Tones(rate=1000)
