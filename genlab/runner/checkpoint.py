"""Checkpoints: found by a file or a run folder, read without running anything, turned into a model.

    RUN/checkpoints/{last,best,step_0000500}.ckpt     RUN/config.yaml     RUN/metrics.jsonl     RUN/samples/

A checkpoint is self-contained: tensors and primitives, with the resolved config as YAML text under `genlab_config`.
A stranger's file is data to be judged: torch reads it with `weights_only`, and `build.check` reads its config.
"""

import difflib
import pickle
import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from torch import Tensor, nn

from genlab.core.errors import MissingError, UserError
from genlab.core.spec import Spec, spec_from_config
from genlab.models.contract import Model
from genlab.runner.build import build, check
from genlab.runner.fits import printable, shown

ZIP = b"PK\x03\x04"
PARTS_OF_MODELS = ("genlab.core", "genlab.networks", "genlab.models")
DEPTH = 3


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Arguments:
        path: the file.
        config: the resolved config of the run, spec included.
        state: the weights of the model.
        ema: their exponential moving average; empty where the run kept none.
        step: optimizer steps taken.
        raw: the whole file.
    """

    path: Path
    config: dict[str, Any]
    state: dict[str, Tensor]
    ema: dict[str, Tensor]
    step: int
    raw: dict[str, Any]

    def weights(self, which: Literal["ema", "raw"] = "ema") -> dict[str, Tensor]:
        """The weights to use; the raw ones where no average was kept, and for what is not averaged."""
        return {**self.state, **self.ema} if which == "ema" else self.state


def read(path: Path, map_location: Any = "cpu", mmap: bool = False) -> dict[str, Any]:
    """The dictionary that a checkpoint file holds; nothing in it is run.

    Raises:
        UserError: the file is missing, cut short, foreign, or holds more than tensors and primitives.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(len(ZIP))
        whole = zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        whole = False
    except FileNotFoundError:
        raise MissingError(f"{path}: there is no such file") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if not head:
        raise UserError(f"{path} is empty")
    if not ZIP.startswith(head):
        raise UserError(f"{path} is not a checkpoint of genlab; nothing in it was run")
    if not whole:
        raise UserError(f"{path} is cut short: copy it again, or use an earlier checkpoint")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} is refused and nothing in it was run: {_demand(error)}") from error
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise UserError(f"{path} is damaged, or not a checkpoint of genlab") from error
    if not isinstance(loaded, dict):
        raise UserError(f"{path} is not a checkpoint of genlab: it holds a {type(loaded).__name__}")
    return loaded


def _demand(error: pickle.UnpicklingError) -> str:
    """What a pickle asked for that is neither a tensor nor a primitive."""
    asked = re.search(r"GLOBAL ([\w.]+)|(?:class|function|global):? `?([\w.]+\.[\w.]+)", str(error))
    name = next((group for group in asked.groups() if group), None) if asked else None
    return f"it asks for {name}, where a checkpoint holds tensors and numbers" if name else "its pickle is not valid"


def load_checkpoint(path: str | Path) -> Checkpoint:
    """The checkpoint in a file, or in a run folder.

    Raises:
        UserError: see `resolve` and `read`; or its config names what a config may not.
    """
    path = resolve(path)
    raw = read(path, mmap=True)
    if "genlab_config" not in raw:
        keys = ", ".join(shown(key) for key in list(raw)[:4])
        raise UserError(
            f"{path} is a checkpoint of another program: it holds {keys or 'nothing'}, and no config of genlab"
        )
    state = raw.get("state_dict")
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) and isinstance(k, str) for k, v in state.items()):
        raise UserError(f"{path} is damaged: it holds no weights")
    step = raw.get("global_step")
    if type(step) is not int:
        raise UserError(f"{path} is damaged: it does not say its step")
    config = _config(raw["genlab_config"], path)
    return Checkpoint(path, config, _under(state, "model."), _under(state, "ema."), step, raw)


