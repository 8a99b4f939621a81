"""The critic of patches: how large they are, the published size, and what judgements depend on."""

import pytest
import torch

from genlab.core.errors import UserError
from genlab.networks.patch_critic import PatchCritic


@pytest.mark.parametrize(("layers", "patch"), [(1, 16), (2, 34), (3, 70)])
def test_a_judgement_is_of_a_patch(layers, patch):
    torch.manual_seed(0)
    critic = PatchCritic((1, 160, 160), 2, layers, "none").double()
    x = torch.rand(1, 1, 160, 160, dtype=torch.float64, requires_grad=True)
    judged = critic(x)
    middle = judged.shape[2] // 2
    judged[0, 0, middle, middle].backward()
    rows, columns = (x.grad[0, 0] != 0).nonzero().unbind(1)
    assert rows.max() - rows.min() + 1 == columns.max() - columns.min() + 1 == patch


def test_the_size_is_the_published_one():
    critic = PatchCritic((3, 256, 256), norm="batch")
    assert sum(p.numel() for p in critic.parameters()) == 2_765_633
    assert critic(torch.rand(2, 3, 256, 256)).shape == (2, 1, 30, 30)


@pytest.mark.parametrize(("norm", "apart"), [("group", True), ("none", True), ("batch", False)])
def test_only_batch_normalisation_makes_rows_depend_on_each_other(norm, apart):
    torch.manual_seed(0)
    critic, x = PatchCritic((1, 28, 32), 8, 2, norm), torch.rand(3, 1, 28, 32)
    torch.manual_seed(1)
    assert torch.allclose(critic(x)[1:2], critic(torch.cat([x[1:2], torch.rand(2, 1, 28, 32)]))[:1], atol=1e-5) == apart


@pytest.mark.parametrize(
    ("shape", "layers", "message"),
    [
        ((1, 8, 8), 3, "^critic.layers=3: leaves nothing of 8x8 pixels; give at most 1$"),
        ((1, 4, 28), 1, "^critic.layers=1: leaves nothing of 4x28 pixels; it needs sides of at least 6$"),
        ((2,), 2, "^critic=patch: is for images"),
    ],
)
def test_what_is_too_small_is_refused(shape, layers, message):
    with pytest.raises(UserError, match=message):
        PatchCritic(shape, 8, layers)
