"""Numbers as one table: a row a quantity, in all of its units, with how it was computed.

What all rows share is said once, below.
"""

from rich.console import Console
from rich.table import Table

from genlab.metrics.record import How, Number

UNITS = ("nats", "bits-per-dim")
WIDTH = 120


def quantity(number: Number) -> str:
    """The name without the unit that it may end with."""
    stem, _, last = number.name.rpartition("/")
    return stem if stem and last in UNITS else number.name


def shared(numbers: list[Number]) -> How:
    """The circumstances that are the same for every number."""
    first = numbers[0].how if len(numbers) > 1 else {}
    return {key: value for key, value in first.items() if all(number.how.get(key) == value for number in numbers)}


def said(how: How) -> str:
    return ", ".join(f"{key} {value}" for key, value in how.items())


def show(numbers: list[Number], title: str) -> None:
    """Print the table on stdout, as wide as the terminal."""
    table = Table(title=title)
    for column in ("metric", "value", "how it was computed"):
        table.add_column(column, overflow="fold")
    common = shared(numbers)
    above = ""
    for name in dict.fromkeys(quantity(number) for number in numbers):
        same = [number for number in numbers if quantity(number) == name]
        how = said({key: value for key, value in same[0].how.items() if key not in common})
        values = "\n".join(number.as_row()[1] for number in same)
        table.add_row(name, values, "as above" if how and how == above else how)
        above = how
    if common:
        table.caption = f"all: {said(common)}"
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(table)
