"""The console and the tables of the commands that show any."""

from __future__ import annotations

from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table

from pipeline.feeding.fitting import FittedTable

__all__ = ["make_console", "make_table"]

#: Not a terminal's width: in a file or a pipe every row is one line, for grep and diff.
_PLAIN_WIDTH = 1000


def make_console(*, stderr: bool = False) -> Console:
    """The console of a command: a person's on a terminal, plain unwrapped lines elsewhere."""
    console = Console(stderr=stderr, highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console = Console(stderr=stderr, highlight=False, emoji=False, markup=False, width=_PLAIN_WIDTH)
    return console


def make_table(title: str, *columns: str, right: tuple[str, ...] = (), console: Console) -> Table:
    """An empty table in the house's look; the columns named in `right` hold numbers.

    On a terminal it has a rule under its head, and fits (see `pipeline.feeding.fitting`); elsewhere only spaces.
    """
    table = FittedTable(
        title=title,
        title_style="bold" if console.is_terminal else "",
        title_justify="left",
        box=box.SIMPLE_HEAD if console.is_terminal else None,
        header_style="bold" if console.is_terminal else "",
        pad_edge=False,
        # Two spaces between columns; the box brings one of them.
        padding=(0, 1, 0, 0) if console.is_terminal else (0, 2, 0, 0),
    )
    for number, column in enumerate(columns):
        # The first column names the row: a name in two pieces cannot be copied.
        justify: Literal["left", "right"] = "right" if column in right else "left"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=number == 0)
    return table
