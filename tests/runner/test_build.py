"""A config can construct components and nothing else, and a mistake in it is named by its place."""

import functools
import sys

import pytest
import torch
from omegaconf import OmegaConf

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.runner.build import build, check

FIELD = {"_target_": "genlab.core.spec.Field", "shape": [3]}
ADAM = {"_target_": "torch.optim.Adam", "_partial_": True}

PARTS = """
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from genlab.core.spec import Field

class Shape:
    pass

class Round(Shape):
    def __init__(self, radius: float = 1.0) -> None:
        self.radius = radius

class Drawn(Protocol):
    colour: str

class Part:
    def __init__(
        self,
        width: int = 1,
        rate: float = 0.1,
        fast: bool = False,
        name: str = "a",
        kind: Literal["posterior", "transition"] = "posterior",
        limit: int | None = None,
        sides: tuple[int, int] = (1, 1),
        factors: Sequence[float] = (),
        table: Mapping[str, int] | None = None,
        folder: Path | str = ".",
        make: Callable[[], Any] | None = None,
        shape: Shape | None = None,
        shapes: list[Shape] = [],
        drawn: Drawn | None = None,
        implicit: int = None,
        **more: int,
    ) -> None:
        self.options = locals()
        if width < 1:
            raise ValueError("width must be at least 1,\\n not %d" % width)
        if rate < 0:
            raise ValueError("no such rate")
        if limit == 0:
            raise ValueError("model.part.limit must not be 0")
        if name == "type":
            raise TypeError("a bug")

def factory() -> Part:
    return Part()

alias = Part
"""


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """A module of a package that the user trusts."""
    package = tmp_path / "partlab"
    package.mkdir()
    (package / "__init__.py").write_text("from partlab.parts import Part\n")
    (package / "parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("GENLAB_PLUGINS", "partlab")
    yield "partlab.parts"
    for name in [name for name in sys.modules if name.startswith("partlab")]:
        del sys.modules[name]


# --- what it makes


def test_objects_lists_and_primitives():
    made = build({"a": [FIELD, None, 1.5], "b": {"c": FIELD}, "d": "text"})
    assert made == {"a": [Field((3,)), None, 1.5], "b": {"c": Field((3,))}, "d": "text"}


def test_an_omegaconf_container_is_resolved_first():
    config = OmegaConf.create({"n": 5, "field": {**FIELD, "shape": ["${n}", "${n}"]}})
    assert build(config)["field"] == Field((5, 5))
    assert build(config.field) == Field((5, 5))


def test_partial_waits_for_the_rest():
    made = build({**ADAM, "lr": 0.5, "betas": [0.9, 0.99]})
    assert isinstance(made, functools.partial)
    optimizer = made([torch.zeros(1, requires_grad=True)])
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.defaults["lr"] == 0.5


def test_extra_goes_to_the_outermost_constructor():
    index = torch.arange(2)
    assert build({"_target_": "genlab.core.rng.Rng", "seed": 3}, extra={"index": index}).index is index
    with pytest.raises(UserError, match=r"^index: Rng has no such option; it has seed, step, path$"):
        build({"_target_": "genlab.core.rng.Rng", "seed": 3, "index": None}, extra={"index": index})
    with pytest.raises(UserError, match=r"^model: Field takes no spec$"):
        build(FIELD, "model", extra={"spec": {}})


def test_without_recursion_a_config_stays_one(parts):
    config = {"_target_": f"{parts}.Part", "_recursive_": False, "table": {"a": 1}, "shape": None, "make": ADAM}
    made = build(config)
    assert made.options["make"] == ADAM
    assert made.options["table"] is not config["table"]


def test_constructors_get_plain_containers(parts):
    config = OmegaConf.create({"_target_": f"{parts}.Part", "factors": [1, 2.5], "table": {"a": 1}})
    options = build(config).options
    assert (type(options["factors"]), type(options["table"])) == (list, dict)


# --- what it refuses

TARGETS = [
    "os.system",
    "posix.system",
    "builtins.eval",
    "builtins.exec",
    "subprocess.Popen",
    "functools.partial",
    "torch.load",
    "torch.hub.load",
    "torch.optim.adam.Adam",
    "torch.optim.optimizer.warnings.os.system",
    "torch.nn.Module",
    "sympy.sympify",
    "shutil.copyfile",
    "hydra.utils.get_class",
    "genlab.cli.os.system",
    "genlab.cli.main",
    "genlab.runner.build.build",
    "genlab.core.files.Path",
    "genlab.load",
    "genlab.core",
    "genlab.corex.Field",
    "genlab.core.os.system",
    "genlab.core.rng.torch.load",
    "genlab.core.rng.math.sqrt",
    "genlab.core.rng.Tensor",
    "genlab.core.rng.philox",
    "genlab.core.spec.Any",
    "genlab.core.spec.Batch",
    "genlab.core.spec.Field.__class__",
    "genlab.core.spec.Field.__init__.__globals__",
    "genlab.core.__init__.Field",
    "genlab.core..spec.Field",
    "genlab.core.spec.Field\n",
    " genlab.core.spec.Field",
    "genlab/core/spec.Field",
    "../genlab.core.spec.Field",
    "Field",
    "",
    None,
    3,
    ["os.system"],
    {"_target_": "os.system"},
]
PLACES = {
    "alone": lambda node: node,
    "nested": lambda node: {"a": {**FIELD, "dims": node}},
    "in lists": lambda node: {"a": [[1, [node]]]},
    "partial": lambda node: {**node, "_partial_": True},
    "not recursive": lambda node: {**FIELD, "_recursive_": False, "dims": {"a": node}},
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("target", TARGETS, ids=repr)
def test_targets_that_are_no_components_are_refused(target, place, tmp_path):
    canary = tmp_path / "canary"
    config = place({"_target_": target, "command": f"touch {canary}"})
    for refuse in (check, build):
        with pytest.raises(UserError, match="_target_: ") as caught:
            refuse(config, "model")
        assert "\n" not in str(caught.value)
    assert not canary.exists()


def test_nothing_is_imported_for_a_refused_target(tmp_path, monkeypatch):
    canary = tmp_path / "canary"
    (tmp_path / "evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass Evil: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("GENLAB_PLUGINS", raising=False)
    for target in ("evil.Evil", "genlab.core.spec.evil.Evil", "genlab.core.evil.Evil"):
        with pytest.raises(UserError, match="refused"):
            build({"_target_": target})
    assert not canary.exists()
    assert "evil" not in sys.modules


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"\x1b[2J": print}, r"^model.\?\[2J: a builtin"),
        ({"a": "${oc.env:HOME}"}, r"^model.a: .* is refused: interpolations"),
        ({"a": ["x ${b} y"]}, r"^model.a\[0\]: .* is refused"),
        ({"a": "\\${b}"}, r"^model.a: .* is refused"),
        ({"${b}": 1}, "is refused"),
        ({**FIELD, "_target_": "${oc.env:HOME}"}, "_target_: "),
        ({**FIELD, "_partial_": "true"}, r"^model._partial_: must be true or false, not \"true\"$"),
        ({**FIELD, "_partial_": 1}, r"^model._partial_: must be true or false, not 1$"),
        ({**FIELD, "_recursive_": None}, r"^model._recursive_: must be true or false"),
        ({**FIELD, "_convert_": "eval"}, r"^model._convert_: must be one of none, partial, object, all$"),
        ({**FIELD, "_convert_": ["all"]}, r"^model._convert_: must be one of"),
        ({**FIELD, "_args_": [1]}, r"^model: the key _args_ is refused$"),
        ({**FIELD, "__class__": 1}, r"^model: the key __class__ is refused$"),
        ({"a": {"_partial_": True}}, r"^model.a: _partial_ says nothing without _target_$"),
        ({1: 2}, r"^model: the key 1 is refused: keys are strings$"),
        ({None: 2}, r"^model: the key null is refused"),
        ({"a": (1, 2)}, r"^model.a: a tuple is refused"),
        ({"a": b"x"}, r"^model.a: a bytes is refused"),
        ({"a": {1}}, r"^model.a: a set is refused"),
        ({"a": print}, r"^model.a: a builtin_function_or_method is refused"),
        ({"a": torch.float64}, r"^model.a: a dtype is refused"),
        ({"a": type("Text", (str,), {})("x")}, r"^model.a: a Text is refused"),
        ({"a": OmegaConf.create({})}, r"^model.a: a DictConfig is refused"),
        (functools.reduce(lambda inner, _: [inner], range(100), 1), "nested more than 40 deep"),
        ([0] * 200_000, "more than 100000 entries"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_a_config_must_not_hold(config, message):
    with pytest.raises(UserError, match=message) as caught:
        check(config, "model")
    assert "\n" not in str(caught.value)


def test_a_config_within_itself_ends():
    config = {}
    config["a"] = config
    with pytest.raises(UserError, match="nested more than"):
        check(config)


def test_a_config_that_repeats_itself_ends():
    """Ten references to ten references ... would take an hour to walk."""
    config = functools.reduce(lambda inner, _: [inner] * 10, range(30), 1)
    with pytest.raises(UserError, match="entries"):
        check(config)


# --- packages of the user's own


def test_a_trusted_package(parts, monkeypatch):
    assert type(build({"_target_": f"{parts}.Part"})).__module__ == parts
    for name in ("factory", "alias", "os.system", "Path", "Field", "Parts"):
        with pytest.raises(UserError, match="refused"):
            build({"_target_": f"{parts}.{name}"})
    with pytest.raises(UserError, match="refused"):
        build({"_target_": "partlab.Part"})
    for plugins in ("", "part", "partlab.parts", "genlab", "*"):
        monkeypatch.setenv("GENLAB_PLUGINS", plugins)
        for target in (f"{parts}.Part", "genlab.runner.checkpoint.Checkpoint"):
            with pytest.raises(UserError, match="GENLAB_PLUGINS"):
                build({"_target_": target})


def test_a_module_that_cannot_be_imported(parts, tmp_path):
    (tmp_path / "partlab/broken.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(UserError, match=r"partlab\.broken cannot be imported: No module named 'nothing_of_this_name'"):
        build({"_target_": "partlab.broken.Part"})
    with pytest.raises(UserError, match=r"there is no module partlab\.missing"):
        build({"_target_": "partlab.missing.Part"})


# --- options


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**ADAM, "lrr": 1}, "optim.lrr: Adam has no such option; did you mean lr?"),
        ({**ADAM, "lr": "ten"}, "optim.lr: must be float or Tensor, not ten"),
        ({**ADAM, "betas": [0.9]}, "optim.betas: must be a list [float or Tensor, float or Tensor], not [0.9]"),
        ({**ADAM, "_partial_": False}, "optim.params: must be given, Adam needs it"),
        ({"a": [{**FIELD, "shpe": 1}]}, "optim.a[0].shpe: Field has no such option; did you mean shape?"),
        ({"_target_": "genlab.core.spec.Field"}, "optim.shape: must be given, Field needs it"),
        ({**FIELD, "shape": [1, "b"]}, 'optim.shape: must be a list [int, ...], not [1, "b"]'),
        ({**FIELD, "shape": "???"}, "optim.shape: must be given"),
        ({**FIELD, "levels": 2.5}, "optim.levels: must be int or null, not 2.5"),
        ({**FIELD, "levels": True}, "optim.levels: must be int or null, not true"),
        ({**FIELD, "levels": FIELD}, "optim.levels: must be int or null, not genlab.core.spec.Field"),
    ],
)
def test_wrong_options_are_named(config, message):
    with pytest.raises(UserError) as caught:
        build(config, "optim")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("option", "good", "bad"),
    [
        ("width", [1, 20], [1.0, "1", None, True, [1]]),
        ("rate", [0, 1.5], ["1", None, False, {}]),
        ("fast", [True, False], [0, "true", None]),
        ("name", ["a", ""], [1, None, ["a"]]),
        ("kind", ["posterior", "transition"], ["prior", None, 1]),
        ("limit", [1, None], ["none", 1.5]),
        ("sides", [[1, 2]], [[1], [1, 2, 3], [1, 2.5], 1, "12"]),
        ("factors", [[], [1, 2.5]], ["12", 1, ["a"], {}]),
        ("table", [None, {}, {"a": 1}], [[1], {"a": "b"}, "a"]),
        ("folder", ["x/y"], [1, None]),
        ("make", [None, ADAM], [1, "torch.optim.Adam", {"a": 1}]),
        (
            "shape",
            [None, {"_target_": "partlab.parts.Round"}],
            [1, FIELD, {"radius": 1}, {"_target_": "torch.nn.SiLU"}],
        ),
        ("shapes", [[], [{"_target_": "partlab.parts.Round"}]], [[1], [FIELD], {"_target_": "partlab.parts.Round"}]),
        ("drawn", [None, {"_target_": "partlab.parts.Round"}], [1, "red", ["red"]]),
        ("implicit", [1, None], ["a"]),
    ],
)
def test_options_suit_their_annotations(parts, option, good, bad):
    config = {"_target_": f"{parts}.Part"}
    for value in good:
        build({**config, option: value})
    for value in bad:
        with pytest.raises(UserError, match=rf"^part.{option}: must be .*, not ") as caught:
            build({**config, option: value}, "part")
        assert "\n" not in str(caught.value)


