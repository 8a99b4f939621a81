"""Where data sets lie, and how they come there: data.root, else the folder GENLAB_DATA, else ~/.cache/genlab/data.

Below that folder each data set has its public layout, as MNIST/raw or cifar-10-batches-bin.
"""

import contextlib
import io
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from genlab.core.errors import UserError

T = TypeVar("T")

log = logging.getLogger(__name__)


def where(root: str | None) -> Path:
    """The folder that data sets lie in."""
    return Path(root or os.environ.get("GENLAB_DATA") or "~/.cache/genlab/data").expanduser()


def below(root: str | None, name: str) -> Path:
    """The folder `name` of the data folder; root may also be that folder itself."""
    folder = where(root)
    return folder if folder.name == name and not (folder / name).exists() else folder / name


def obtain(load: Callable[[bool], T], root: Path, expected: str, download: bool) -> T:
    """What a data set of torchvision loads, downloaded where it is absent and may be.

    Arguments:
        load: given whether to download; raises a RuntimeError where it finds no data.
        root: what torchvision is given.
        expected: the files, in words.

    Raises:
        UserError: the data are absent, unreadable, or could not be downloaded.
    """
    try:
        return load(False)
    except RuntimeError as error:
        if not download:
            raise UserError(f"data.root={root} has no {expected}, whole and unchanged: data.download=true") from error
    except Exception as error:
        raise UserError(f"data.root={root}: {expected} cannot be read: {one_line(error)}") from error
    with downloading(root, expected):
        return load(True)


@contextlib.contextmanager
def downloading(root: Path, expected: str) -> Iterator[None]:
    """Around a download: announce it, let it not hang, and turn any failure into one line that says what to do."""
    log.info("downloading %s to %s", expected, root)
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except Exception as error:
        raise UserError(
            f"data.root={root} has no {expected}, and downloading failed ({one_line(error)}): put them there, "
            "or name the folder that has them by data.root or GENLAB_DATA"
        ) from error
    finally:
        socket.setdefaulttimeout(patience)


def one_line(error: BaseException) -> str:
    """What an error says, on one line of at most 160 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else f"{text[:157]}..."