def _config(text: Any, path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(text) if isinstance(text, str) else None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is refused: its config is not plain YAML") from error
    if not isinstance(config, dict):
        raise UserError(f"{path} is damaged: its config is not a dictionary")
    try:
        check(config)
    except UserError as error:
        raise UserError(f"{path} is refused and nothing in it was run: its config has {error}") from error
    return config


def _under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def load_model(
    path: str | Path, weights: Literal["ema", "raw"] = "ema", device: str | torch.device = "cpu"
) -> tuple[Model, Checkpoint]:
    """A trained model, ready to use and not to be trained, and the checkpoint that it came from.

    Arguments:
        path: a checkpoint file or a run folder.
        weights: the moving average, where the run kept one, or what the optimizer left.
    """
    checkpoint = load_checkpoint(path)
    model = model_of(checkpoint.config, str(checkpoint.path))
    load_weights(model, checkpoint.weights(weights), checkpoint.path)
    return model.to(device).eval().requires_grad_(False), checkpoint


def model_of(config: dict[str, Any], source: str = "config") -> Model:
    """The untrained model that a run's config describes, built from the spec that stands in it."""
    for key in ("model", "spec"):
        if not isinstance(config.get(key), dict):
            raise UserError(f"{source} holds no {key}")
    check(config["model"], "model", packages=PARTS_OF_MODELS)
    model = build(config["model"], "model", extra={"spec": _spec(config["spec"], source)})
    if not isinstance(model, Model):
        raise UserError(f"model._target_: {type(model).__name__} is not a genlab.models.contract.Model")
    return model


def _spec(config: dict[str, Any], source: str) -> Spec:
    try:
        return spec_from_config(config)
    except (TypeError, ValueError) as error:
        raise UserError(f"{source} holds no valid spec: {error}") from error


def load_weights(model: nn.Module, state: dict[str, Tensor], source: str | Path) -> None:
    """Copy the weights into the model, every one of them or none.

    Raises:
        UserError: a name or a shape differs; the first one is named.
    """
    own = model.state_dict()
    for name in [*own, *state]:
        here, there = own.get(name), state.get(name)
        if here is None or there is None or here.shape != there.shape:
            raise UserError(
                f"{source} was trained with another architecture: {printable(name)} is {_shape(there)} "
                f"in the checkpoint and {_shape(here)} in the model"
            )
    model.load_state_dict(state)


def _shape(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else str(tuple(tensor.shape))


def resolve(ckpt: str | Path | None, outputs: str | Path = "outputs") -> Path:
    """The checkpoint file that is meant.

    Arguments:
        ckpt: a file, a run folder (its last checkpoint, else that of the highest step, else its best), or None for the
            newest run under `outputs`.

    Raises:
        MissingError: there is none; the message names what is near.
    """
    if ckpt is None:
        newest = max(runs(outputs), key=lambda run: _in_run(run).stat().st_mtime_ns, default=None)
        if newest is None:
            raise MissingError(f"no run with a checkpoint under {outputs}: train one, or name one with ckpt=RUN")
        return _in_run(newest)
    if not str(ckpt):
        raise UserError("ckpt is empty: name a checkpoint file or a run folder")
    path = Path(ckpt).expanduser()
    try:
        if path.is_file():
            return path
        if path.is_dir():
            return _in_run(path)
        near = _near(path, Path(outputs))
    except OSError as error:
        raise UserError(f"{ckpt} cannot be read: {error.strerror}") from error
    raise MissingError(f"{ckpt}: there is no such file or folder{near}")


def run_of(checkpoint: Path) -> Path:
    """The run folder of a checkpoint file; its own folder where it lies alone."""
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent


def runs(outputs: str | Path = "outputs") -> list[Path]:
    """Run folders that hold a checkpoint, a sweep's numbered ones included."""
    found = [path for depth in range(1, DEPTH + 1) for path in Path(outputs).glob("*/" * depth + "checkpoints/*.ckpt")]
    return sorted({path.parent.parent for path in found})


def _in_run(run: Path) -> Path:
    folder = run / "checkpoints" if (run / "checkpoints").is_dir() else run
    numbered = sorted(folder.glob("step_*.ckpt"), key=lambda path: (len(path.name), path.name))
    for path in (folder / "last.ckpt", *reversed(numbered), folder / "best.ckpt"):
        if path.is_file():
            return path
    inner = [str(path) for path in runs(run)]
    advice = f"; name one of its runs: {', '.join(inner[:5])}{', ...' * (len(inner) > 5)}" if inner else ""
    raise MissingError(f"{run} is a folder without checkpoints{advice}")


def _near(path: Path, outputs: Path) -> str:
    """Advice for a path that does not exist: a neighbour of its first wrong part, or a run of such a name."""
    parent = next(p for p in (*path.parents, Path()) if p.is_dir())
    missing = parent / path.relative_to(parent).parts[0]
    beside = {p.name: p for p in parent.iterdir() if not p.name.startswith(".")}
    known = {str(p): p for p in runs(outputs)}
    tries = [(missing.name, beside), (str(path), known)]
    for name, places in tries if missing == path else reversed(tries):
        near = difflib.get_close_matches(name, places, n=1)
        if near:
            return f"; did you mean {places[near[0]]}?"
    return ""
