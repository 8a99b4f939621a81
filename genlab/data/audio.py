"""Sound as levels, and wav files: reading, resampling, writing.

    F(v) = sign(v) ln(1 + mu |v|) / ln(1 + mu),    F^-1(y) = sign(y) ((1 + mu)^|y| - 1) / mu,    mu = levels - 1

The mu-law spends its levels on quiet sound, where an ear is most exact. Sound travels as its rounded levels in [-1, 1],
x = F(v), and all of them come back from what they are expanded to. Silence is the middle of an even number of levels,
and is rounded to the one above it.

References:
    Pulse code modulation (PCM) of voice frequencies (ITU-T recommendation G.711, 1988).
    WaveNet: A Generative Model for Raw Audio (van den Oord et al., 2016), section 2.2.
"""

import io
import math
import warnings
import wave
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.units import to_levels
from genlab.data.root import one_line

LEVELS = 256


class BrokenSound(UserError):
    """A wav file that cannot be read, and why."""


def compress(v: Tensor, levels: int = LEVELS) -> Tensor:
    """F(v) of v in [-1, 1], what lies outside clipped."""
    mu = levels - 1
    v = v.clamp(-1, 1)
    return v.sign() * (mu * v.abs()).log1p() / math.log1p(mu)


def expand(x: Tensor, levels: int = LEVELS) -> Tensor:
    """F^-1(x) of x in [-1, 1], the type of x."""
    mu = levels - 1
    return x.sign() * (x.abs() * math.log1p(mu)).expm1() / mu


def coded(v: Tensor, levels: int = LEVELS) -> Tensor:
    """The levels 0 .. levels - 1 of sound v in [-1, 1], uint8."""
    return to_levels(compress(v.double(), levels), levels).to(torch.uint8)


def read_wav(path: Path) -> tuple[int, np.ndarray]:
    """(rate, sound (N, channels) in [-1, 1], float64) of a wav file of 8, 16, 24 or 32 bits or floating point.

    Raises:
        BrokenSound: it is no wav file, ends too soon, is empty, or holds what is no number.
    """
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings():
            # Chunks that say other things than sound are left out in silence; a file that ends too soon is not.
            warnings.simplefilter("ignore", wavfile.WavFileWarning)
            warnings.filterwarnings("error", message="Reached EOF", category=wavfile.WavFileWarning)
            rate, sound = wavfile.read(path)
    except Exception as error:
        raise BrokenSound(one_line(error)) from error
    if not sound.size or rate < 1:
        raise BrokenSound("it holds no sound")
    sound = sound[:, None] if sound.ndim == 1 else sound
    if sound.dtype.kind == "f":
        if not np.isfinite(sound).all():
            raise BrokenSound("it holds numbers that are not finite")
        return rate, sound.astype(np.float64)
    # 8 bits count from 0 with silence at 128, and 24 bits come as the upper ones of 32.
    silence, full = (128, 128) if sound.dtype == np.uint8 else (0, -float(np.iinfo(sound.dtype).min))
    return rate, (sound.astype(np.float64) - silence) / full


def resampled(v: np.ndarray, rate: int, to: int) -> np.ndarray:
    """Sound (N,) of one rate at another, by a filter that lets nothing alias."""
    from scipy.signal import resample_poly

    if rate == to:
        return v
    common = math.gcd(rate, to)
    return resample_poly(v, to // common, rate // common)


def wav(v: Tensor, rate: int) -> bytes:
    """Sound (N,) in [-1, 1] as a wav file of one channel and 16 bits."""
    numbers = (v.detach().cpu().double().clamp(-1, 1) * 32767).round().to(torch.int16).numpy()
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(numbers.astype("<i2").tobytes())
    return buffer.getvalue()
