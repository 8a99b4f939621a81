"""Sounds as a person can hear and see them: wav files, and spectrograms.

    s(f, t) = 20 log10 |sum_n w_n v_{t+n} exp(-2 pi i f n)|,    0 dB being a sine as loud as can be

Time runs to the right and frequency upwards, from 0 to half the rate; black is 80 dB below white, which is 0 dB.
"""

from pathlib import Path

import torch
from torch import Tensor

from genlab.core.files import replacing
from genlab.core.spec import Field
from genlab.data.audio import expand, wav

# The longest window of a spectrogram, and how far down black is.
WINDOW, RANGE = 256, 80.0


def heard(x: Tensor, field: Field) -> Tensor:
    """Sound in [-1, 1] of data of its kind, which are mu-law levels where they have any."""
    x = x.detach().cpu().double()
    return x if field.levels is None else expand(x, field.levels)


def save_wav(x: Tensor, field: Field, path: Path) -> None:
    """A datum, or several one after the other, as a wav file; whole or not at all."""
    assert field.rate is not None
    with replacing(path) as file:
        file.write(wav(heard(x, field).flatten(), field.rate))


def spectrograms(x: Tensor, field: Field) -> Tensor:
    """Data (N, 1, L) as pictures (N, 1, F, T) in uint8."""
    v = heard(x, field)[:, 0]
    size = min(WINDOW, 2 ** (v.shape[-1].bit_length() - 1))
    window = torch.hann_window(size, dtype=v.dtype) + (size == 1)
    waves = torch.stft(v, size, max(1, size // 4), window=window, pad_mode="constant", return_complex=True)
    loudness = 20 * (waves.abs() * 2 / window.sum()).clamp(min=1e-9).log10()
    shade = (255 * (1 + loudness / RANGE)).round().clamp(0, 255).to(torch.uint8)
    return shade.flip(1)[:, None]
