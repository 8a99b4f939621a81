"""From a config to objects: a dictionary with `_target_` is a call of that class, and everything else is itself.

    {_target_: genlab.networks.unet.UNet, width: 64}  ->  UNet(width=64)

A config may come with a checkpoint from anywhere, so it may name only classes that are DEFINED in genlab's component
packages, a few of torch's, and those of packages that the user trusts by naming them in GENLAB_PLUGINS. An allow-list
of prefixes would be a hole: `genlab.cli.os.system` is `os.system`. The words are Hydra's, `_partial_`, `_recursive_`
and `_convert_`; its `_args_` and `${...}` are refused. Its `instantiate` is not used: it knows no place within a list,
wraps partials, and looks every name up once more. Constructors get plain lists and dictionaries, as with
`_convert_: all`.

Options are checked against the constructor's signature before anything is constructed, so that a mistake is named by
its place in the config: `model.network.widht: UNet has no such option; did you mean width?`
"""

import copy
import difflib
import functools
import importlib
import inspect
import os
import re
from collections.abc import Collection, Iterator
from typing import Any, get_type_hints

from genlab.core.errors import UserError
from genlab.runner.fits import describe, fits, printable, shown

COMPONENTS = ("genlab.core", "genlab.networks", "genlab.models", "genlab.data", "genlab.metrics", "genlab.tasks")
OPTIMIZERS = ("Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "SGD")
ACTIVATIONS = ("ELU", "GELU", "Identity", "LeakyReLU", "Mish", "PReLU", "ReLU", "SELU", "SiLU", "Softplus", "Tanh")
TORCH = {f"torch.optim.{name}" for name in OPTIMIZERS} | {f"torch.nn.{name}" for name in ACTIVATIONS}
WORDS = ("_target_", "_partial_", "_recursive_", "_convert_")
CONVERSIONS = ("none", "partial", "object", "all")
PRIMITIVES = (type(None), bool, int, float, str)
DEEPEST, MOST = 40, 100_000
NAME = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+", re.ASCII)


def build(config: Any, path: str = "", extra: dict[str, Any] | None = None) -> Any:
    """The object that a resolved config describes.

    Arguments:
        config: dictionaries, lists and primitives, or an OmegaConf container of them.
        path: where the config stands, for the messages: "model".
        extra: objects that the outermost constructor is given besides, by keyword.

    Raises:
        UserError: the config names what it may not, an option is wrong, or a constructor refused its arguments.
    """
    config = plain(config, path)
    check(config, path)
    check_options(config, path, given=(extra or {}).keys())
    return _make(config, path, extra or {})


def plain(config: Any, path: str = "") -> Any:
    """An OmegaConf container as dictionaries and lists, with its interpolations resolved; anything else as it is."""
    if config is None or type(config) in (dict, list):
        return config
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not OmegaConf.is_config(config):
        return config
    try:
        return OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise _mistake(path, str(error).splitlines()[0]) from error


def check(config: Any, path: str = "", packages: Collection[str] = COMPONENTS) -> None:
    """Raise a UserError unless building the config can run nothing but constructors of allowed classes.

    Arguments:
        packages: the packages of genlab whose classes it may name.
    """
    for count, (where, node) in enumerate(_walk(config, path)):
        if count > MOST:
            raise _mistake(path, f"the config has more than {MOST} entries")
        if isinstance(node, str) and "${" in node:
            raise _mistake(where, f"{shown(node)} is refused: interpolations are resolved before, or not at all")
        if isinstance(node, dict):
            _check_words(node, where, packages)
        elif type(node) not in (*PRIMITIVES, list):
            kind = type(node).__name__
            raise _mistake(where, f"a {kind} is refused: a config holds null, bool, int, float, str, lists and dicts")


def _check_words(node: dict[Any, Any], where: str, packages: Collection[str]) -> None:
    for key in node:
        if type(key) is not str:
            raise _mistake(where, f"the key {shown(key)} is refused: keys are strings")
        if "${" in key or (key.startswith("_") and key not in WORDS):
            raise _mistake(where, f"the key {shown(key)} is refused")
        if key in WORDS and "_target_" not in node:
            raise _mistake(where, f"{key} says nothing without _target_")
    for key in ("_partial_", "_recursive_"):
        if type(node.get(key, False)) is not bool:
            raise _mistake(_join(where, key), f"must be true or false, not {shown(node[key])}")
    if node.get("_convert_", "all") not in CONVERSIONS:
        raise _mistake(_join(where, "_convert_"), f"must be one of {', '.join(CONVERSIONS)}")
    if "_target_" in node:
        component(node["_target_"], where, packages)


def component(target: Any, path: str = "", packages: Collection[str] = COMPONENTS) -> type:
    """The class of this name, if a config may name it. A module is imported only where its name is allowed."""
    where = _join(path, "_target_")
    if type(target) is not str or not NAME.fullmatch(target):
        raise _mistake(where, f"must be the full name of a class, not {shown(target)}")
    module_name, _, name = target.rpartition(".")
    if target in TORCH:
        return getattr(importlib.import_module(module_name), name)
    plugins = {p.strip() for p in os.environ.get("GENLAB_PLUGINS", "").split(",")} - {"", "genlab"}
    inside = any(f"{module_name}.".startswith(f"{package}.") for package in packages)
    if not inside and module_name.partition(".")[0] not in plugins:
        raise _mistake(
            where,
            f"{shown(target)} is refused and was not run: a config may name classes of genlab's components, "
            "and of packages that the environment variable GENLAB_PLUGINS names",
        )
    try:
        members = vars(importlib.import_module(module_name))
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):
            raise _mistake(where, f"{module_name} cannot be imported: {error}") from error
        raise _mistake(where, f"{shown(target)} is refused: there is no module {error.name}") from error
    found = members.get(name)
    if isinstance(found, type) and f"{found.__module__}.{found.__qualname__}" == target:
        return found
    own = [key for key, value in members.items() if isinstance(value, type) and value.__module__ == module_name]
    raise _mistake(where, f"{shown(target)} is refused: no class of this name is defined there{nearest(name, own)}")


