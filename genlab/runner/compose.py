"""From what Hydra composed to the plain, resolved config that a run is built from and that its checkpoints carry."""

import copy
import re
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from genlab.core.errors import UserError
from genlab.core.spec import spec_to_config
from genlab.data.contract import DataSet
from genlab.runner.build import build
from genlab.runner.checkpoint import resolve
from genlab.runner.configs import choices as shipped
from genlab.runner.configs import config_folder, nearest
from genlab.runner.options import OPTIM

# An interpolation and nothing else.
ALONE = re.compile(r"\$\{([\w.]+)\}")
# What a run is built from; network, schedule and conditioner reach the model by interpolation and are part of it.
PARTS = ("model", "data", "sampler", "guidance", "estimator", "optim", "trainer", "spec", "seed")
# Read by the program itself, or checked against the class that they name, so not expected to show in the model.
READ_BY_PROGRAM = (
    "model",
    "data",
    "sampler",
    "guidance",
    "estimator",
    "trainer",
    "seed",
    "resume",
    "init",
    "experiment",
    "hydra",
)


def task_overrides() -> list[str]:
    """What the user typed for this job, as typed."""
    # Item by item, the list would resolve a `${...}` in an override before it is composed.
    overrides: Any = OmegaConf.to_container(HydraConfig.get().overrides, resolve=False)
    return list(overrides["task"])


def choices() -> dict[str, str]:
    """Which file of each group was chosen."""
    chosen = HydraConfig.get().runtime.choices
    return {str(group): str(name) for group, name in chosen.items() if "/" not in str(group) and name is not None}


def run_folder() -> Path:
    """The folder of this job."""
    return Path(HydraConfig.get().runtime.output_dir)


def run_folder_is_named() -> bool:
    """Whether the user chose the folder of this job."""
    return any(override.startswith("hydra.run.dir=") for override in HydraConfig.get().overrides.hydra)


def plain(config: DictConfig, keys: tuple[str, ...]) -> dict[str, Any]:
    """Parts of a config, resolved, as dictionaries, lists and primitives."""
    resolved = {}
    for key in keys:
        try:
            value = OmegaConf.select(config, key, throw_on_missing=True)
            resolved[key] = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        except OmegaConfBaseException as error:
            raise UserError(f"{key}: {_interpolation(error)}") from error
    return resolved


def _interpolation(error: OmegaConfBaseException) -> str:
    said = str(error).splitlines()[0]
    if "spec.labelled_as" in said:
        return "it needs few labels beside data without any; choose data=mnist_few_labels, say"
    if "spec.label" in said:
        return "it needs labels, and the data have none; choose conditioner=none or labelled data"
    if "'schedule.steps'" in said:
        return "the schedule is continuous and has no steps to be counted; set times.steps=100, say"
    if "spec." in said:
        return f"it needs what the data do not have ({said})"
    return said


def training_config(config: DictConfig) -> tuple[dict[str, Any], DataSet]:
    """The resolved config of a new run, its spec and `data_size` filled in by the data set, and that data set.

    Raises:
        UserError: for an option that the chosen model never reads.
    """
    data = build(plain(config, ("data",))["data"], path="data")
    with open_dict(config):
        config.spec = spec_to_config(data.spec)
        # Loads the data, so it is said only where it is asked for.
        if "${data_size}" in OmegaConf.to_yaml(config):
            config.data_size = len(data.split("train"))
    for override in task_overrides():
        _check_read(config, override)
    resolved = plain(config, PARTS)
    guidance = resolved["guidance"]
    if guidance and isinstance(guidance.get("ckpt"), str) and guidance["ckpt"] != "???":
        # The run may be sampled from another folder than this.
        guidance["ckpt"] = str(Path(guidance["ckpt"]).expanduser().absolute())
    if config.init is not None:
        try:
            resolved["init"] = str(resolve(config.init).absolute())
        except UserError as error:
            raise UserError(f"init={error}") from error
    resolved["choices"] = choices()
    return resolved, data


