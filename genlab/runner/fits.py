"""Whether a value of a config suits the annotation of the argument that it is given to.

It errs on the side of letting through: an annotation that says nothing about plain values accepts them.
"""

import json
import os
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

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
        return kind in (Path, os.PathLike) or (kind.__module__ != "collections.abc" and isinstance(value, kind))
    if isinstance(value, list):
        return _list_fits(value, kind, arguments, component)
    if isinstance(value, dict):
        inner = arguments[1] if len(arguments) == 2 and issubclass(kind, Mapping) else Any
        return _is(dict, kind) and all(fits(item, inner, component) for item in value.values())
    return _is(type(value), kind)


def _list_fits(value: list[Any], kind: type, arguments: tuple[Any, ...], component: Component) -> bool:
    if kind is tuple and arguments and arguments[-1] is not Ellipsis:
        pairs = zip(value, arguments, strict=False)
        return len(value) == len(arguments) and all(fits(item, hint, component) for item, hint in pairs)
    inner = arguments[0] if arguments else Any
    return (kind in (tuple, set, frozenset) or _is(list, kind)) and all(fits(item, inner, component) for item in value)


def _object_fits(value: dict[str, Any], kind: type, component: Component) -> bool:
    if value.get("_partial_", False):
        return kind not in (bool, int, float, str, list, tuple, dict)
    return kind is Callable or _is(component(value["_target_"]), kind)


def _is(given: type, kind: type) -> bool:
    """A subclass; protocols and typed dictionaries cannot be asked, and let it through."""
    try:
        return issubclass(given, kind)
    except TypeError:
        return True


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
    if (isinstance(kind, type) and _is(list, kind)) or kind in (tuple, set, frozenset):
        inner = ["..." if choice is Ellipsis else describe(choice) for choice in arguments]
        return (
            f"a list [{', '.join(inner)}]"
            if kind is tuple and inner
            else f"a list{' of ' * bool(inner)}{''.join(inner)}"
        )
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return "a dictionary"
    return getattr(kind, "__name__", str(kind))


def shown(value: Any) -> str:
    """A value as YAML would have it, on one line and not too long."""
    if isinstance(value, dict) and "_target_" in value:
        return str(value["_target_"])
    text = value if isinstance(value, str) and value.isidentifier() else json.dumps(value, default=repr)
    return text if len(text) <= 80 else f"{text[:77]}..."
