"""What went wrong while a config was composed, in one line that names the option and what would be right."""

import re

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException, ValidationError

from genlab.runner.configs import choices, config_folder, nearest

# Not for users to set.
HIDDEN = ("hydra", "spec")


def explain(error: BaseException) -> str:
    """One line about an error of Hydra's, of OmegaConf's, or of the system's."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        said = f"{group}={name}: there is no such {group}" if group else f"there is no config {name}"
        there = list(error.options or choices(group) if group else [])
        return said + (nearest(name, there) if there else "")
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read as option=value; quote values with special characters, 'a=\"b c\"'"
    for cause in (error.__cause__, error):
        if isinstance(cause, OmegaConfBaseException):
            found = _of_option(cause)
            if found is not None:
                return found
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return _of_hydra(error)


def _of_option(cause: OmegaConfBaseException) -> str | None:
    """An option that is not there, or whose value is of the wrong type."""
    parent, key = getattr(cause, "parent_node", None), getattr(cause, "key", None)
    if not isinstance(parent, DictConfig) or key is None:
        return None
    full = str(getattr(cause, "full_key", None) or key)
    *above, group, _ = ["", "", "", *full.split(".")]
    if above[-1] and not len(parent) and (config_folder() / group).is_dir():
        return f"{full}: the {group} is chosen beside the {above[-1]}; write {group}.{key}=..."
    if group and not above[-1] and not len(parent) and (config_folder() / group).is_dir():
        return f"{full}: no {group} is chosen, and the model may not read any"
    if group == "metric" and str(key) in choices(group):
        return f"{full}: this metric is not asked for; write metric=[{key}], or name it among others"
    names = [str(name) for name in parent if not str(name).startswith("_") and str(name) not in HIDDEN]
    if str(key) in names:
        return f"{full}: {_of_value(cause)}"
    return f"{full}: there is no such option{nearest(str(key), names) if names else '; it has none'}"


def _of_value(cause: OmegaConfBaseException) -> str:
    said = str(cause.msg or cause).splitlines()[0]
    match = re.search(r"Value '(.*)' (?:of type '\w+' could not be converted to|is not a valid) (\w+)", said)
    if isinstance(cause, ValidationError) and match:
        kinds = {"Integer": "a whole number", "Float": "a number", "bool": "true or false"}
        return f"must be {kinds.get(match[2], match[2])}, not {match[1] or 'empty'}"
    if said.endswith("is not a ListConfig, list or tuple."):
        return "must be a list, as [a,b]"
    return said


def _of_hydra(error: BaseException) -> str:
    said = " ".join(str(error).split("\n\n")[0].split())
    match = re.match(
        r"Could not (?:override|append to config|delete).*?'([^']+)'.* No match in the defaults list", said
    )
    if match:
        return f"{match[1]}: there is no such option"
    match = re.match(r"Ambiguous value for argument '([^=]*)=([^']*)'", said)
    if match:
        return f"{match[0].split(chr(39))[1]}: write {match[1]}=[{match[2]}] for a list, or -m to sweep over the values"
    cause = error.__cause__
    return said + (f" ({str(cause).splitlines()[0]})" if cause is not None and str(cause) else "")