def _check_read(config: DictConfig, override: str) -> None:
    """Whether the model, or the optimizer, changes when what the override sets is taken away."""
    key = override.partition("=")[0].lstrip("+~").partition("@")[0].replace("/", ".")
    root, _, rest = key.partition(".")
    if root == "spec":
        raise UserError(f"{override}: the spec is what the data are, and is not set")
    if root in READ_BY_PROGRAM or (root == "optim" and rest.partition(".")[0] in ("", *OPTIM)):
        return
    without = copy.deepcopy(config)
    with open_dict(without):
        parent, _, last = key.rpartition(".")
        node = OmegaConf.select(without, parent) if parent else without
        if not isinstance(node, DictConfig) or last not in node:
            return
        del node[last]
    reader = "optim.optimizer" if root == "optim" else "model"
    whole = plain(config, (reader,))
    try:
        if plain(without, (reader,)) != whole:
            return
    except UserError:
        return
    model = choices().get("model", "the model")
    advice = "leave it out" if root == "optim" else f"leave it out, or choose a model that has a {root}"
    raise UserError(
        f"{override}: {'the optimizer' if root == 'optim' else f'model={model}'} never reads {key}; {advice}"
    )


# Where data lie, those of a data set itself and of one that it is made from.
ROOTS = ("data.root", "data.of.root")
# Of a trainer's file, what may differ when a run goes on with another one.
PLACE = ("accelerator", "devices", "num_nodes", "strategy", "precision", "compile", "channels_last", "workers")


def apply_overrides(config: dict[str, Any], composed: DictConfig, overrides: list[str]) -> dict[str, Any]:
    """A run's own config with what may be changed when it is continued.

    Arguments:
        config: that of the checkpoint.
        composed: what the command line alone composes to.
        overrides: what the user typed.
    """
    config = copy.deepcopy(config)
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        root, _, rest = key.partition(".")
        if root in ("resume", "hydra"):
            continue
        if key == "trainer":
            chosen: Any = OmegaConf.to_container(composed.trainer, resolve=True)
            config["trainer"].update({name: chosen[name] for name in PLACE})
            continue
        if not (rest and root in ("trainer", "optim") and "_target_" not in rest) and key not in ROOTS:
            raise UserError(
                f"{override}: resume continues a run as it was, and only trainer, the numbers of optim and data.root "
                "may be changed; for another model, data or optimizer start a new run"
            )
        value = OmegaConf.select(composed, key)
        node = config[root]
        *parents, last = rest.split(".")
        for parent in parents:
            # Of a player nothing stands there until something is said of it.
            node = node.setdefault(parent, {}) if rest.startswith("players.") else node[parent]
        if last not in node and not rest.startswith("players."):
            raise UserError(f"{override}: the run has no such option{nearest(last, [n for n in node if n[0] != '_'])}")
        node[last] = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        if key == "optim.lr":
            config["optim"]["optimizer"]["lr"] = value
    return config


def typed_names(config: DictConfig) -> dict[str, str]:
    """From the place of a part in the config to the option that it is taken from: model.network to network."""
    found: dict[str, str] = {}

    def walk(node: Any, path: str) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                walk(value, f"{path}.{key}")
        elif (alone := ALONE.fullmatch(str(node))) and not alone[1].startswith("spec."):
            found[path] = alone[1]

    whole: Any = OmegaConf.to_container(config, resolve=False)
    for root, part in whole.items():
        if isinstance(part, dict):
            walk(part, root)
    return found


def metric_config(name: str, n: int) -> dict[str, Any]:
    """The shipped options of a metric, on n data or samples, for use while training."""
    known = shipped("metric")
    if name not in known:
        raise UserError(f"trainer.validate: there is no metric {name}{nearest(name, list(known))}")
    file = OmegaConf.load(config_folder() / "metric" / f"{name}.yaml")
    whole = OmegaConf.merge({"metric": {"n": n, "data": n}}, {"metric": file})
    resolved: Any = OmegaConf.to_container(whole, resolve=True)
    return resolved["metric"][name]
