"""The words of a command line as Hydra's grammar wants them: flags first, paths quoted, mistakes of form refused."""

import difflib
import re
from dataclasses import dataclass, fields
from pathlib import Path

from genlab.core.errors import UserError
from genlab.runner.configs import choices
from genlab.runner.schema import SCHEMAS

# Values that are paths are quoted for Hydra, whose grammar refuses `=`, spaces and brackets in bare words.
PATHS = (
    "ckpt",
    "resume",
    "init",
    "out",
    "samples",
    "data.root",
    "data.of.root",
    "guidance.ckpt",
    "task.mask",
    "metric.reference",
    "metric.write_reference",
    "hydra.run.dir",
    "hydra.sweep.dir",
)
# What sampling and evaluation take from the checkpoint, so that a part of it can be changed alone.
KEPT = {"sample": ("sampler", "guidance", "data"), "eval": ("sampler", "guidance", "estimator", "data")}

SWITCHES = ("-m", "--multirun", "--resolve", "--hydra-help")
VALUED = ("--config-dir", "-cd", "--config-name", "-cn", "--cfg", "-c", "--package", "-p")

SHOWN = ("job", "hydra", "all")
# Where a group has a file of this name, it is what null means; Hydra takes no null for a choice.
NOTHING = "none"
# Groups of which several files may be chosen at once; those of others are parts, of which Hydra would mix the options.
SEVERAL = ("experiment", "metric", "trainer")
# What Hydra does not take for the name of a file.
NO_NAME = re.compile(r"[+-]?[\d.]+|null|true|false|", re.IGNORECASE)


@dataclass(frozen=True)
class Words:
    """A command line after its command.

    Arguments:
        flags: with their values.
        overrides: option=value each, as typed.
    """

    flags: tuple[str, ...]
    overrides: tuple[str, ...]

    @property
    def sweep(self) -> bool:
        return "-m" in self.flags or "--multirun" in self.flags

    def value(self, option: str) -> str | None:
        """What the option is set to, without quotes; None where it is not set, or set to null."""
        for override in reversed(self.overrides):
            key, _, value = override.partition("=")
            if key.lstrip("+") == option:
                return None if value == "null" else value.strip("'\"")
        return None

    def names(self, prefix: str) -> bool:
        """Whether an option whose name begins so is set."""
        return any(override.lstrip("+~").startswith(prefix) for override in self.overrides)


def split(arguments: list[str]) -> Words:
    """Flags and overrides, wherever they stand.

    Raises:
        UserError: for what is neither.
    """
    flags: list[str] = []
    overrides: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if not argument.startswith("-"):
            if not equals or not name.lstrip("+~"):
                raise UserError(f"{argument}: not an option; write option=value")
            overrides.append(argument)
        elif argument in SWITCHES:
            flags.append(argument)
        elif name in VALUED:
            value = value if equals else next(rest, "")
            if not value:
                raise UserError(f"{name}: a value must follow")
            if name in ("--cfg", "-c") and value not in SHOWN:
                raise UserError(f"{name}={value}: choose one of {', '.join(SHOWN)}")
            flags += [name, value]
        else:
            near = difflib.get_close_matches(name, SWITCHES + VALUED, n=1)
            raise UserError(f"{name}: there is no such flag{f'; did you mean {near[0]}?' if near else ''}")
    return Words(tuple(flags), tuple(overrides))


def prepared(command: str, words: Words) -> list[str]:
    """What Hydra is told.

    Raises:
        UserError: for an option that would be added and never be read, or nothing to sweep over.
    """
    if words.sweep and not words.overrides:
        raise UserError("-m: there is nothing to sweep over; give an option several values, as seed=0,1")
    return [*words.flags, *(_prepared(command, override, words.sweep) for override in words.overrides)]


def _prepared(command: str, override: str, sweep: bool) -> str:
    key, _, value = override.partition("=")
    name = key.lstrip("+~")
    if name in PATHS:
        value = _path(value, sweep)
    if "null" in value.split(",") and NOTHING in choices(name):
        value = ",".join(NOTHING if part == "null" else part for part in value.split(","))
    if NO_NAME.fullmatch(value) and (there := choices(name)):
        raise UserError(f"{override}: there is no such {name}; there are {', '.join(there)}")
    if value.startswith("[") and name not in SEVERAL and choices(name):
        raise UserError(f"{override}: one {name} is chosen and not several, which would not go together")
    root = re.split(r"[.@/]", name)[0]
    own, trained = ([field.name for field in fields(SCHEMAS[each])] for each in (command, "train"))
    if command != "train" and root in trained and (root not in own or root == "network"):
        raise UserError(f"{override}: {command} takes the {root} from the checkpoint")
    if key.startswith("+") and root not in (*own, "hydra", "experiment"):
        raise UserError(f"{override}: there is no such option; there are {', '.join(own)}")
    added = name.startswith("optim.players.") or ("." in name and root in KEPT.get(command, ()))
    if key == name and added:
        key = f"++{name}"
    return f"{key}={value}"


def _path(value: str, sweep: bool) -> str:
    """A path in quotes; several, where they are swept over; a list or null as it is."""
    if value in ("", "null") or (not Path(value).exists() and value[0] in "'\"["):
        return value
    parts = value.split(",") if sweep and not Path(value).exists() else [value]
    return ",".join(quoted(part) for part in parts)


def quoted(value: str) -> str:
    """In single quotes, within which a backslash stands for itself except before a quote."""
    return "'" + re.sub(r"(\\*)'", r"\1\1\'", re.sub(r"(\\+)$", r"\1\1", value)) + "'"
