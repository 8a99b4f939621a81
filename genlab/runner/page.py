"""Columns of text on a page of so many characters: what may be folded is, and what has no room goes below."""

import textwrap
from dataclasses import dataclass

GAP = "  "


@dataclass
class TextColumn:
    """One column.

    Arguments:
        title: of one line or more.
        cells: a row each, of one line or more.
        right: where the cells stand.
        least: the width down to which cells are folded, where the page asks for it; None leaves them whole.
        leads: says what the row is, and is repeated where the columns stand in several tables below one another.
    """

    title: str
    cells: list[str]
    right: bool = False
    least: int | None = None
    leads: bool = False

    @property
    def width(self) -> int:
        return max(len(line) for text in [self.title, *self.cells] for line in text.split("\n"))

    @property
    def narrowest(self) -> int:
        return self.width if self.least is None else min(self.width, self.least)

    def lines(self, text: str, width: int) -> list[str]:
        """The text in lines of exactly this width."""
        lines = text.split("\n")
        if max(map(len, lines)) > width:
            lines = [part for line in lines for part in textwrap.wrap(line, width) or [""]]
        return [line.rjust(width) if self.right else line.ljust(width) for line in lines]


def page(columns: list[TextColumn], width: int | None) -> list[str]:
    """The lines of a table, or of several, below one another, where one would be too wide.

    Arguments:
        width: of the page; None is without end.
    """
    blocks = [columns] if width is None else _blocks(columns, width)
    lines: list[str] = []
    for block in blocks:
        lines += [*([""] if lines else []), *_table(block, width)]
    return lines


def _total(widths: list[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _blocks(columns: list[TextColumn], width: int) -> list[list[TextColumn]]:
    """As few tables as fit, each with the leading columns."""
    leading = [column for column in columns if column.leads]
    blocks: list[list[TextColumn]] = []
    for column in columns:
        tried = [*(blocks[-1] if blocks else []), column]
        if not blocks or (_total([c.narrowest for c in tried]) > width and not column.leads):
            # A column that is too wide for any page has one to itself.
            tried = [*leading, column] if blocks else [column]
            blocks.append(tried)
        blocks[-1] = tried
    return blocks


def _table(columns: list[TextColumn], width: int | None) -> list[str]:
    widths = [column.width for column in columns]
    for i in reversed(range(len(columns))):
        excess = _total(widths) - (width or _total(widths))
        widths[i] = max(min(columns[i].narrowest, widths[i]), widths[i] - max(excess, 0))
    head = _row([column.title for column in columns], columns, widths, bottom=True)
    lines = [*head, "─" * _total(widths)]
    for cells in zip(*(column.cells for column in columns), strict=True):
        lines += _row(list(cells), columns, widths)
    return lines


def _row(cells: list[str], columns: list[TextColumn], widths: list[int], bottom: bool = False) -> list[str]:
    parts = [column.lines(cell, width) for column, cell, width in zip(columns, cells, widths, strict=True)]
    height = max(map(len, parts))
    filled = []
    for part, width in zip(parts, widths, strict=True):
        empty = [" " * width] * (height - len(part))
        filled.append([*empty, *part] if bottom else [*part, *empty])
    return [GAP.join(line).rstrip() for line in zip(*filled, strict=True)]
