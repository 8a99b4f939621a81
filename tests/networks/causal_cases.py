"""Every causal network, made tiny, each way of making one a line of CASES; test_causal.py holds them to the laws."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.outputs.bernoulli import Bernoulli
from genlab.models.outputs.categorical import Categorical
from genlab.models.outputs.logistic_mixture import LogisticMixture
from genlab.models.outputs.output import Output
from genlab.networks.causal.causal import Causal
from genlab.networks.causal.diagonal_bilstm import DiagonalBiLSTM
from genlab.networks.causal.gated_pixelcnn import GatedPixelCNN
from genlab.networks.causal.image_transformer import ImageTransformer
from genlab.networks.causal.made import MADE
from genlab.networks.causal.pixelcnn import PixelCNN
from genlab.networks.causal.pixelcnn_pp import PixelCNNPP
from genlab.networks.causal.pixelrnn import PixelRNN
from genlab.networks.causal.recurrence import Recurrence
from genlab.networks.causal.row_lstm import RowLSTM
from genlab.networks.causal.wavenet import WaveNet
from genlab.networks.condition import Condition


@dataclass
class Case:
    """A network and what it is for.

    Arguments:
        network: as its constructor makes it; the tests bring it to float64 and eval mode, and move its weights.
        shape: of a datum, (C, *).
        output: the distribution of a place, whose `features` the network gives.
        condition: makes what the network is told for so many rows; None for nothing.
        sees: (L, L) of bool, [i, j] where the parameters at place i depend on place j, both numbered in rows, for a
            network that does not see all places before one; None for all.
    """

    network: Causal
    shape: tuple[int, ...]
    output: Output
    condition: Callable[[int], Condition] | None = None
    sees: Tensor | None = None

    @property
    def levels(self) -> int:
        return self.output.layout[1] if isinstance(self.output, Categorical) else getattr(self.output, "levels", 2)


def vectors(width: int) -> Callable[[int], Condition]:
    """Conditions of vectors so wide, each row its own."""
    return lambda rows: Condition(vector=Rng(5, torch.arange(rows)).normal(width, dtype=torch.float64))


def columns(rows: int) -> Condition:
    """Conditions of two channels and two columns, each row its own."""
    return Condition(concat=Rng(5, torch.arange(rows)).normal(2, 2, dtype=torch.float64))


def bits(network: Causal, *shape: int, condition: Callable[[int], Condition] | None = None) -> Case:
    """A network for data of two levels, by log-odds."""
    return Case(network, shape, Bernoulli(shape), condition)


def kinds(network: Causal, levels: int, *shape: int, condition: Callable[[int], Condition] | None = None) -> Case:
    """A network for data of more levels, by a logit each."""
    return Case(network, shape, Categorical(shape, levels), condition)


def pixel_rnn(recurrence: type[Recurrence], *shape: int, features: int = 1, **options: Any) -> PixelRNN:
    """A small PixelRNN, whose first convolution is 3x3."""
    sizes = {"width": 6, "depth": 2, "head": 6, "kernel": 3, **options}
    return PixelRNN(shape, features, recurrence, **sizes)


def triangle(height: int, width: int, depth: int, reach: int = 1, first: int = 1) -> Tensor:
    """What Row LSTMs see, each of which reaches so far to both sides, after a convolution that reaches `first` far.

    In its own row a place sees `first` places to its left and `reach` more a layer. Of the rows above, it sees `first`
    to both sides in the next one, `reach` more in each further one, and to the left also what the layers add.
    """
    row, column = (n.flatten() for n in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    above, right = row[:, None] - row, column - column[:, None]
    furthest = torch.where(above > 0, (above - 1) * reach + first, -1)
    leftmost = torch.where(above > 0, above * reach, 0) + first + depth * reach
    return (above >= 0) & (right <= furthest) & (-right <= leftmost)


def row_lstm(*shape: int, depth: int = 2, **options: Any) -> Case:
    """A Row LSTM, of bits or of three channels of three levels."""
    output = Bernoulli(shape) if shape[0] == 1 else Categorical(shape, 3)
    network = pixel_rnn(RowLSTM, *shape, features=output.features, depth=depth, **options)
    return Case(network, shape, output, sees=triangle(*shape[1:], depth))


def pixelcnn_sees(height: int, width: int) -> Tensor:
    """What a PixelCNN whose kernels are all 3x3 sees, at any depth."""
    nearer = [(1, -1), (1, 0), (1, 1), (0, -1)]
    sees = torch.zeros(height * width, height * width, dtype=torch.bool)
    for place in range(height * width):
        row, column = divmod(place, width)
        for up, right in nearer:
            if up <= row and 0 <= column + right < width:
                other = (row - up) * width + column + right
                sees[place] |= sees[other]
                sees[place, other] = True
    return sees


def with_blind_spot(case: Case) -> Case:
    case.sees = pixelcnn_sees(*case.shape[1:])
    return case


CASES: dict[str, Callable[[], Case]] = {
    "made": lambda: bits(MADE((1, 2, 2), 1, hidden=[12]), 1, 2, 2),
    "made in another order": lambda: bits(MADE((1, 3, 2), 1, hidden=[24, 24], order="random", seed=3), 1, 3, 2),
    "made by a label": lambda: bits(MADE((1, 2, 2), 1, hidden=[16], vector=3), 1, 2, 2, condition=vectors(3)),
    "made of many masks": lambda: bits(MADE((1, 2, 2), 1, hidden=[16, 16], masks=3), 1, 2, 2),
    "made of channels": lambda: kinds(MADE((3, 2, 1), 9, levels=3, hidden=[32], direct=True), 3, 3, 2, 1),
    "made of kinds": lambda: kinds(MADE((1, 4), 3, levels=3, hidden=[24], one_hot=True, masks=2), 3, 1, 4),
    "made of joint channels": lambda: kinds(MADE((2, 3), 6, levels=3, hidden=[24], joint=True), 3, 2, 3),
    "row lstm": lambda: row_lstm(1, 2, 2),
    "row lstm, wide": lambda: row_lstm(1, 4, 9, depth=1, width=3),
    "row lstm of channels": lambda: row_lstm(3, 2, 3),
    "diagonal bilstm": lambda: bits(pixel_rnn(DiagonalBiLSTM, 1, 2, 2), 1, 2, 2),
    "diagonal bilstm, high": lambda: bits(pixel_rnn(DiagonalBiLSTM, 1, 5, 3, depth=1), 1, 5, 3),
    "diagonal bilstm, wide": lambda: bits(pixel_rnn(DiagonalBiLSTM, 1, 3, 6, depth=1), 1, 3, 6),
    "diagonal bilstm of channels": lambda: kinds(pixel_rnn(DiagonalBiLSTM, 3, 2, 3, features=9, head=24), 3, 3, 2, 3),
    "diagonal bilstm by a label, of joint channels": lambda: kinds(
        pixel_rnn(DiagonalBiLSTM, 2, 2, 3, features=6, joint=True, vector=3), 3, 2, 2, 3, condition=vectors(3)
    ),
    "transformer": lambda: bits(ImageTransformer((1, 2, 2), 1, width=8, depth=2, heads=2), 1, 2, 2),
    "transformer of text": lambda: kinds(
        ImageTransformer((1, 5), 3, levels=3, width=8, depth=1, heads=2, positions="sinusoidal"), 3, 1, 5
    ),
    "transformer of channels by a label": lambda: kinds(
        ImageTransformer((3, 2, 2), 9, levels=3, width=8, depth=2, heads=1, vector=3), 3, 3, 2, 2, condition=vectors(3)
    ),
    "transformer of joint channels": lambda: kinds(
        ImageTransformer((2, 2, 3), 6, levels=3, width=8, depth=1, heads=2, positions="sinusoidal", joint=True),
        3,
        2,
        2,
        3,
    ),
    "wavenet": lambda: kinds(WaveNet((1, 8), 3, levels=3, channels=6, skip=7, layers=3, blocks=1), 3, 1, 8),
    "wavenet in blocks": lambda: bits(
        WaveNet((1, 7), 1, levels=2, channels=6, skip=7, layers=2, blocks=2, vector=3), 1, 7, condition=vectors(3)
    ),
    "wavenet that looks back three": lambda: replace(
        kinds(WaveNet((1, 6), 3, levels=3, channels=6, skip=7, layers=1, blocks=2), 3, 1, 6),
        sees=torch.ones(6, 6).tril(-1).triu(-3).bool(),
    ),
    "wavenet told of each place": lambda: kinds(
        WaveNet((1, 6), 3, levels=3, channels=6, skip=7, layers=3, blocks=1, local=2, hop=3), 3, 1, 6, condition=columns
    ),
    "pixelcnn": lambda: bits(PixelCNN((1, 2, 2), 1, width=8, blocks=2, head=4), 1, 2, 2),
    "pixelcnn's blind spot": lambda: with_blind_spot(
        bits(PixelCNN((1, 3, 4), 1, width=16, blocks=4, head=8, kernel=3), 1, 3, 4)
    ),
    "pixelcnn of channels": lambda: kinds(PixelCNN((3, 2, 2), 9, width=24, blocks=2, head=12), 3, 3, 2, 2),
    "pixelcnn by a label": lambda: bits(
        PixelCNN((2, 2, 1), 2, width=8, blocks=1, head=4, joint=True, vector=3), 2, 2, 1, condition=vectors(3)
    ),
    "gated pixelcnn": lambda: bits(GatedPixelCNN((1, 2, 2), 1, width=6, layers=1, head=4), 1, 2, 2),
    "gated pixelcnn by a label": lambda: bits(
        GatedPixelCNN((1, 3, 4), 1, width=8, layers=3, head=8, first_kernel=3, vector=3),
        *(1, 3, 4),
        condition=vectors(3),
    ),
    "gated pixelcnn of channels": lambda: kinds(
        GatedPixelCNN((3, 2, 2), 9, width=12, layers=2, head=12, first_kernel=3), 3, 3, 2, 2
    ),
    "pixelcnn++": lambda: bits(PixelCNNPP((1, 2, 2), 1, width=6, blocks=1, scales=2, dropout=0.0), 1, 2, 2),
    "pixelcnn++ by a label": lambda: kinds(
        PixelCNNPP((1, 4, 4), 3, width=6, blocks=1, scales=3, dropout=0.0, vector=3), 3, 1, 4, 4, condition=vectors(3)
    ),
    "pixelcnn++ at one scale": lambda: Case(
        PixelCNNPP((3, 3, 2), 20, width=6, blocks=2, scales=1, dropout=0.0),
        (3, 3, 2),
        LogisticMixture((3, 3, 2), 5, components=2),
    ),
}
"""By name, a function that makes the network."""
