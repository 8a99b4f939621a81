"""One config-driven lab for generative models: train, sample and evaluate, each with one command."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from genlab.runner.load import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """`genlab.load`, imported when it is asked for, so that the command line's help needs no torch."""
    if name == "load":
        from genlab.runner.load import load

        return load
    raise AttributeError(f"module 'genlab' has no attribute {name!r}")
