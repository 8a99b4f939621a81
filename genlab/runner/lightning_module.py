"""One training loop for every family: players take turns, each with its optimizer, on an endless stream of batches.

A micro-batch belongs to one turn of one player; `accumulate` micro-batches make its optimizer step. Which turn a
micro-batch belongs to follows from its number alone, so a run can stop and go on anywhere.

Several processes do what one would with a batch as many times as large: each has its part of the batch, and of the
noise, and gradients are averaged over all of them before a step is taken. Only that of a turn's last micro-batch is
sent; it carries those before it.
"""

import copy
import math
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn

from genlab.core.collectives import all_min, all_sum, world
from genlab.core.rng import MASK, Rng
from genlab.core.spec import Batch
from genlab.models.contract import Model, Player
from genlab.runner.sharding import full, own


def turns_of(players: dict[str, Player]) -> list[str]:
    """Whose turn it is, over one cycle after which the order repeats; nobody's where there are no players."""
    rounds = math.lcm(*(player.every for player in players.values()))
    return [
        name
        for number in range(rounds)
        for name, player in players.items()
        if number % player.every == 0
        for _ in range(player.repeats)
    ]


class Average:
    """The exponential moving average of a model's weights; what is not a weight is copied.

    The first steps count less than `decay` would have it, so that the random start is soon forgotten: after n steps
    the decay is min(decay, (1 + n) / (10 + n)).
    """

    def __init__(self, model: Model, average: Model, decay: float) -> None:
        self.decay = decay
        self.source, self.target = ([own(p) for p in side.parameters()] for side in (model, average))
        self.copied = list(zip(average.buffers(), model.buffers(), strict=True))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """average <- decay average + (1 - decay) weights, after step number `step`."""
        torch._foreach_lerp_(self.target, self.source, 1 - min(self.decay, (1 + step) / (10 + step)))
        for target, source in self.copied:
            target.copy_(source)


