"""Table: cells as a table of rich if the terminal is wide enough, otherwise as plain lines. Measures nothing."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench.measure import Cell, Spread, spread

__all__ = ["DISTURBED", "rows", "show"]

#: Marks a value whose repeats ran beside foreign load, see `bench.measure.Spread.disturbed`.
DISTURBED = "!"

_COLUMNS = ("subject", "W", "p50 us", "p99 us", "requests/s", "min-max", "x", "CPU us", "x CPU")


def rows(cells: Sequence[Cell], reference: str) -> list[tuple[str, ...]]:
    """One row a cell, as text, in the order of the table's columns.

    min-max and x belong to p50 if W is 1, otherwise to requests/s. x and x CPU are the value divided by that of
    `reference` at the same window, or at W = 1 if it was measured at no other; empty if neither was measured.
    """
    base = {cell.window: cell for cell in cells if cell.subject == reference}
    only = base.get(1) if len(base) == 1 else None
    groups = _groups(cells)
    return [_row(cell, base.get(cell.window, only), groups) for cell in cells]


def _groups(cells: Sequence[Cell]) -> list[str]:
    """The groups of processes in these cells, in the order in which they come."""
    return list({group: None for cell in cells for repeat in cell.repeats for group in repeat.groups_us})


def _row(cell: Cell, base: Cell | None, groups: Sequence[str]) -> tuple[str, ...]:
    main = "p50_us" if cell.window == 1 else "rate"
    value, cpu = _spread(cell, main), _spread(cell, "cpu_us")
    return (
        cell.subject,
        str(cell.window),
        _value(_spread(cell, "p50_us")),
        _value(_spread(cell, "p99_us")),
        _value(_spread(cell, "rate")),
        f"{_number(value.low)}-{_number(value.high)}" if value else "",
        _ratio(value, _spread(base, main)),
        _value(cpu),
        _ratio(cpu, _spread(base, "cpu_us")),
        *[_value(_spread_of_group(cell, group)) for group in groups],
        f"{max(repeat.foreign_cores for repeat in cell.repeats):.2f}",
    )


def _spread(cell: Cell | None, field: str) -> Spread | None:
    return spread(cell.repeats, lambda repeat: getattr(repeat, field)) if cell else None


def _spread_of_group(cell: Cell, group: str) -> Spread | None:
    return spread(cell.repeats, lambda repeat: repeat.groups_us.get(group))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _value(found: Spread | None) -> str:
    return "" if found is None else _number(found.median) + (DISTURBED if found.disturbed else "")


def _ratio(found: Spread | None, base: Spread | None) -> str:
    if found is None or base is None or not base.median:
        return ""
    ratio = found.median / base.median
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.4f}"


def show(console: Console, cells: Sequence[Cell], reference: str, title: str) -> None:
    """Print `cells` under `title`."""
    body = rows(cells, reference)
    # Between them, the CPU us of each group of processes.
    columns = (*_COLUMNS, *_groups(cells), "foreign")
    widths = [max(map(len, column)) for column in zip(columns, *body)]
    if not console.is_terminal or console.width < sum(widths) + 3 * len(widths):
        for text in (title, *("  ".join(_align(line, widths)).rstrip() for line in (columns, *body)), ""):
            console.out(text, highlight=False)
        return
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in columns:
        table.add_column(name, justify="left" if name == "subject" else "right", no_wrap=True)
    for row, after in zip(body, (*body[1:], body[-1])):
        table.add_row(*row, end_section=row[0] != after[0])
    console.print(table)


def _align(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [text.ljust(width) if at == 0 else text.rjust(width) for at, (text, width) in enumerate(zip(line, widths))]
