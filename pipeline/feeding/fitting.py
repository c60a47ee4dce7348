"""Tables that fit a terminal: no word, name or number is cut in two if that can be avoided.

    wide enough      a table
    narrower         cells break between words; the widest columns give way first
    narrower still   one paragraph a row: its first cell, then a line for each of the others
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

__all__ = ["FittedTable", "share_width"]


def share_width(natural: Sequence[int], least: Sequence[int], room: int) -> list[int] | None:
    """The widths of a table's columns.

    Args:
        natural: of each column, the characters that it needs to be on one line.
        least: of each, the length of its longest word.
        room: characters for all of them.

    Returns:
        The widths, of which none is below its least; None if there is no room for all words.
    """
    widths = list(natural)
    while (excess := sum(widths) - room) > 0:
        able = [column for column, width in enumerate(widths) if width > least[column]]
        if not able:
            return None
        widest = max(able, key=lambda column: widths[column])
        others = [widths[column] for column in able if widths[column] < widths[widest]]
        floor = max([least[widest], *others])
        widths[widest] = max(floor, widths[widest] - excess) if floor < widths[widest] else widths[widest] - 1
    return widths


class FittedTable(Table):
    """A table of rich's that is shown as one of the forms above; columns with `no_wrap` are never broken."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.update(width=10_000)
        cells = [[column.header, *column.cells] for column in self.columns]
        measured = [[Measurement.get(console, wide, cell) for cell in column] for column in cells]
        natural = [max(cell.maximum for cell in column) for column in measured]
        least = [
            most if column.no_wrap else max(cell.minimum for cell in of_column)
            for most, column, of_column in zip(natural, self.columns, measured)
        ]
        borders = Measurement.get(console, wide, self).maximum - sum(natural)
        widths = share_width(natural, least, options.max_width - borders)
        if widths is None:
            yield from self._paragraphs()
            return
        for column, width in zip(self.columns, widths):
            column.width = width
        yield from super().__rich_console__(console, options)

    def _paragraphs(self) -> RenderResult:
        if self.title:
            yield Text(str(self.title), style=self.title_style or "")
        yield Text()
        heads = [column.header for column in self.columns[1:]]
        for first, *others in zip(*(column.cells for column in self.columns)):
            yield first
            lines = Table.grid(padding=(0, 2, 0, 0))
            lines.add_column(no_wrap=True)
            lines.add_column(overflow="fold")
            for head, cell in zip(heads, others):
                if cell:
                    lines.add_row(head, cell)
            yield Padding(lines, (0, 0, 0, 2))
        yield Text()
