"""Every file of a flow's parts writes out all that can be chosen."""

import inspect
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from genlab.runner.build import component

CONFIGS = Path(__file__).parents[3] / "configs"
FILES = sorted(file for group in ("transform", "base", "preprocess") for file in (CONFIGS / group).glob("*.yaml"))


def nodes(config):
    if isinstance(config, dict):
        yield config
        for value in config.values():
            yield from nodes(value)


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_all_options_stand_in_the_file(file):
    assert file.read_text().startswith("# ")
    for node in nodes(OmegaConf.to_container(OmegaConf.load(file))):
        target = component(node.pop("_target_"))
        parameters = inspect.signature(target).parameters.values()
        assert list(node) == [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
