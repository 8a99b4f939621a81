"""Sound as files and pictures: what is heard is what the levels say, and a tone is a line at its height."""

import numpy as np
import pytest
import torch

from genlab.core.spec import Field, spec_from_config, spec_to_config
from genlab.core.units import from_levels, to_levels
from genlab.data.audio import coded, read_wav
from genlab.runner.forms import Sounds
from genlab.runner.pictures import mosaic, viewable
from genlab.runner.sounds import spectrograms
from genlab.tasks.complete import Complete

FIELD = Field((1, 2000), levels=256, rate=8000)


def tones(*hertz: float) -> torch.Tensor:
    t = torch.arange(2000, dtype=torch.float64) / 8000
    v = torch.stack([(2 * np.pi * f * t).sin() for f in hertz])
    return from_levels(coded(v), 256)[:, None]


def test_a_tone_is_a_white_line_at_its_height():
    hertz = (500.0, 2000.0, 3000.0)
    picture = spectrograms(tones(*hertz), FIELD)
    middle = picture[:, 0, :, picture.shape[-1] // 2]
    bins = picture.shape[-2] - 1
    assert (bins - middle.long().argmax(1)).tolist() == [round(f / 4000 * bins) for f in hertz]
    assert middle.max() >= 253
    # All else is far below, down to the noise of the levels.
    assert middle.long().median() < 100


def test_sound_is_seen_whatever_its_length():
    for length in (1, 2, 7, 300):
        field = Field((1, length), levels=256, rate=8000)
        assert viewable(field)
        assert mosaic(torch.zeros(3, 1, length), field).dtype == torch.uint8


def test_files_hold_what_was_drawn_and_what_was_given(tmp_path):
    x = tones(*range(100, 1700, 100))
    form = Sounds(tmp_path, FIELD, len(x), Complete())
    form.write(0, {"x": x, "data": x.flip(0), "given": torch.zeros_like(x)})
    assert form.missing() == []
    for name, expected in (("000003", x[3]), ("000003_data", x[12]), ("000003_given", torch.zeros(1, 2000))):
        rate, sound = read_wav(tmp_path / f"{name}.wav")
        assert rate == 8000
        # 0 is between two levels, and stands for silence.
        assert coded(torch.from_numpy(sound.T)).equal(to_levels(expected, 256).to(torch.uint8))
    assert form.picture(16).shape[0] == 3


def test_the_rate_travels_with_the_spec():
    assert spec_from_config(spec_to_config({"x": FIELD})) == {"x": FIELD}
    with pytest.raises(ValueError, match="rate=8000 must be at least 1 and is of sound"):
        Field((2, 100), rate=8000)
