"""What a type cannot say of the options that the program itself reads, checked before anything is made or written."""

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_type_hints

import torch
from torch import nn

from genlab.core.errors import UserError
from genlab.core.rng import MASK
from genlab.models.contract import Model
from genlab.runner.build import build, component
from genlab.runner.configs import nearest
from genlab.runner.fits import describe, fits, shown
from genlab.runner.schema import TrainerConfig

AT_LEAST_ONE = ("max_steps", "batch_size", "accumulate", "preview_n", "preview_steps", "validate_data")
AT_LEAST_ZERO = ("workers", "log_every", "checkpoint_every", "keep_every", "validate_every", "preview_every")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
NEEDED = ("lr", "warmup_steps", "gradient_clip", "ema_decay", "optimizer")
OPTIM = (*NEEDED, "players")

# The method of a model that is given each of these parts.
ASKED = {"sampler": "sample", "estimator": "nll"}


def check_training(config: dict[str, Any], done: int = 0) -> None:
    """Raise a UserError where an option of training is out of its range.

    Arguments:
        config: of a run, resolved.
        done: steps that the run has taken already.
    """
    check_seed(config["seed"])
    check_trainer(config["trainer"], done)
    check_optim(config["optim"])
    for part in ASKED:
        check_asked(config["model"], part, config.get(part))


def check_seed(seed: int) -> None:
    """A seed that random numbers can be keyed by."""
    if not 0 <= seed <= MASK:
        raise UserError(f"seed={seed}: must be at least 0 and below 2^32")


def check_trainer(trainer: dict[str, Any], done: int) -> None:
    """The ranges of counts, and what can be computed with."""
    known = [field.name for field in fields(TrainerConfig)]
    for name in trainer:
        if name not in known:
            raise UserError(f"trainer.{name}: there is no such option{nearest(name, known)}")
    for names, least in ((AT_LEAST_ONE, 1), (AT_LEAST_ZERO, 0)):
        for name in names:
            if trainer[name] < least:
                raise UserError(f"trainer.{name}={trainer[name]}: must be at least {least}")
    if trainer["max_steps"] <= done:
        raise UserError(f"the run has {done} steps already; set trainer.max_steps above that to go on")
    precision = trainer["precision"]
    if precision not in PRECISIONS:
        raise UserError(f"trainer.precision={precision}: choose {', '.join(PRECISIONS)}")
    if precision == "16-mixed" and (trainer["accelerator"] == "cpu" or not torch.cuda.is_available()):
        raise UserError("trainer.precision=16-mixed: is for GPUs; choose 32-true or bf16-mixed on the CPU")


def check_optim(optim: dict[str, Any]) -> None:
    """The ranges of warm-up, clipping and averaging, and whether the optimizer takes its options."""
    for name in NEEDED:
        if name not in optim:
            raise UserError(f"optim.{name}: must be given")
    _check_number("optim.lr", optim["lr"], above=0)
    _check_number("optim.warmup_steps", optim["warmup_steps"], least=0, whole=True)
    if optim["gradient_clip"] is not None:
        _check_number("optim.gradient_clip", optim["gradient_clip"], above=0, otherwise=", or null for none")
    _check_number("optim.ema_decay", optim["ema_decay"], least=0, below=1)
    players = optim.get("players") or {}
    if not isinstance(players, dict) or not all(isinstance(options, dict) for options in players.values()):
        raise UserError("optim.players: must name options by player, as optim.players.critic.lr=4e-4")
    for name in ("", *players):
        try:
            optimizer_of(optim, name)([nn.Parameter(torch.zeros(1))])
        except (ValueError, TypeError) as error:
            raise UserError(f"optim.{f'players.{name}' if name else 'optimizer'}: {error}") from error


def optimizer_of(optim: dict[str, Any], player: str) -> Callable[[list[nn.Parameter]], torch.optim.Optimizer]:
    """What makes the player's optimizer, with the options that are its own."""
    own = (optim.get("players") or {}).get(player, {})
    return build({**optim["optimizer"], **own}, path=f"optim.players.{player}" if own else "optim.optimizer")


def _check_number(
    name: str,
    value: Any,
    least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    whole: bool = False,
    otherwise: str = "",
) -> None:
    right = type(value) in ((int,) if whole else (int, float)) and value >= least and above < value < below
    if not right:
        bounds = [f"at least {least}"] * (least > -math.inf) + [f"above {above}"] * (above > -math.inf)
        bounds += [f"below {below}"] * (below < math.inf)
        kind = "a whole number" if whole else "a number"
        raise UserError(f"{name}={shown(value)}: must be {kind} {' and '.join(bounds)}{otherwise}")


def check_asked(model: dict[str, Any], part: str, config: Any) -> None:
    """Whether the model is one that takes such a sampler, or estimator, as its method's annotation says."""
    target, method = component(model.get("_target_"), "model"), ASKED[part]
    has_none = getattr(target, method) is getattr(Model, method)
    hint = type(None) if has_none else get_type_hints(getattr(target, method)).get(part, Any)
    if fits(config, hint, component):
        return
    takes = f"has no choice of {part}" if hint is type(None) else f"takes {describe(hint)}, not {shown(config)}"
    raise UserError(f"{part}: {target.__name__} {takes}")
