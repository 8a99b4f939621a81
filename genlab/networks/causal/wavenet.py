"""WaveNet: dilated causal convolutions with gates, for long sequences of levels as sound is.

    h_0,t = E[x_{t-1}],    z_l,t = tanh(u_l,t) * sigmoid(v_l,t),    h_l,t = h_{l-1,t} + R_l z_l,t
    (u, v)_l,t = W_l (h_{l-1,t-d_l}, c_t, h_{l-1,t}) + V_l g + b_l,    d_l = 1, 2, 4, .., and again in each block
    y_t = A relu(B relu(sum_l S_l z_l,t + s) + b) + a

What comes before the sequence is zero, and x_{-1} is a level of its own; g is told to all places, c_t to one. A layer
needs but one column of what it saw d_l places ago. So a queue of d_l columns for each layer, of which a place takes one
out and puts one in, is all that drawing must keep, and a place costs one column a layer.

References:
    WaveNet: A Generative Model for Raw Audio (van den Oord et al., 2016), section 2.
    Fast WaveNet Generation Algorithm (Paine et al., 2016).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.units import to_levels
from genlab.networks.causal.causal import Causal
from genlab.networks.condition import Condition, parts
from genlab.networks.layers import at_least_one


@dataclass
class Queues:
    """What a drawing keeps.

    Arguments:
        past: (sum of d_l, B, channels), the queue of each layer one after the other, as a ring.
        told: (N, B, 2 channels), b_l + V_l g.
        local: (L, B, local), c_t; None without.
        far: (N, channels + local, 2 channels), what W_l has for its first two arguments.
        near, back: N matrices, what W_l has for the third, and R_l.
        total: (B, skip), sum_l S_l z_l,t + s at the place that is next.
        length: of what is drawn.
    """

    past: Tensor
    told: Tensor
    local: Tensor | None
    far: Tensor
    near: Sequence[Tensor]
    back: Sequence[Tensor]
    total: Tensor
    length: int


class Layer(nn.Module):
    """The gates of a dilated causal convolution of two places.

    Arguments:
        channels: of its input, and of what it makes.
        local: channels of what each place is told.
        dilation: d, how far back it looks.
    """

    def __init__(self, channels: int, local: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.gates = nn.Linear(2 * channels + local, 2 * channels)

    def forward(self, h: Tensor, local: Tensor | None, told: Tensor | None) -> Tensor:
        """z (B, L, channels) of h (B, L, channels), c (B, L, local) and V g (B, 2 channels)."""
        seen = [F.pad(h, (0, 0, self.dilation, 0))[:, : h.shape[1]], h]
        gates = self.gates(torch.cat(seen if local is None else [seen[0], local, h], dim=-1))
        return gated(gates if told is None else gates + told[:, None])


def gated(gates: Tensor) -> Tensor:
    """tanh of the first half times sigmoid of the second."""
    u, v = gates.chunk(2, dim=-1)
    return u.tanh() * v.sigmoid()


class WaveNet(Causal):
    """Sequences of levels, each place seen from the `receptive` places before it.

    condition.vector, the global condition, is told to all places; condition.concat, the local one, (B, local, L / hop),
    is brought to L columns by a transposed convolution and told to each place its own.

    Arguments:
        shape: of the data, (1, L).
        features: how many numbers come out for a place.
        levels: that the data take.
        channels: of all layers.
        skip: channels of the sum over layers.
        layers: of a block, with the dilations 1, 2, 4, .., 2^(layers - 1).
        blocks: how often these are repeated.
        vector: the width of the global condition; 0 for none.
        local: the channels of the local condition; 0 for none.
        hop: places to a column of the local condition.
    """

    first: Tensor
    dilations: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        features: int,
        levels: int | None,
        channels: int = 32,
        skip: int = 64,
        layers: int = 10,
        blocks: int = 2,
        vector: int = 0,
        local: int = 0,
        hop: int = 1,
    ) -> None:
        super().__init__()
        if len(shape) != 2 or shape[0] != 1 or levels is None:
            raise UserError(
                f"causal=wavenet is for sequences (1, L) of levels, and data of the shape {tuple(shape)} with "
                f"{levels or 'no'} levels are none; choose data=audio_folder or data=tones"
            )
        at_least_one(features=features, channels=channels, skip=skip, layers=layers, blocks=blocks, hop=hop)
        if local and shape[1] % hop:
            raise UserError(f"causal.hop={hop} must divide the length of the data, {shape[1]}")
        dilations = [2**layer for layer in range(layers)] * blocks
        self.shape, self.levels, self.width, self.told, self.hop = tuple(shape), levels, vector, local, hop
        self.receptive, self.stationary = 1 + sum(dilations), local == 0
        self.register_buffer("order", torch.arange(shape[1]), persistent=False)
        self.register_buffer("dilations", torch.tensor(dilations), persistent=False)
        self.register_buffer("first", torch.tensor([0, *accumulate(dilations[:-1])]), persistent=False)
        self.embedding = nn.Embedding(levels + 1, channels)
        self.layers = nn.ModuleList(Layer(channels, local, dilation) for dilation in dilations)
        # What the last layer would add is seen by none.
        self.residuals = nn.ModuleList(nn.Linear(channels, channels, bias=False) for _ in dilations[1:])
        self.vector = nn.Linear(vector, 2 * channels * len(dilations), bias=False) if vector else None
        self.raised = nn.ConvTranspose1d(local, local, hop, stride=hop) if local else None
        # S_l of all layers side by side, so that the sum over layers is one product.
        self.skips = nn.Linear(channels * len(dilations), skip)
        self.hidden, self.last = nn.Linear(skip, skip), nn.Linear(skip, features)

    def forward(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """(B, features, L) for x (B, 1, L)."""
        told, local = self._conditions(condition, x.shape[-1])
        level = to_levels(x[:, 0], self.levels)
        h = self.embedding(F.pad(level[:, :-1], (1, 0), value=self.levels))
        made: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            made.append(layer(h, local, None if told is None else told[:, number]))
            if number < len(self.residuals):
                h = h + self.residuals[number](made[-1])
        return self._ending(self.skips(torch.cat(made, dim=-1))).transpose(1, 2)

    def _ending(self, total: Tensor) -> Tensor:
        """y (*, features) of the sum over layers (*, skip)."""
        return self.last(self.hidden(total.relu()).relu())

    def _conditions(self, condition: Condition | None, length: int) -> tuple[Tensor | None, Tensor | None]:
        """V_l g, (B, N, 2 channels), and c, (B, L, local)."""
        vector, _, local = parts(condition, self.width, concat=self.told)
        told = (
            None if self.vector is None or vector is None else self.vector(vector).unflatten(1, (len(self.layers), -1))
        )
        if self.raised is None or local is None:
            return told, None
        if local.shape[-1] * self.hop != length:
            raise UserError(
                f"causal.hop={self.hop}: a local condition of {local.shape[-1]} columns is for sequences of "
                f"{local.shape[-1] * self.hop} places, and these have {length}"
            )
        return told, self.raised(local).transpose(1, 2)

    def start(self, x: Tensor, condition: Condition | None = None) -> Queues:
        """Empty queues, and the sum over layers at place 0."""
        told, local = self._conditions(condition, x.shape[-1])
        gates = [cast(Layer, layer).gates for layer in self.layers]
        weights = [gate.weight for gate in gates]
        channels = self.embedding.embedding_dim
        biases = torch.stack([gate.bias for gate in gates])[:, None].expand(-1, len(x), -1)
        state = Queues(
            past=biases.new_zeros(int(self.dilations.sum()), len(x), channels),
            told=biases.contiguous() if told is None else biases + told.transpose(0, 1),
            local=None if local is None else local.transpose(0, 1).contiguous(),
            far=torch.stack([weight[:, :-channels].T for weight in weights]),
            near=[weight[:, -channels:].T.contiguous() for weight in weights],
            back=[cast(nn.Linear, residual).weight.T.contiguous() for residual in self.residuals],
            total=biases.new_empty(0),
            length=x.shape[-1],
        )
        return self._column(state, 0, self.order.new_full((len(x),), self.levels))

    def at(self, state: Queues, place: int, known: Tensor) -> Tensor:
        """(B, features), of the sum that is there since the value before was put."""
        return self._ending(state.total)

    def put(self, state: Queues, place: int, value: Tensor) -> Queues:
        """The same queues, one column on."""
        if place + 1 == state.length:
            return state
        return self._column(state, place + 1, to_levels(value[:, 0], self.levels))

    def _column(self, state: Queues, place: int, level: Tensor) -> Queues:
        """What all layers make of a place whose predecessor has this level (B,), int64."""
        rows = self.first + place % self.dilations
        seen = state.past[rows]
        if state.local is not None:
            seen = torch.cat([seen, state.local[place].expand(len(seen), -1, -1)], dim=-1)
        # What the queues hold is known before the first layer begins, so it is one product for all of them.
        gates = torch.baddbmm(state.told, seen, state.far).unbind(0)
        h = self.embedding(level)
        inputs, made = [h], [gated(torch.addmm(gates[0], h, state.near[0]))]
        for gate, near, back in zip(gates[1:], state.near[1:], state.back, strict=True):
            h = torch.addmm(h, made[-1], back)
            inputs.append(h)
            made.append(gated(torch.addmm(gate, h, near)))
        state.past.index_copy_(0, rows, torch.stack(inputs))
        state.total = self.skips(torch.cat(made, dim=-1))
        return state
