"""From the words of a command line to a composed config and a task, and from what went wrong to one line.

What is raised outside a task is a mistake in what was asked. Inside it only `UserError` is; anything else is a bug and
keeps its traceback.
"""

import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from genlab.core.errors import Interrupted, UserError
from genlab.runner.configs import config_folder, extra_folder, fail, nearest
from genlab.runner.schema import register

# Values that are paths are quoted for Hydra, whose grammar refuses `=`, spaces and brackets in bare words.
PATHS = ("ckpt", "resume", "out", "samples", "data.root", "metric.reference", "metric.write_reference")
# At sampling and evaluation these choices start from the checkpoint's own, so a part of them can be given alone.
KEPT = ("sampler", "estimator", "data")
FLAGS_WITH_VALUE = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--cfg", "-c", "--package", "-p")

INTERRUPTED = 130


class JobFailed(Exception):
    """A job of a sweep ended with a user's mistake, which has been printed; the other jobs go on."""


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def prepare(command: str, arguments: list[str]) -> list[str]:
    """Flags first, path values quoted, and parts of what the checkpoint knows marked as additions."""
    flags: list[str] = []
    overrides: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument.startswith("-") and "=" not in argument.split("/")[0]:
            flags.append(argument)
            if argument in FLAGS_WITH_VALUE:
                flags.append(next(rest, ""))
        elif argument.startswith("--"):
            flags.append(argument)
        else:
            overrides.append(argument)
    sweep = "-m" in flags or "--multirun" in flags
    return flags + [_prepared(command, override, sweep) for override in overrides] + _continued(overrides, sweep)


def _continued(overrides: list[str], sweep: bool) -> list[str]:
    """Hydra's folder of a run that is continued: its own, so that no other is made."""
    named = [value for key, _, value in (o.partition("=") for o in overrides) if key == "resume" and value != "null"]
    if not named:
        return []
    if sweep:
        raise UserError("resume: one run is continued at a time; leave -m out")
    from genlab.runner.checkpoint import resolve, run_of

    return [f"hydra.run.dir={_quoted(str(run_of(resolve(named[0].strip(chr(39) + chr(34))))))}"]


def _prepared(command: str, override: str, sweep: bool) -> str:
    key, equals, value = override.partition("=")
    if not equals:
        raise UserError(f"{override}: not a command's option; write option=value")
    name = key.lstrip("+~")
    if name in PATHS and value and value[0] not in "'\"[" and value != "null":
        parts = value.split(",") if sweep else [value]
        value = ",".join(part if re.fullmatch(r"[\w./:-]+", part) else _quoted(part) for part in parts)
    if command != "train" and key == name and name.split(".")[0] in KEPT and "." in name:
        key = f"++{name}"
    return f"{key}={value}"


def check_config_folder(folder: Path | None) -> None:
    """A user's own folder of configs may add files, and not replace shipped ones, which Hydra would go on using."""
    if folder is None:
        return
    if not folder.is_dir():
        raise UserError(f"--config-dir: there is no folder {folder}")
    for path in folder.rglob("*.yaml"):
        relative = path.relative_to(folder)
        if (config_folder() / relative).exists():
            raise UserError(f"--config-dir: {relative} has the name of a shipped config; give it another name")


def explain(error: BaseException) -> str:
    """One line for what went wrong while the config was composed."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        options = list(error.options or [])
        return f"{group}={name}: there is no such {group or 'config'}{nearest(name, options)}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read as option=value; quote values with special characters, 'a=\"b c\"'"
    cause = error.__cause__
    parent, key = getattr(cause, "parent_node", None), getattr(cause, "key", None)
    if isinstance(cause, OmegaConfBaseException) and isinstance(parent, DictConfig) and key is not None:
        full = str(getattr(cause, "full_key", None) or key)
        names = [str(name) for name in parent]
        if str(key) not in names:
            return f"{full}: there is no such option{nearest(str(key), names)}"
        return f"{full}: {str(cause.msg or cause).splitlines()[0]}"
    said = " ".join(str(error).split("\n\n")[0].split())
    match = re.match(r"Could not override '([^']+)'. No match in the defaults list", said)
    if match:
        return f"{match[1]}: there is no such option"
    return said + (f" ({str(cause).splitlines()[0]})" if cause is not None else "")


def _task(command: str) -> Callable[[DictConfig], None]:
    """The command's function, imported late since some bring torch and lightning with them."""
    if command == "train":
        from genlab.runner.train import train

        return train
    if command == "sample":
        from genlab.runner.sample import sample

        return sample
    from genlab.runner.evaluate import evaluate

    return evaluate


def launch(command: str, arguments: list[str]) -> int:
    """Run the command and return its exit status."""
    # Said by libraries to programmers; none of it is about what the user asked for.
    warnings.filterwarnings("ignore", module=r"(lightning|torch|hydra|omegaconf)\b.*")
    register()
    inside = False
    statuses: list[int] = []
    debug = os.environ.get("GENLAB_DEBUG") == "1"

    def job(config: DictConfig) -> None:
        nonlocal inside
        inside = True
        try:
            _task(command)(config)
        except UserError as error:
            if debug:
                raise
            statuses.append(INTERRUPTED if isinstance(error, Interrupted) else fail(str(error)))
            if isinstance(error, Interrupted):
                print(f"genlab: {error}", file=sys.stderr)
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise JobFailed(str(error)) from error
        inside = False

    try:
        sys.argv = ["genlab", *prepare(command, arguments)]
        check_config_folder(extra_folder(arguments))
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=command)(job)()
    except JobFailed:
        return max(statuses, default=2)
    except UserError as error:
        if debug:
            raise
        return fail(str(error))
    except KeyboardInterrupt:
        print("genlab: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (HydraException, ConfigCompositionException, OmegaConfBaseException) as error:
        if inside or debug:
            raise
        return fail(explain(error))
    return max(statuses, default=0)
