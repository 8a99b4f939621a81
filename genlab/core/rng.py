"""Random numbers that depend on what they are for, and on nothing else.

Philox 4x32-10 maps a 128-bit counter and a 64-bit key to 128 random bits, in ten rounds of

    (c0, c1, c2, c3) -> (hi(M1 c2) ^ c1 ^ k0,  lo(M1 c2),  hi(M0 c0) ^ c3 ^ k1,  lo(M0 c0)),    k += (W0, W1)

Here the key is (seed, index) and the counter (element, draw, stage, step), so that sample i of a seed gets the same
noise in a batch of one and in a batch of a thousand, on one process and on eight, in a run and in its continuation.
It is integer arithmetic on tensors: the same bits on every device.

References:
    Parallel Random Numbers: As Easy as 1, 2, 3 (Salmon, Moraes, Dror & Shaw, 2011).
"""

import math
import zlib

import torch
from torch import Tensor

MULTIPLIER = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = 0xFFFFFFFF


Word = Tensor | int
"""32 bits, in an int64 tensor or a number."""


def _multiply(x: Word, by: int) -> Word:
    """The product modulo 2^64 as int64 has it, whose bits are those of uint64."""
    product = x * by
    return (product + 2**63) % 2**64 - 2**63 if isinstance(product, int) else product


def philox(counter: tuple[Word, Word, Word, Word], key: tuple[Word, Word]) -> tuple[Tensor, ...]:
    """Four words of 32 random bits for each counter.

    Arguments:
        counter, key: words below 2^32 that broadcast together, at least one of them a tensor. A word that all share
            is best a number, and tensors are best not expanded: the first rounds then have little to do.

    Returns:
        Four int64 tensors, each in [0, 2^32), of the broadcast shape.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # Low words are left with what stands above them, of which the masks clear what they are joined to.
        low0, low1 = _multiply(c0, MULTIPLIER[0]), _multiply(c2, MULTIPLIER[1])
        c0, c1, c2, c3 = (low1 >> 32 ^ c1 ^ k0) & MASK, low1, (low0 >> 32 ^ c3 ^ k1) & MASK, low0
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return c0, c1 & MASK, c2, c3 & MASK  # type: ignore[return-value]


def _unit(word: Tensor) -> Tensor:
    """The middles of those of 2^32 equal parts of (0, 1) that words name, in double precision."""
    return (word.double() + 0.5) * 2.0**-32


class Rng:
    """Random numbers for a batch: row i belongs to the datum or sample numbered `index[i]`.

    Each call is a new draw; a `stage` is a stream of its own with a name, so that what one part draws does not shift
    what another gets. A stage that is asked for again begins again.

    Arguments:
        seed: at least 0 and below 2^32.
        index: (B,) int64, the number of each row, below 2^32.
        step: the micro-batch count in training, below 2^32; 0 elsewhere.
        path: the names of the stages that led here, joined by "/".
    """

    def __init__(self, seed: int, index: Tensor, step: int = 0, path: str = "") -> None:
        if not 0 <= seed <= MASK:
            raise ValueError(f"seed must be at least 0 and below 2^32, not {seed}")
        self.seed, self.index, self.step, self.path = seed, index, step, path
        self.draw = 0

    def __len__(self) -> int:
        return len(self.index)

    @property
    def device(self) -> torch.device:
        return self.index.device

    def stage(self, name: str) -> "Rng":
        """The stream with this name; streams of one rng with different names are independent."""
        return Rng(self.seed, self.index, self.step, f"{self.path}/{name}" if self.path else name)

    def rows(self, rows: slice) -> "Rng":
        """The same draws for some of the rows."""
        part = Rng(self.seed, self.index[rows], self.step, self.path)
        part.draw = self.draw
        return part

    def _words(self, blocks: int) -> tuple[Tensor, ...]:
        """Four words (B, blocks) of the next draw, which are its elements by turns."""
        element = torch.arange(blocks, device=self.device)
        counter = (element, self.draw, zlib.crc32(self.path.encode()), self.step)
        self.draw += 1
        return philox(counter, (self.seed, self.index[:, None]))

    def bits(self, *shape: int) -> Tensor:
        """(B, *shape) int64, uniform in [0, 2^32)."""
        count = math.prod(shape)
        words = self._words(-(-count // 4))
        return torch.stack(words, dim=-1).flatten(1)[:, :count].reshape(len(self), *shape)

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """(B, *shape), uniform in (0, 1), both ends excluded: the middles of 2^n equal parts.

        n is 32, or as many as `dtype` holds exactly: 23 in single precision.
        """
        n = min(32, round(-math.log2(torch.finfo(dtype).eps)))
        return ((self.bits(*shape) >> (32 - n)).to(dtype) + 0.5) * 2.0**-n

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """(B, *shape), standard normal, by Box and Muller's transform of pairs of uniforms in double precision."""
        count = math.prod(shape)
        words = self._words(-(-count // 4))
        u, v = (_unit(torch.stack(pair, dim=-1)) for pair in (words[::2], words[1::2]))
        radius, angle = (-2 * u.log()).sqrt(), 2 * math.pi * v
        pairs = [(radius * angle.cos()).to(dtype), (radius * angle.sin()).to(dtype)]
        return torch.stack(pairs, dim=-1).flatten(1)[:, :count].reshape(len(self), *shape)

    def normal_like(self, x: Tensor) -> Tensor:
        """Standard normal noise of the shape, type and device of x (B, *)."""
        return self.normal(*x.shape[1:], dtype=x.dtype)

    def integers(self, high: int, *shape: int) -> Tensor:
        """(B, *shape) int64, uniform over 0 to high - 1, to within high / 2^32; `high` is at most 2^31."""
        return (self.bits(*shape) * high) >> 32
