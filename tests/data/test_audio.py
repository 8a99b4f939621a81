"""The mu-law and wav files: exact where they can be, and refused in a line where they are broken."""

import wave

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from genlab.core.units import from_levels
from genlab.data.audio import LEVELS, BrokenSound, coded, compress, expand, read_wav, resampled, wav


def test_every_level_comes_back_from_what_it_is_expanded_to():
    for levels in (2, 16, LEVELS):
        every = torch.arange(levels)
        assert coded(expand(from_levels(every, levels, torch.float64), levels), levels).tolist() == every.tolist()


def test_the_mu_law_is_the_published_one():
    """F(1/2) = ln(128.5) / ln(256), and its inverse."""
    v = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0], dtype=torch.float64)
    y = compress(v)
    torch.testing.assert_close(y, torch.tensor([-1.0, -0.875703, 0.0, 0.875703, 1.0]).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(expand(y), v)
    assert coded(torch.tensor([0.0, 2.0, -2.0])).tolist() == [128, 255, 0]


@pytest.mark.parametrize(
    ("kind", "step"),
    [(np.uint8, 2**-7), (np.int16, 2**-15), (np.int32, 2**-31), (np.float32, 1e-7), (np.float64, 1e-12)],
)
def test_numbers_of_all_widths_are_read_alike(tmp_path, kind, step):
    sound = np.sin(np.arange(300) / 7)[:, None] * [0.5, -0.25]
    kept = sound if np.dtype(kind).kind == "f" else np.round(sound / step) + (128 if kind == np.uint8 else 0)
    wavfile.write(tmp_path / "a.wav", 8000, kept.astype(kind))
    rate, found = read_wav(tmp_path / "a.wav")
    assert rate == 8000
    np.testing.assert_allclose(found, sound, atol=0.51 * step)


def test_24_bits_are_read(tmp_path):
    numbers = [0, 1, -1, 2**23 - 1, -(2**23)]
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(3)
        file.setframerate(44_100)
        file.writeframes(b"".join(n.to_bytes(3, "little", signed=True) for n in numbers))
    rate, found = read_wav(tmp_path / "a.wav")
    assert rate == 44_100
    assert (found[:, 0] * 2**23).tolist() == numbers


def test_what_is_written_is_read_back(tmp_path):
    v = expand(from_levels(torch.arange(LEVELS), LEVELS, torch.float64))
    (tmp_path / "a.wav").write_bytes(wav(v, 16_000))
    rate, found = read_wav(tmp_path / "a.wav")
    assert rate == 16_000
    assert coded(torch.from_numpy(found[:, 0])).tolist() == list(range(LEVELS))


def test_a_sine_resampled_is_the_sine_at_the_other_rate():
    high, low = (np.sin(2 * np.pi * 440 * np.arange(rate) / rate) for rate in (44_100, 8000))
    found = resampled(high, 44_100, 8000)
    assert len(found) == 8000
    assert np.abs(found - low)[100:-100].max() < 1e-2
    # What the lower rate cannot hold does not come back as another tone.
    hiss = np.sin(2 * np.pi * 6000 * np.arange(44_100) / 44_100)
    assert np.abs(resampled(hiss, 44_100, 8000))[100:-100].max() < 1e-2


def test_broken_files_are_said_to_be(tmp_path):
    path = tmp_path / "a.wav"
    whole = wav(torch.zeros(1000), 8000)
    not_finite = tmp_path / "b.wav"
    wavfile.write(not_finite, 8000, np.array([0.0, np.nan], np.float32))
    with pytest.raises(BrokenSound, match="not finite"):
        read_wav(not_finite)
    for content in (b"", b"no sound at all", whole[:30], whole[:500], wav(torch.zeros(0), 8000)):
        path.write_bytes(content)
        with pytest.raises(BrokenSound) as caught:
            read_wav(path)
        assert "\n" not in str(caught.value)