class Training(LightningModule):
    """A model in training.

    Arguments:
        model: what is trained.
        optimizers: for each player, a function from parameters to an optimizer.
        seed: of all noise.
        accumulate: micro-batches of an optimizer step.
        warmup_steps: over which the learning rates rise linearly from 0.
        gradient_clip: the largest norm of a player's gradient; None does not clip.
        ema_decay: of the moving average of the weights; 0 keeps it equal to the weights.
        config: the run's config as YAML text, which its checkpoints carry.
        version: of the program.
    """

    def __init__(
        self,
        model: Model,
        optimizers: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]],
        seed: int,
        accumulate: int,
        warmup_steps: int,
        gradient_clip: float | None,
        ema_decay: float,
        config: str,
        version: str,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.ema = copy.deepcopy(model).eval().requires_grad_(False)
        self.ema_decay = ema_decay
        self.optimizers_of, self.turns = optimizers, turns_of(model.players())
        self.seed, self.accumulate, self.warmup_steps = seed, accumulate, warmup_steps
        self.gradient_clip, self.config_text, self.version = gradient_clip, config, version
        self.micro_batches = 0
        self.first_bad: Tensor | None = None
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    @property
    def boundary(self) -> bool:
        """Whether the last micro-batch ended an optimizer step, so that nothing half-done would be lost."""
        return self.micro_batches % self.accumulate == 0

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        players = self.model.players()
        optimizers = [self.optimizers_of[name](player.parameters) for name, player in players.items()]
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])
        return optimizers

    def on_train_start(self) -> None:
        # Only now, since moving a module to its device gives it new buffers.
        self.average = Average(self.model, self.ema, self.ema_decay)
        self.players = self.model.players()
        # In a player's turn they are frozen; where there is one player, what is not its own has no gradients anyway.
        self.others = {name: self._of_others(player) for name, player in self.players.items()}
        found = self.optimizers()
        every = found if isinstance(found, list) else [found]
        self.named_optimizers = dict(zip(self.players, every, strict=True))
        for optimizer in every:
            for group in optimizer.param_groups:
                # A checkpoint brings the options that it was saved with; those of this run's config hold.
                group.update(optimizer.defaults, initial_lr=optimizer.defaults["lr"])

    def training_step(self, batch: Batch, batch_index: int) -> None:
        if not self.turns:
            return
        rank, processes = world()
        size = len(batch["x"])
        place = torch.arange(rank * size, (rank + 1) * size, device=self.device)
        name = self.turns[(self.micro_batches // self.accumulate) % len(self.turns)]
        # Dropout draws from the global generator, whose state is thus a function of the micro-batch.
        _seed(zlib.crc32(f"{self.seed} {rank} {self.micro_batches}".encode()), self.device)
        player = self.players[name]
        others = self.others[name]
        for parameter in others:
            parameter.requires_grad_(False)
        rng = Rng(self.seed & MASK, place, step=self.micro_batches).stage("train")
        losses = self.model.loss(batch, rng, name, self.global_step)
        last = (self.micro_batches + 1) % self.accumulate == 0
        if losses["loss"].requires_grad:
            with nullcontext() if last or processes == 1 else self.trainer.strategy.block_backward_sync():  # type: ignore[attr-defined]
                self.manual_backward(losses["loss"] / self.accumulate)
            self._record(name, losses)
        self.micro_batches += 1
        if self.boundary:
            self._step(name, player)
        for parameter in others:
            parameter.requires_grad_(True)

    def _of_others(self, player: Player) -> list[nn.Parameter]:
        own = {id(p) for p in player.parameters}
        return [p for p in self.model.parameters() if p.requires_grad and id(p) not in own]

    def _step(self, name: str, player: Player) -> None:
        if all(parameter.grad is None for parameter in player.parameters):
            return
        optimizer: Any = self.named_optimizers[name]
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is not None:
            scaler.unscale_(optimizer.optimizer)
        # Of a game it is told also where nothing is clipped: a player whose gradient is gone has stopped to learn.
        if self.gradient_clip is not None or len(self.named_optimizers) > 1:
            norm = nn.utils.get_total_norm([p.grad for p in player.parameters if p.grad is not None])
            if self.gradient_clip is not None:
                nn.utils.clip_grads_with_norm_(player.parameters, self.gradient_clip, norm)
            self._note(name, "gradient_norm", full(norm))
        warm = 1.0 if self.warmup_steps == 0 else min(1.0, (self.global_step + 1) / self.warmup_steps)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * warm
        if name != self.model.counts:
            # Lightning counts a global step for every optimizer, by what it sets here before each batch; the steps are
            # those of one player.
            optimizer._on_before_step = optimizer._on_after_step = _nothing
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.model.after_step(name, self.global_step)
        if name == self.model.counts:
            self.average.update(self.global_step)

    def _record(self, name: str, losses: dict[str, Tensor]) -> None:
        for key, value in losses.items():
            self._note(name, key, value)
        # Kept on the device, and read only when something is logged or saved, so that no step waits for it.
        bad = torch.where(losses["loss"].detach().isfinite(), math.inf, float(self.global_step + 1))
        self.first_bad = bad if self.first_bad is None else torch.minimum(self.first_bad, bad)

    def _note(self, player: str, key: str, value: Tensor) -> None:
        name = f"{player}/{key}" if len(set(self.turns)) > 1 else key
        value = value.detach().float()
        self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.counts[name] = self.counts.get(name, 0) + 1

    def drain(self) -> dict[str, float]:
        """The means over all processes of what was noted since the last call. Waits for the device."""
        totals = all_sum(torch.stack(list(self.sums.values()))).tolist() if self.sums else []
        means = {name: total / self.counts[name] / world()[1] for name, total in zip(self.sums, totals, strict=True)}
        self.sums, self.counts = {}, {}
        return means

    def bad_step(self) -> int | None:
        """The first step whose loss was not a finite number, in any process, if there was one. Waits for the device."""
        if self.first_bad is None:
            return None
        first = all_min(self.first_bad)
        return None if first.isinf() else int(first)

    def bad_weights(self) -> bool:
        """Whether a weight is not a finite number, in any process. Waits for the device."""
        parts = [own(weight) for weight in self.model.parameters()]
        if not parts:
            return False
        finite = torch.stack([part.isfinite().all() for part in parts]).all().to(torch.int32)
        return int(all_min(finite)) == 0

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["genlab_config"] = self.config_text
        checkpoint["genlab_version"] = self.version
        checkpoint["genlab_progress"] = {"micro_batches": self.micro_batches}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.micro_batches = int(checkpoint["genlab_progress"]["micro_batches"])


def _seed(seed: int, device: torch.device) -> None:
    """Seed the generators of the CPU and of the device.

    `torch.manual_seed` would queue a seeding, with a stack trace, for each kind of device that was never used, and take
    a millisecond or two for it.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def _nothing(*_: Any, **__: Any) -> None:
    """In the place of Lightning's count of a step."""
