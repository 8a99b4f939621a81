"""Laws of every denoising network, whatever its options."""

import pytest
import torch
from torch import nn

from genlab.core.errors import UserError
from genlab.networks.condition import Condition
from genlab.networks.mlp import MLP
from genlab.networks.transformer import DiT
from genlab.networks.unet import UNet

SHAPE = (3, 8, 12)
CONDITION = {"vector": 5, "context": 6, "concat": 2}
UNETS = {
    "ddpm": {},
    "ddpm++": {"resample": "pool", "skip_rescale": True},
    "ncsn++": {"resample": "fir", "skip_rescale": True, "embedding": "fourier", "progressive": "residual"},
    "adm": {"resample": "pool", "scale_shift": True, "head_width": 4},
    "vdm": {"fourier_features": True, "embedding_scale": 1000.0},
    "learned_variance": {"outputs": 2, "heads": 2},
    "conditional": CONDITION,
    "conditional_residual": {**CONDITION, "progressive": "residual", "skip_rescale": True},
}


def unet(options: dict) -> UNet:
    return UNet(SHAPE, width=8, multipliers=(1, 2), blocks=1, attention=(6,), dropout=0.0, **options)


NETWORKS = {f"unet_{name}": (lambda o=options: unet(o), SHAPE, options) for name, options in UNETS.items()} | {
    "mlp": (lambda: MLP((2,), width=16, layers=2), (2,), {}),
    "mlp_conditional": (lambda: MLP((2,), width=16, layers=2, vector=5, out_channels=4), (2,), {"vector": 5}),
    "mlp_image": (lambda: MLP(SHAPE, width=16, layers=2, outputs=2, embedding="fourier"), SHAPE, {}),
    "dit": (lambda: DiT(SHAPE, width=16, depth=2, heads=2), SHAPE, {}),
    "dit_learned_variance": (lambda: DiT(SHAPE, patch=4, width=16, depth=1, heads=1, outputs=2), SHAPE, {}),
    "dit_conditional": (lambda: DiT(SHAPE, width=16, depth=2, heads=2, **CONDITION), SHAPE, CONDITION),
}
networks = pytest.mark.parametrize("name", NETWORKS)


def condition(options: dict, batch: int) -> Condition | None:
    """Random parts for those that the network takes."""
    shapes = {"vector": (5,), "context": (4, 6), "concat": (2, *SHAPE[1:])}
    made = {part: torch.randn(batch, *shapes[part]) for part in shapes if part in options}
    return Condition(**made) if made else None


def made(name: str, batch: int = 3, at_start: bool = False):
    """The network, moved away from its start unless asked for there, with inputs for it."""
    torch.manual_seed(0)
    make, shape, options = NETWORKS[name]
    network = make()
    if not at_start:
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.2)
    return network, torch.randn(batch, *shape), torch.rand(batch), condition(options, batch)


@networks
def test_shape_of_the_output(name):
    network, x, noise, given = made(name)
    out = network(x, noise, given)
    twice = "learned_variance" in name or name in ("mlp_conditional", "mlp_image")
    assert out.shape == (len(x), x.shape[1] * (2 if twice else 1), *x.shape[2:])
    assert out.dtype == torch.float32


@networks
def test_the_output_is_zero_at_the_start(name):
    network, x, noise, given = made(name, at_start=True)
    assert (network(x, noise, given) == 0).all()


@networks
def test_every_parameter_moves_the_output(name):
    network, x, noise, given = made(name)
    network(x, noise, given).square().sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key


@networks
def test_rows_do_not_see_each_other(name):
    network, x, noise, given = made(name)
    alone = None if given is None else Condition(*(p[1:2] if p is not None else None for p in vars(given).values()))
    torch.testing.assert_close(network(x[1:2], noise[1:2], alone), network(x, noise, given)[1:2], rtol=1e-5, atol=1e-5)


@networks
def test_the_noise_level_is_heard(name):
    network, x, noise, given = made(name)
    assert (network(x, noise + 0.5, given) - network(x, noise, given)).abs().max() > 1e-4


@pytest.mark.parametrize("name", [n for n, (_, _, options) in NETWORKS.items() if "vector" in options])
def test_each_part_of_the_condition_is_heard(name):
    network, x, noise, given = made(name)
    before = network(x, noise, given)
    for part, value in vars(given).items():
        if value is not None:
            other = Condition(**{**vars(given), part: value + 1})
            assert (network(x, noise, other) - before).abs().max() > 1e-4, part


@networks
def test_a_condition_that_the_network_cannot_hear_is_refused(name):
    network, x, noise, given = made(name)
    wrong = Condition(vector=torch.randn(len(x), 5)) if given is None else None
    with pytest.raises(ValueError, match=r"the network takes .* condition\.(vector|context|concat), and"):
        network(x, noise, wrong)


@pytest.mark.parametrize("name", ["unet_conditional", "mlp_conditional", "dit_conditional"])
def test_the_network_is_one_graph(name):
    network, x, noise, given = made(name)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, noise, given), network(x, noise, given))


@networks
def test_mixed_precision_is_near(name):
    network, x, noise, given = made(name)
    exact = network(x, noise, given)
    with torch.autocast("cpu", torch.bfloat16):
        low = network(x, noise, given)
    assert (low - exact).std() < 0.05 * exact.std()


@networks
def test_a_network_knows_its_state(name):
    network, x, noise, given = made(name)
    other = made(name, at_start=True)[0]
    other.load_state_dict(network.state_dict())
    torch.testing.assert_close(other(x, noise, given), network(x, noise, given), rtol=0, atol=0)


def test_unets_count_their_parameters_as_ddpm_does():
    with torch.device("meta"):
        network = UNet((3, 32, 32))
    assert sum(p.numel() for p in network.parameters()) == 35_746_307


def test_a_transformer_counts_its_parameters_as_the_paper_does():
    """DiT-S/2 with learned variance: 32,963,360 with the 98,304 of its positions and 384,384 of its label table."""
    with torch.device("meta"):
        network = DiT((4, 32, 32), out_channels=8)
    counted = sum(t.numel() for t in network.parameters()) + network.positions.numel()
    assert counted == 32_963_360 - 384_384


def test_28x28_has_three_levels():
    network = UNet((1, 28, 28), width=8, multipliers=(1, 1, 1), blocks=1, attention=(14, 7))
    assert network(torch.randn(1, 1, 28, 28), torch.zeros(1)).shape == (1, 1, 28, 28)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: UNet((1, 28, 28)),
            r"data of 28x28 cannot be halved 3 times, as network.multipliers=\[1, 2, 2, 2\] asks: "
            r"give at most 3 multipliers, or sides divisible by 8",
        ),
        (lambda: UNet((1, 7, 7)), r"give at most 1 multipliers, or sides divisible by 8"),
        (lambda: UNet((1, 32, 32), attention=(7,)), r"network.attention=\[7\] .* \[32, 16, 8, 4\]"),
        (lambda: UNet((2,)), r"shape \(channels, height, width\), not \(2,\): try network=mlp"),
        (lambda: UNet((3, 32, 32), heads=3), r"network.heads=3 does not divide the 256 channels"),
        (lambda: DiT((3, 9, 8)), r"network.patch=2 does not divide the sides of data of shape \(3, 9, 8\)"),
        (lambda: DiT((3, 8, 8), width=100), r"network.width=100 must be divisible by 4 and by network.heads=6"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(make, message):
    with pytest.raises(UserError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
