"""Vector quantization: at each place the code is the nearest of K vectors.

    z = e_j,    j = argmin_j |h - e_j|^2,    dz/dh = 1 (straight through)
    loss: b |h - sg(e_j)|^2 (commitment), and |sg(h) - e_j|^2 where the codebook is learned by gradients; else

    n_j <- d n_j + (1 - d) N_j,    m_j <- d m_j + (1 - d) S_j,    e_j = m_j / n_j

where N_j counts the vectors that took e_j in a step and S_j is their sum, over all micro-batches and all processes.
Codes that are hardly used any more start again from vectors that the codebook serves badly.

References:
    Neural Discrete Representation Learning (van den Oord, Vinyals & Kavukcuoglu, 2017), eq. 1 to 3, appendix A.1.
    Generating Diverse High-Fidelity Images with VQ-VAE-2 (Razavi, van den Oord & Vinyals, 2019), section 2.1.
    Jukebox: A Generative Model for Music (Dhariwal et al., 2020), section 3, for the restart.
    Vector-quantized Image Modeling with Improved VQGAN (Yu et al., 2022), section 3.2, for few dimensions and cosines.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.core.collectives import all_sum, world
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Spec
from genlab.models.autoencoder.bottleneck import Bottleneck
from genlab.models.autoencoder.codebook import (
    TINY,
    Point,
    check_sizes,
    count,
    fields,
    information,
    interval,
    look_up,
    nearest,
    requantized,
    rows,
    spread,
    uniform,
    usage,
)
from genlab.networks.layers import linear

# Of the draws that choose where codes start; the same in every run and every process.
SEED = 0
# How many vectors a code are looked at, if there are so many, before the first codes are chosen.
LOOKED_AT = 16


class Quantized(Bottleneck):
    """A codebook.

    Arguments:
        codes: K, how many vectors it has.
        size: how many numbers the encoder gives for each place.
        dimension: of the vectors; None is `size`, else a linear map leads there. The decoder takes the vectors as they
            are: the way back to more numbers is its first layer.
        commitment: b above. The penalty is a sum over a datum's places and dimensions, as in eq. 3 of the first paper.
            Code that takes means of both, mean (x - x')^2 + b' mean (h - e)^2, minimises the same with
            b = b' D_x / (2 s^2 D_z), for D_x numbers in a datum, D_z in its code, and a normal output of scale s.
        ema: learn the codebook by moving averages; else by gradients.
        decay: d, of the averages.
        smoothing: added to the counts, such that their sum stays.
        restart: a code starts again whose count falls below this share of the mean count; 0 for never.
        cosine: vectors of length 1, on both sides.
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(
        self,
        codes: int = 512,
        size: int = 64,
        dimension: int | None = None,
        commitment: float = 0.25,
        ema: bool = True,
        decay: float = 0.99,
        smoothing: float = 1e-5,
        restart: float = 0.1,
        cosine: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(codes, size)
        if dimension is not None and dimension < 1:
            raise ValueError(f"dimension must be at least 1, or null for size, not {dimension}")
        if commitment < 0:
            raise ValueError(f"commitment must be at least 0, not {commitment}")
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, not {decay}")
        if smoothing <= 0:
            raise ValueError(f"smoothing must be above 0, not {smoothing}")
        if not 0 <= restart < 1:
            raise ValueError(f"restart must be at least 0 (never) and below 1, not {restart}")
        self.codes, self.inputs, self.outputs = codes, size, dimension or size
        self.commitment, self.ema, self.decay, self.smoothing = commitment, ema, decay, smoothing
        self.restart, self.cosine = restart, cosine
        self.projection = linear(size, dimension) if dimension else nn.Identity()
        vectors = self.on_sphere(torch.randn(codes, self.outputs))
        if ema:
            self.register_buffer("codebook", vectors)
        else:
            self.register_parameter("codebook", nn.Parameter(vectors))
        self.register_buffer("counts", torch.ones(codes))
        self.register_buffer("sums", vectors.clone())
        # (vectors, numbers, squared distances) of each micro-batch of the step. No buffers: of one process each.
        self.seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def on_sphere(self, vectors: Tensor) -> Tensor:
        """Of length 1 in dimension 1, where that is wanted."""
        return F.normalize(vectors, dim=1) if self.cosine else vectors

    @property
    def table(self) -> Tensor:
        """The vectors as places are compared with them, (K, outputs)."""
        return self.codebook if self.ema else self.on_sphere(self.codebook)

    def encoded(self, h: Tensor) -> Tensor:
        """(B, inputs, *) to (B, outputs, *), what is quantized."""
        h = h.to(self.codebook.dtype)
        return self.on_sphere(self.projection(h.movedim(1, -1)).movedim(-1, 1))

    @torch.no_grad()
    def prepare(self, batches: Iterable[Tensor]) -> None:
        found: list[Tensor] = []
        for h in batches:
            found.append(rows(self.encoded(h)))
            if sum(map(len, found)) >= LOOKED_AT * self.codes:
                break
        rng = Rng(SEED, torch.arange(self.codes, device=self.counts.device)).stage("codebook")
        self.codebook.copy_(spread(torch.cat(found), self.codes, rng))
        self.sums.copy_(self.codebook * self.counts[:, None])

    def forward(self, h: Tensor, step: int | None = None) -> Point:
        with torch.autocast(h.device.type, enabled=False):
            h, codebook = self.encoded(h), self.table
            vectors = rows(h.detach())
            index = nearest(vectors, codebook.detach()).view(len(h), *h.shape[2:])
            e = look_up(codebook, index)
            squared = (h - e.detach()).square()
            # A codebook with anything in it that is not a number makes the loss one, whether it was used or not.
            penalties = {"commitment": self.commitment * squared.flatten(1).sum(1) + 0 * codebook.detach().sum()}
            if not self.ema:
                penalties["codebook"] = (h.detach() - e).square().flatten(1).sum(1)
            # Exactly e, with the gradients of h.
            z = e.detach() + (h - h.detach())
        if step is not None and self.training and (self.ema or self.restart):
            self.seen.append((vectors, index.flatten(), squared.detach().sum(1).flatten()))
        notes = {} if step is None else usage(index, self.codes)
        return Point(z, {"z": z, "index": index}, information(index, self.codes), penalties, notes)

    def fields(self, shape: torch.Size) -> Spec:
        return fields(shape, self.codes)

    def prior(self, fields: Spec, rng: Rng) -> Batch:
        return uniform(self.table, fields["index"], rng)

    def vectors(self, codes: Batch) -> Tensor:
        table = self.table
        if "index" in codes:
            return look_up(table, codes["index"])
        return requantized(table, self.on_sphere(codes["z"].to(table)))

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        if not self.seen:
            return
        vectors, index, distance = (torch.cat(part) for part in zip(*self.seen, strict=True))
        self.seen.clear()
        counts = count(index, self.codes)[:, None]
        sums = torch.zeros_like(self.sums).index_add_(0, index, vectors)
        fresh = self.candidates(vectors, distance, step) if self.restart else torch.zeros_like(sums)
        counts, sums, fresh = all_sum(torch.cat([counts, sums, fresh], 1)).split([1, self.outputs, self.outputs], 1)
        self.counts.lerp_(counts[:, 0], 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        if self.ema:
            total = self.counts.sum()
            smoothed = (self.counts + self.smoothing) / (total + self.codes * self.smoothing) * total
            self.codebook.copy_(self.on_sphere(self.sums / smoothed[:, None]))
        if self.restart:
            mean = self.counts.mean()
            dead = self.counts < self.restart * mean
            self.codebook.copy_(torch.where(dead[:, None], fresh, self.codebook))
            self.sums.copy_(torch.where(dead[:, None], fresh * mean, self.sums))
            self.counts.copy_(torch.where(dead, mean, self.counts))

    def candidates(self, vectors: Tensor, distance: Tensor, step: int) -> Tensor:
        """A vector for each code, drawn from those of all processes in proportion to its squared distance, (K, D).

        Each process knows its own alone; the rows that others drew are 0, and the sum over processes is complete.
        """
        rank, processes = world()
        ends = (distance.double() + TINY).cumsum(0)
        each = ends.new_zeros(processes)
        each[rank] = ends[-1]
        limits = torch.cat([ends.new_zeros(1), all_sum(each).cumsum(0)])
        u = Rng(SEED, torch.arange(self.codes, device=ends.device), step).stage("restart").uniform()
        place = u.double() * limits[-1]
        mine = (place >= limits[rank]) & (place < limits[rank + 1])
        return torch.where(mine[:, None], vectors[interval(limits[rank] + ends, place)], 0)
