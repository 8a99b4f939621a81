"""Tones of an instrument that is struck, of twelve pitch classes: sound that needs no files.

    v(t) = a e(t) sum_k w^(k-1) / k sin(2 pi k f t + p_k),    f = 220 Hz 2^(o + label / 12),    k f below half the rate
    e(t) = (1 - exp(-t / 5 ms)) exp(-t / d),    d the decay, o the octave, w the brightness

The twelve labels are the notes from A up to G sharp. A datum is a function of its number, by Philox numbers of a fixed
key, so the data never change.
"""

import math
from functools import cached_property

import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.core.spec import Field, Spec
from genlab.data.audio import LEVELS, coded
from genlab.data.contract import InMemory, SplitName

LOWEST, ATTACK, PARTIALS = 220.0, 0.005, 4
FIRST: dict[SplitName, int] = {"train": 0, "validation": 2**30, "test": 2**31}
HELD_OUT = 500


class Tones:
    """Struck tones of up to four partials in two octaves, the label their pitch class of twelve.

    500 validation and 500 test tones, the same for every `size`.

    Arguments:
        rate: values a second.
        length: values of a tone.
        size: train tones.
    """

    classes = ("A", "A sharp", "B", "C", "C sharp", "D", "D sharp", "E", "F", "F sharp", "G", "G sharp")

    def __init__(self, rate: int = 8000, length: int = 4000, size: int = 2000) -> None:
        highest = 4 * LOWEST
        if rate < 2 * highest:
            raise ValueError(f"rate must be at least {2 * highest:.0f}, not {rate}: tones reach {highest:.0f} Hz")
        if length < 1 or not 1 <= size <= FIRST["validation"]:
            raise ValueError(f"length={length} and size={size} must be at least 1, and size at most 2^30")
        self.rate, self.length, self.size = rate, length, size

    @property
    def spec(self) -> Spec:
        sound = Field((1, self.length), levels=LEVELS, rate=self.rate)
        return {"x": sound, "label": Field((), classes=len(self.classes))}

    @property
    def identity(self) -> str:
        return f"tones-{self.rate}-{self.length}-{self.size}"

    def split(self, name: SplitName) -> InMemory:
        return self._splits[name]

    @cached_property
    def _splits(self) -> dict[SplitName, InMemory]:
        sizes: dict[SplitName, int] = {"train": self.size, "validation": HELD_OUT, "test": HELD_OUT}
        return {name: self._made(FIRST[name] + torch.arange(size)) for name, size in sizes.items()}

    def _made(self, number: Tensor) -> InMemory:
        rng = Rng(0, number).stage("tones")
        label, octave = rng.integers(len(self.classes)), rng.integers(2)
        frequency = LOWEST * 2.0 ** (octave + label / len(self.classes))
        brightness, loudness = 0.2 + 0.7 * rng.uniform(), 0.2 + 0.3 * rng.uniform()
        decay = 0.05 * 8.0 ** rng.uniform()
        phase = 2 * math.pi * rng.uniform(PARTIALS)
        t = torch.arange(self.length) / self.rate
        v = torch.zeros(len(number), self.length)
        for k in range(1, PARTIALS + 1):
            weight = brightness ** (k - 1) / k * (k * frequency < self.rate / 2)
            v += weight[:, None] * (2 * math.pi * k * frequency[:, None] * t + phase[:, k - 1 : k]).sin()
        envelope = -(-t / ATTACK).expm1() * (-t / decay[:, None]).exp()
        return InMemory(coded(loudness[:, None] * envelope * v)[:, None], LEVELS, label)
