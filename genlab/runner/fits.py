"""Whether a value of a config suits the annotation of the argument that it is given to.

It errs on the side of letting through: an annotation that says nothing about plain values accepts them.
"""

import json
import os
import re
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

BARE = re.compile(r"(?!(true|false|null)$)[A-Za-z_./][\w./-]*", re.ASCII)
"""A string that YAML needs no quotes for."""

Component = Callable[[Any], type]
"""From a `_target_` to its class."""


def fits(value: Any, hint: Any, component: Component) -> bool:
    """True where an argument annotated with `hint` may be given `value`.

    Arguments:
        value: a primitive, a list, a dictionary, or a dictionary with `_target_` which stands for the object.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, choice, component) for choice in arguments)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if origin is Annotated:
        return fits(value, arguments[0], component)
    kind = origin or hint
    if kind is None:
        return value is None
    if kind in (Any, object) or not isinstance(kind, type):
        return True
    if isinstance(value, dict) and "_target_" in value:
        return _object_fits(value, kind, component)
    if kind is float:
        return type(value) in (int, float)
    if kind in (bool, int, str):
        return type(value) is kind
    if isinstance(value, str):
        return kind in (Path, os.PathLike) or (kind.__module__ != "collections.abc" and _is(str, kind, False))
    if isinstance(value, list):
        return _list_fits(value, kind, arguments, component)
    if isinstance(value, dict):
        inner = arguments[1] if len(arguments) == 2 and issubclass(kind, Mapping) else Any
        return _is(dict, kind, True) and all(fits(item, inner, component) for item in value.values())
    return _is(type(value), kind, False)


def _list_fits(value: list[Any], kind: type, arguments: tuple[Any, ...], component: Component) -> bool:
    if kind is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            return False
        return all(fits(item, hint, component) for item, hint in zip(value, arguments, strict=True))
    inner = arguments[0] if arguments else Any
    holds = kind in (tuple, set, frozenset) or _is(list, kind, False)
    return holds and all(fits(item, inner, component) for item in value)


def _object_fits(value: dict[str, Any], kind: type, component: Component) -> bool:
    if value.get("_partial_", False):
        return kind not in (bool, int, float, str, list, tuple, dict)
    return kind is Callable or _is(component(value["_target_"]), kind, True)


def _is(given: type, kind: type, unknown: bool) -> bool:
    """A subclass; `unknown` where it cannot be told, as with most protocols and typed dictionaries."""
    try:
        return issubclass(given, kind)
    except TypeError:
        return unknown


def describe(hint: Any) -> str:
    """An annotation in the words of a config."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in (None, type(None)):
        return "null"
    if origin in (Union, types.UnionType):
        return " or ".join(describe(choice) for choice in arguments)
    if origin is Literal:
        return f"one of {', '.join(shown(choice) for choice in arguments)}"
    if origin is Annotated:
        return describe(arguments[0])
    kind = origin or hint
    if kind in (tuple, set, frozenset) or (isinstance(kind, type) and _is(list, kind, False)):
        inner = ", ".join("..." if choice is Ellipsis else describe(choice) for choice in arguments)
        return f"a list [{inner}]" if kind is tuple and inner else f"a list of {inner}" if inner else "a list"
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return "a dictionary"
    return getattr(kind, "__name__", str(kind))


def shown(value: Any) -> str:
    """A value as YAML would have it, on one line and not too long."""
    if isinstance(value, dict) and "_target_" in value:
        return shown(value["_target_"])
    bare = isinstance(value, str) and BARE.fullmatch(value)
    text = str(value) if bare else json.dumps(value, default=repr, skipkeys=True)
    return text if len(text) <= 80 else f"{text[:77]}..."


def printable(text: str) -> str:
    """On one line, without what a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