def check_options(config: Any, path: str = "", given: Collection[str] = ()) -> None:
    """Raise a UserError where an option is unknown, missing or ill-typed, before anything is constructed.

    Arguments:
        given: the names that the outermost constructor will be given besides.
    """
    for where, node in _walk(config, path):
        if node == "???":
            raise _mistake(where, "must be given")
        if isinstance(node, dict) and "_target_" in node:
            _check_signature(component(node["_target_"], where), node, where, given if node is config else ())


def _check_signature(target: Any, node: dict[str, Any], where: str, given: Collection[str]) -> None:
    try:
        parameters = inspect.signature(target).parameters.values()
    except ValueError:
        return
    try:
        hints = get_type_hints(target.__init__)
    except (NameError, TypeError):
        hints = {}
    named = {p.name: p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    open_ended = any(p.kind == p.VAR_KEYWORD for p in parameters)
    options = {key: value for key, value in node.items() if key not in WORDS}
    for key in given:
        if key not in named and not open_ended:
            raise _mistake(where, f"{target.__name__} takes no {key}")
    choices = [name for name in named if name not in given]
    for key, value in options.items():
        if key in named and key not in given:
            hint, implicit = hints.get(key, Any), value is None and named[key].default is None
            if not implicit and value != "???" and not fits(value, hint, component):
                raise _mistake(_join(where, key), f"must be {describe(hint)}, not {shown(value)}")
        elif not open_ended or key in given:
            hint_of_name = nearest(key, choices) or (f"; it has {', '.join(choices)}" if choices else "")
            raise _mistake(_join(where, key), f"{target.__name__} has no such option{hint_of_name}")
    if node.get("_partial_", False):
        return
    for name, parameter in named.items():
        if parameter.default is parameter.empty and name not in options and name not in given:
            raise _mistake(_join(where, name), f"must be given, {target.__name__} needs it")


def _make(node: Any, path: str, extra: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_make(value, f"{path}[{i}]", {}) for i, value in enumerate(node)]
    if not isinstance(node, dict):
        return node
    parts = {key: value for key, value in node.items() if key not in WORDS}
    if node.get("_recursive_", True):
        parts = {key: _make(value, _join(path, key), {}) for key, value in parts.items()}
    else:
        parts = copy.deepcopy(parts)
    if "_target_" not in node:
        return parts
    target = component(node["_target_"], path)
    if node.get("_partial_", False):
        return functools.partial(target, **parts, **extra)
    try:
        return target(**parts, **extra)
    except ValueError as error:
        raise _located(error, path, parts) from error


def _located(error: ValueError, path: str, options: Collection[str]) -> UserError:
    """The error with its place in front: "eta must be in [0, 1]" becomes "sampler.eta must be in [0, 1]"."""
    message = printable(str(error)) or type(error).__name__
    # Of "model.critic" what stands in front may be "critic" already, the option that it is chosen by.
    ends = {path.partition(".")[0], path.rpartition(".")[2]}
    if not path or message.startswith(tuple(f"{end}{mark}" for end in ends for mark in ".:=")):
        return UserError(message)
    first = re.match(r"\w*", message)
    return UserError(f"{path}.{message}" if first and first[0] in options else f"{path}: {message}")


def nearest(name: str, names: Collection[str]) -> str:
    """ "; did you mean ...?", or nothing where no name is near."""
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _walk(node: Any, path: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every node with its dotted path, parents first."""
    if depth > DEEPEST:
        raise _mistake(path[:100], f"the config is nested more than {DEEPEST} deep")
    yield path, node
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _walk(value, _join(path, key), depth + 1)
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from _walk(value, f"{path}[{i}]", depth + 1)


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else f"{key}"


def _mistake(path: str, message: str) -> UserError:
    return UserError(printable(f"{path or 'config'}: {message}"))
