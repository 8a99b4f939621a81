"""Other programs' samplers, to agree with."""

import importlib
import importlib.util
import sys
from types import ModuleType
from unittest.mock import patch

import pytest


def k_diffusion() -> ModuleType:
    """k-diffusion's samplers alone: the whole package asks for libraries that they do not need.

    `pip install --no-deps k-diffusion` is enough.
    """
    found = importlib.util.find_spec("k_diffusion")
    if found is None:
        pytest.skip("k-diffusion is not installed")
    package = ModuleType("k_diffusion")
    package.__path__ = list(found.submodule_search_locations or [])
    unneeded = {name: ModuleType(name) for name in ("torchsde",) if importlib.util.find_spec(name) is None}
    with patch.dict(sys.modules, {"k_diffusion": package, **unneeded}):
        return importlib.import_module("k_diffusion.sampling")
