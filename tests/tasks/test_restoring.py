"""Autoencoders that restore: what task=denoise shows of them."""

import pytest
import torch

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Field, Spec
from genlab.models.contract import Model
from genlab.tasks.denoise import Denoise


class Halver(Model):
    """Encodes by halving, after noise."""

    can = frozenset({"encode", "decode"})

    def __init__(self, spec: Spec, noise: float | None) -> None:
        super().__init__(spec)
        self.corruption = None if noise is None else lambda x, rng: x + noise * rng.normal_like(x)

    def encode(self, batch: Batch, rng: Rng | None = None) -> Batch:
        return {"z": batch["x"] / 2}

    def decode(self, batch: Batch) -> Batch:
        return {"x": batch["z"]}


DATA = Rng(0, torch.arange(6)).uniform(1, 4, 4) * 2 - 1
SPEC = {"x": Field((1, 4, 4), levels=2)}


def test_data_and_what_was_made_of_them_and_what_was_restored() -> None:
    model, task, index = Halver(SPEC, 0.5), Denoise(), torch.arange(6)
    task.check(model, None)
    assert task.layout == (("data", "corrupted", "x"),)
    assert not task.sampled
    found = task(model, index, 3, None, None, {"x": DATA})
    noise = 0.5 * Rng(3, index).stage("sample").stage("corruption").normal_like(DATA)
    torch.testing.assert_close(found["corrupted"], DATA + noise)
    torch.testing.assert_close(found["x"], found["corrupted"] / 2)
    torch.testing.assert_close(found["mse_corrupted"], noise.double().square().flatten(1).mean(1))
    torch.testing.assert_close(found["mse"], (found["x"] - DATA).double().square().flatten(1).mean(1))
    torch.testing.assert_close(found["psnr"], 10 * (4 / found["mse"]).log10())
    assert task.numbers.keys() == {"mse", "mse_corrupted", "psnr", "psnr_corrupted"}
    some = task(model, index[2:4], 3, None, None, {"x": DATA[2:4]})
    assert all(torch.equal(some[key], found[key][2:4]) for key in found)


def test_of_real_data_there_is_no_signal_to_noise_ratio() -> None:
    task = Denoise()
    task.check(Halver({"x": Field((1, 4, 4))}, 0.5), None)
    assert task.numbers.keys() == {"mse", "mse_corrupted"}


def test_what_cannot_be_restored_is_said() -> None:
    with pytest.raises(UserError, match="Halver was not trained to take noise away"):
        Denoise().check(Halver(SPEC, None), None)
    with pytest.raises(UserError, match=r"task.points=3: Halver restores in one step"):
        Denoise(points=3).check(Halver(SPEC, 0.1), None)
