"""From a causal network to data, a place at a time.

    for each place i in the network's order:  x_i ~ p(x_i | f(x)_i)

What is drawn at a place comes from the stream of that place, so that data of which a part is given have at the others
the noise that they would have had, and a network that keeps what it computed draws what one that does not would.
"""

import torch
from torch import Tensor

from genlab.core.rng import Rng
from genlab.models.contract import Watch
from genlab.models.outputs.output import Output
from genlab.networks.causal.causal import Causal
from genlab.networks.condition import Condition

# A sampler's states are shown this often.
SHOWN = 50


def draw(
    network: Causal,
    output: Output,
    x: Tensor,
    rng: Rng,
    condition: Condition | None = None,
    given: Tensor | None = None,
    temperature: float = 1.0,
    watch: Watch | None = None,
) -> Tensor:
    """Data (B, C, *), one a row of `rng`.

    Arguments:
        x: (B, C, *): the values of the given places; of others its shape and type alone count. Of a network that is
            stationary it may be a sequence of any length.
        given: (L,) of bool, which places keep the value that x has there; None for none.
        temperature: the output's; 1 draws from the model.
        watch: sees the data while they come, with what is not drawn yet at its lowest value.
    """
    keeps = torch.zeros(x[0, 0].numel(), dtype=torch.bool) if given is None else given.cpu()
    # A blank that is no part of a datum must not be seen, so it is the same for all.
    made = torch.where(keeps.to(x.device), x.flatten(2), torch.full_like(x.flatten(2), -1.0))
    state, channels = network.start(x, condition), x.shape[1]
    size = channels // network.groups
    order = network.order.tolist() if len(network.order) == made.shape[-1] else list(range(made.shape[-1]))
    if watch is not None:
        watch(0.0, made.view_as(x))
    for number, place in enumerate(order):
        value = made[..., place]
        if not keeps[place]:
            stream = rng.stage(f"place {place}")
            for first in range(0, channels, size):
                parameters = network.at(state, place, value)
                drawn = output.sample(parameters, stream.stage(f"channel {first}"), temperature)
                chosen = torch.arange(channels, device=x.device)
                value = torch.where((chosen >= first) & (chosen < first + size), drawn, value)
            made[..., place] = value
        state = network.put(state, place, value)
        if watch is not None and ((number + 1) % max(1, len(order) // SHOWN) == 0 or number + 1 == len(order)):
            watch((number + 1) / len(order), made.view_as(x))
    return made.view_as(x)
