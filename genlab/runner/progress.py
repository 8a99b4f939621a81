"""How far the program is: a bar with images/s and the time left on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

# Where there is no terminal, a line is printed at most this often.
SECONDS_BETWEEN_LINES = 15.0


class Meter:
    """Counts what is done out of a total, and how many images a second that is.

    Arguments:
        description: what is being done.
        total: of units, as steps or images.
        unit: what is counted.
        done: units done before.
        shown: whether anything is printed.
    """

    def __init__(self, description: str, total: int, unit: str = "images", done: int = 0, shown: bool = True) -> None:
        self.description, self.total, self.unit, self.done = description, total, unit, done
        self.images, self.note = 0, ""
        self.begun = self.last_line = time.monotonic()
        console = Console(file=sys.stderr)
        self.bar = None
        self.shown = shown
        if shown and console.is_terminal:
            what, note = TextColumn("{task.description}"), TextColumn("{task.fields[note]}")
            columns = (what, BarColumn(), MofNCompleteColumn(), note, TimeElapsedColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, console=console)
            self.task = self.bar.add_task(description, total=total, completed=done, note="")
            self.bar.start()

    @property
    def rate(self) -> float:
        """Images a second since the beginning."""
        return self.images / max(time.monotonic() - self.begun, 1e-9)

    def advance(self, units: int, images: int, note: str = "") -> None:
        """So many more units and images are done."""
        self.done += units
        self.images += images
        self.note = f"{self.rate:.4g} images/s {note}".strip()
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done, note=self.note)
        elif self.shown and time.monotonic() - self.last_line > SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            elapsed = self.last_line - self.begun
            left = elapsed / max(self.done, 1) * (self.total - self.done)
            print(
                f"{self.description}: {self.done}/{self.total} {self.unit}, {self.note}, about {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )

    def line(self, text: str) -> None:
        """A line that stays, above the bar."""
        if self.bar is not None:
            self.bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


@contextmanager
def meter(description: str, total: int, unit: str = "images", done: int = 0, shown: bool = True) -> Iterator[Meter]:
    """A `Meter` that is taken off the screen at the end of the block."""
    counted = Meter(description, total, unit, done, shown)
    try:
        yield counted
    finally:
        counted.close()
