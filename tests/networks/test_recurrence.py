"""The cell of PixelRNN's layers, and how many steps of them follow one another."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from genlab.networks.causal.diagonal_bilstm import DiagonalBiLSTM
from genlab.networks.causal.recurrence import cell
from genlab.networks.causal.row_lstm import RowLSTM


class Cells(TorchDispatchMode):
    """Counts the steps, each of which makes its cells by one product and sum."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten.addcmul.default
        return function(*args, **(kwargs or {}))


def test_the_cell_is_that_of_the_paper():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(3, 2, 12, dtype=torch.float64, generator=generator)
    before = torch.randn(3, 2, 3, dtype=torch.float64, generator=generator)
    out, forget, write, new = z.unflatten(2, (4, 3)).unbind(2)
    c = forget.sigmoid() * before + write.sigmoid() * new.tanh()
    torch.testing.assert_close(cell(z, before), (out.sigmoid() * c.tanh(), c))
    torch.testing.assert_close(cell(z, None), cell(z, torch.zeros_like(before)))


@pytest.mark.parametrize(("kind", "steps"), [(DiagonalBiLSTM, 5 + 7 - 1), (RowLSTM, 5)])
def test_a_pass_takes_as_many_steps_as_there_are_diagonals_or_rows(kind, steps):
    layer = kind(inputs=4, states=2, height=5, width=7)
    with Cells() as cells:
        layer(torch.zeros(5, 7, 1, 4), torch.zeros(5, 7, 1, 1))
    assert cells.count == layer.steps == steps
