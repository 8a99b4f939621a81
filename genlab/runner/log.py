"""`metrics.jsonl`: every logged number of a run as one line of JSON a step, for programs to read."""

import json
import math
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from genlab.core.files import replacing


class JsonLines(Logger):
    """Appends {"step": ..., name: value, ...} to a file.

    Arguments:
        path: of the file.
        step: what a run that is continued wrote after this step is taken out first, since it will be written again.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        super().__init__()
        self.path = path
        # Until the first row of this process, when nothing can be found wrong any more.
        self.stale_after: int | None = step

    def _keep_until(self, step: int) -> None:
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except (ValueError, KeyError):
                continue
        with replacing(self.path) as file:
            file.write("".join(f"{line}\n" for line in kept).encode())

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The config stands in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if self.stale_after is not None:
            self._keep_until(self.stale_after)
            self.stale_after = None
        row = {"step": step, **{k: v if math.isfinite(v) else None for k, v in metrics.items()}}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
