"""Where the configs lie and what there is to choose from, for a command line that must not wait for torch or Hydra."""

import difflib
import sys
from pathlib import Path


def config_folder() -> Path:
    """The absolute folder of the shipped configs: in the wheel inside the package, in a checkout beside it."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "train.yaml").is_file():
            return folder
    raise FileNotFoundError(f"genlab's configs are missing: looked in {package}/configs and {package.parent}/configs")


def choices(group: str, extra: Path | None = None) -> dict[str, str]:
    """The files of a config group and the comment that each begins with, also those of the user's --config-dir."""
    folders = [folder / group for folder in (config_folder(), extra) if folder is not None]
    return {path.stem: _first_comment(path) for folder in folders for path in sorted(folder.glob("*.yaml"))}


def _first_comment(path: Path) -> str:
    """What a file says of itself in its first line, Hydra's own line aside."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            if not line.startswith("#"):
                break
            if not line.startswith("# @package"):
                return line.removeprefix("#").strip()
    return ""


def extra_folder(arguments: list[str]) -> Path | None:
    """The value of --config-dir, in either way of writing it."""
    for i, argument in enumerate(arguments):
        if argument in ("--config-dir", "-cd") and i + 1 < len(arguments):
            return Path(arguments[i + 1]).expanduser().absolute()
        if argument.startswith("--config-dir="):
            return Path(argument.partition("=")[2]).expanduser().absolute()
    return None


def nearest(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else f"; there are {', '.join(names)}"


def fail(message: str) -> int:
    """One line on stderr, and the exit status of a user's mistake."""
    print(f"genlab: {' '.join(str(message).split())}", file=sys.stderr)
    return 2
