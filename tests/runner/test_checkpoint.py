"""Checkpoints are found, read without running anything, and written whole or not at all."""

import os
import sys

import pytest
import torch
import yaml
from torch import nn

from genlab.runner.checkpoint import load_model

PLUGIN = """
from torch import nn
from genlab.core.spec import Spec
from genlab.models.contract import Model

class Tiny(Model):
    def __init__(self, spec: Spec, width: int = 2) -> None:
        super().__init__(spec)
        self.layer = nn.Linear(spec["x"].shape[0], width)
        self.register_buffer("count", self.layer.weight.new_zeros(()))

class NotAModel:
    def __init__(self, spec: Spec) -> None:
        pass
"""
SPEC = {"x": {"shape": [3]}}


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A package of the user's own, trusted by name."""
    package = tmp_path / "packages" / "tinylab"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "models.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("GENLAB_PLUGINS", "another, tinylab")
    yield "tinylab.models"
    for name in [name for name in sys.modules if name.startswith("tinylab")]:
        del sys.modules[name]


def content(config=None, width=2, **changes):
    """What a run would save, for the plugin's model."""
    layer = nn.Linear(3, width)
    weights = {"layer.weight": layer.weight.detach(), "layer.bias": layer.bias.detach()}
    state = {f"model.{key}": value for key, value in weights.items()} | {"model.count": torch.tensor(7.0)}
    state |= {f"ema.{key}": value + 1 for key, value in weights.items()}
    model = {"_target_": "tinylab.models.Tiny", "width": width}
    return {
        "state_dict": state,
        "global_step": 4,
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-3}]}],
        "genlab_config": yaml.safe_dump(config or {"model": model, "spec": SPEC, "seed": 0}),
        "genlab_version": "0.1.0",
        "genlab_progress": {"micro_batches": 4},
    } | changes


def saved(path, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content(**changes), path)
    return path


class Touch:
    """A pickle of it runs a command when it is loaded by one who trusts it."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


# --- reading


def test_the_model_comes_back(plugin, tmp_path):
    path = saved(tmp_path / "run/checkpoints/last.ckpt")
    model, checkpoint = load_model(tmp_path / "run")
    state = checkpoint.raw["state_dict"]
    assert checkpoint.path == path
    assert checkpoint.step == 4
    assert checkpoint.config["seed"] == 0
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    torch.testing.assert_close(model.layer.weight, state["ema.layer.weight"], rtol=0, atol=0, check_device=False)
    assert model.count == 7, "what is not averaged comes from the raw weights"
    raw, _ = load_model(path, weights="raw")
    torch.testing.assert_close(raw.layer.weight.data, state["model.layer.weight"], rtol=0, atol=0)
