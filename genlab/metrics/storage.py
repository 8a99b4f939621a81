"""Where what was computed once is kept, and how it is written there: whole or not at all."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from genlab.core.errors import UserError


def cache_folder() -> Path:
    """GENLAB_CACHE, or ~/.cache/genlab."""
    return Path(os.environ.get("GENLAB_CACHE") or "~/.cache/genlab").expanduser()


def plain(name: str) -> str:
    """The name as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip("-.")[:80]


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` when all of it is written, and leaves no trace otherwise."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                yield file
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
