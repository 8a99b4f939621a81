"""Files that are whole or not there: written beside their place, then put into it in one step; and where caches lie."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from genlab.core.errors import UserError


def cache_folder() -> Path:
    """The folder for what can be computed again: GENLAB_CACHE, else ~/.cache/genlab."""
    return Path(os.environ.get("GENLAB_CACHE") or "~/.cache/genlab").expanduser()


def file_name(name: str) -> str:
    """The name as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip("-.")[:80]


@contextmanager
def replacing(path: str | Path, durable: bool = False, contested: bool = False) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` when the block ends well; if not, `path` is as it was.

    The unfinished file has one name for each `path`, so that what a killed process left is overwritten by the next.

    Arguments:
        durable: wait until it is on the disk, so that it outlives a power cut too; some milliseconds a file.
        contested: other programs may write the same file meanwhile, as in a cache, so each has an unfinished one.

    Raises:
        UserError: the disk is full, or the folder cannot be written to.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part" if contested else f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        cause = _system_error(error)
        if cause is None:
            raise
        raise UserError(f"{path} could not be saved: {_advice(cause, path)}") from error
    if durable:
        _sync_folder(path.parent)


def _system_error(error: BaseException) -> OSError | None:
    """The OSError behind an error: torch's writer raises another one on the way out of a failed write."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, OSError):
        seen = seen.__cause__ or seen.__context__
    return seen


def _advice(error: OSError, path: Path) -> str:
    kept = "; the one saved before is kept" if path.exists() else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        folder = next((p for p in path.absolute().parents if p.exists()), Path("/"))
        free = shutil.disk_usage(folder).free / 1e6
        return f"the disk is full ({free:.0f} MB free){kept}; free some space or let runs go to another disk"
    return f"{error.strerror or error}{kept}"


def _sync_folder(folder: Path) -> None:
    """The new name survives a power cut, on systems where a folder can be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    with suppress(OSError):
        os.fsync(descriptor)
    os.close(descriptor)