def test_messages_say_what_would_be_right(parts):
    def message(**options):
        with pytest.raises(UserError) as caught:
            build({"_target_": f"{parts}.Part", **options}, "p")
        return str(caught.value)

    assert message(kind="prior") == "p.kind: must be one of posterior, transition, not prior"
    assert message(shape=1) == "p.shape: must be Shape or null, not 1"
    assert message(shapes=1) == "p.shapes: must be a list of Shape, not 1"
    assert message(table=1) == "p.table: must be a dictionary or null, not 1"
    assert len(message(name=list(range(1000)))) < 120
    build({"_target_": f"{parts}.Part", "one_of_many": 1})


def test_what_a_constructor_refuses_is_named_by_its_place(parts):
    def message(path, **options):
        with pytest.raises(UserError) as caught:
            build({"part": [{"_target_": f"{parts}.Part", **options}]}, path)
        return str(caught.value)

    assert message("model", width=0) == "model.part[0].width must be at least 1, not 0"
    assert message("model", rate=-1) == "model.part[0]: no such rate"
    assert message("model", limit=0) == "model.part.limit must not be 0"
    assert message("", rate=-1) == "part[0]: no such rate"
    with pytest.raises(UserError, match=r"^seed must be at least 0"):
        build({"_target_": "genlab.core.rng.Rng", "seed": -1}, extra={"index": torch.zeros(1)})


def test_a_bug_stays_one(parts):
    with pytest.raises(TypeError, match="a bug"):
        build({"_target_": f"{parts}.Part", "name": "type"})


def test_extra_objects_are_passed_as_they_are():
    rng = build({"_target_": "genlab.core.rng.Rng", "seed": 1}, "rng", extra={"index": torch.arange(3)})
    assert isinstance(rng, Rng)
    assert len(rng) == 3
