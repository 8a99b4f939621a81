"""Numbers as one table: a row a quantity, in all of its units, with how it was computed.

What all rows share is said once, below.
"""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from genlab.metrics.record import How, Number

UNITS = ("nats", "bits-per-dim")
WIDTH = 120


def quantity(number: Number) -> str:
    """The name without the unit that it may end with."""
    stem, _, last = number.name.rpartition("/")
    return stem if stem and last in UNITS else number.name


def common(hows: Iterable[How]) -> How:
    """What all of them say."""
    first, *others = [*hows] or [{}]
    return {key: value for key, value in first.items() if all(how.get(key) == value for how in others)}


def said(how: How) -> str:
    return ", ".join(f"{key} {value}" for key, value in how.items())


def show(numbers: list[Number], title: str) -> None:
    """Print the table on stdout, as wide as the terminal."""
    table = Table(title=title)
    for column in ("metric", "value", "how it was computed"):
        table.add_column(column, overflow="fold")
    shared = common(number.how for number in numbers) if len(numbers) > 1 else {}
    above = ""
    for name in dict.fromkeys(quantity(number) for number in numbers):
        same = [number for number in numbers if quantity(number) == name]
        how = said({key: value for key, value in same[0].how.items() if key not in shared})
        values = "\n".join(number.as_row()[1] for number in same)
        table.add_row(name, values, "as above" if how and how == above else how)
        above = how
    if shared:
        table.caption = f"all: {said(shared)}"
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(table)
