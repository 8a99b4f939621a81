"""How Lightning writes and reads checkpoints: whole or not at all, and nothing but tensors and primitives."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from genlab.core.files import replacing
from genlab.runner.checkpoint import read


class AtomicCheckpointIO(CheckpointIO):
    """A checkpoint takes the place of the one before in one step; a full disk leaves the old one as it was."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        with replacing(path, durable=True) as file:
            torch.save(checkpoint, file)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Nothing but tensors and primitives is read, whatever `weights_only` says."""
        return read(Path(path), map_location="cpu" if map_location is None else map_location)

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)
