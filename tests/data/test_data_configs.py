"""Each file of configs/data says what it is and gives its class exactly the arguments, with the values, that it has."""

import importlib
import inspect
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from genlab.runner.build import build

FILES = sorted(Path(__file__).parents[2].joinpath("configs", "data").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_config_is_the_constructor(path):
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ")
    config = OmegaConf.to_container(OmegaConf.load(path))
    (network,) = config.pop("defaults")
    assert path.parents[1].joinpath("network", f"{network['override /network@_global_.network']}.yaml").exists()
    module, _, name = config.pop("_target_").rpartition(".")
    target = getattr(importlib.import_module(module), name)
    assert target.__doc__
    parameters = inspect.signature(target).parameters if target.__init__ is not object.__init__ else {}
    if "of" in config:
        # Another data set, with the options that it has where it is chosen alone.
        of = config["of"]
        others = (OmegaConf.to_container(OmegaConf.load(other)) for other in FILES)
        assert of in [{k: v for k, v in other.items() if k != "defaults"} for other in others]
        config["of"] = build(of)
        assert {**config, "of": None, "labelled": 0} == {
            name: {"of": None, "labelled": 0}.get(name, parameter.default) for name, parameter in parameters.items()
        }
    else:
        assert config == {name: parameter.default for name, parameter in parameters.items()}
    assert (
        target(**config).spec
        if path.stem not in ("audio_folder", "image_folder", "coupled", "patches", "tabular", "text_file")
        else target(**config)
    )
