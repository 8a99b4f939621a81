"""What a network computes on its way, caught."""

import pytest
import torch
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.networks.inner import caught
from genlab.networks.mlp import MLP
from genlab.networks.transformer import DiT
from genlab.networks.unet import UNet


class Branches(nn.Module):
    """Calls some layers once, one twice and one never."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.twice, self.never, self.pair = nn.Conv2d(1, 3, 1), nn.ReLU(), nn.ReLU(), nn.LSTM(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.pair(x.flatten(2).transpose(1, 2).expand(-1, -1, 2))
        return self.twice(self.twice(self.map(x)))


X = torch.randn(2, 1, 3, 4, generator=torch.Generator().manual_seed(0))


def test_maps_are_averaged_over_their_places_and_nothing_is_left_behind() -> None:
    network = Branches()
    found = caught(network, "map", lambda: network(X))
    torch.testing.assert_close(found, network.map(X).mean((2, 3)))
    assert not network.map._forward_hooks


@pytest.mark.parametrize("layer", ["twice", "never", "pair"])
def test_layers_that_give_no_map_are_refused(layer: str) -> None:
    network = Branches()
    with pytest.raises(UserError, match=f"layer={layer}: it gives no map"):
        caught(network, layer, lambda: network(X))


def test_layers_that_are_not_there_are_named() -> None:
    network = Branches()
    with pytest.raises(UserError, match=r"layer=up\.7: Branches has no such layer; it has map, twice, never, pair"):
        caught(network, "up.7", lambda: network(X))
    with pytest.raises(UserError, match="name one"):
        caught(network, None, lambda: network(X))


NETWORKS = {
    "unet": (UNet((1, 8, 8), width=8, multipliers=(1, 2), blocks=1, attention=()), 16),
    "dit": (DiT((1, 8, 8), width=16, depth=3, heads=2), 16),
    "mlp": (MLP((1, 8, 8), width=12, layers=3), 12),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_name_a_layer_of_their_own(name: str) -> None:
    network, width = NETWORKS[name]
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    found = caught(network, None, lambda: network(x, torch.full((3,), 5.0)))
    assert found.shape == (3, width)
    assert not torch.equal(found[0], found[1])
