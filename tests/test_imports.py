"""Who may know whom: imports point down, and each outer library is met in one place.

A module that only names another's types (under TYPE_CHECKING) does not know it.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "genlab"
MODULES = sorted(PACKAGE.rglob("*.py"))
BELOW = {
    "core": set(),
    "networks": {"core"},
    "data": {"core"},
    "metrics": {"core", "networks"},
    "models": {"core", "networks"},
    "tasks": {"core", "networks", "models"},
    "runner": {"core", "networks", "data", "metrics", "models", "tasks"},
    "cli": {"runner"},
    "__main__": {"cli"},
    "__init__": {"runner"},
}
"""What each part of genlab may import, besides itself and the version that stands in genlab/__init__.py."""

OF_THE_RUNNER = {"hydra", "lightning", "omegaconf", "pytorch_lightning"}


def imports(tree: ast.AST) -> Iterator[str]:
    """The full names of all that is imported, also inside functions, but not under TYPE_CHECKING."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)):
            yield from imports(node)


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    own = part(path)
    for name in imports(ast.parse(path.read_text(encoding="utf-8"))):
        package, _, rest = name.partition(".")
        other = rest.split(".")[0]
        if package == "genlab" and other not in ("", "__version__", own):
            assert other in BELOW[own], f"{own} may not import {name}"
        assert package not in OF_THE_RUNNER or own == "runner", f"{name} is for genlab/runner"


def test_every_part_of_the_house_has_its_place():
    assert {part(path) for path in MODULES} == set(BELOW)


def loaded(code: str) -> set[str]:
    """The top packages that a fresh Python has loaded after running the code."""
    code += "\nimport sys; print(); print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_the_models_are_had_without_the_program():
    found = loaded(
        "import importlib, pkgutil, genlab.models\n"
        "for module in pkgutil.walk_packages(genlab.models.__path__, 'genlab.models.'):\n"
        "    importlib.import_module(module.name)"
    )
    assert "torch" in found
    assert not found & OF_THE_RUNNER


@pytest.mark.parametrize("arguments", [["-h"], ["train", "-h"], ["list", "models"], ["--version"]], ids=" ".join)
def test_questions_to_the_command_line_need_no_torch(arguments):
    found = loaded(f"from genlab.cli import main; assert main({arguments}) == 0")
    assert "genlab" in found
    assert not found & {"torch", "numpy", *OF_THE_RUNNER}
