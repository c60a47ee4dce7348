"""Cells as a table: rich on a terminal, plain lines elsewhere. Measures nothing."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bench.measure import Cell, Spread, spread

__all__ = ["DISTURBED", "rows", "show"]

#: Follows a value whose repeats ran beside foreign load, see `bench.measure.Spread.disturbed`.
DISTURBED = "!"

_COLUMNS = ("subject", "W", "p50 us", "min-max", "x", "p99 us", "requests/s", "min-max", "x", "CPU us", "x", "foreign")


def rows(cells: Sequence[Cell], reference: str) -> list[tuple[str, ...]]:
    """One row a cell, as text. The columns x are the value divided by that of `reference` at the same window."""
    base = {cell.window: cell for cell in cells if cell.subject == reference}
    return [_row(cell, base.get(cell.window)) for cell in cells]


def _row(cell: Cell, base: Cell | None) -> tuple[str, ...]:
    def of(value: str, other: Cell | None = cell) -> Spread | None:
        return spread(other.repeats, lambda repeat: getattr(repeat, value)) if other else None

    p50, rate, cpu = of("p50_us"), of("rate"), of("cpu_us")
    if cell.window == 1:
        rate = None  # with one in flight it is the latency's reciprocal and says nothing new
    foreign = max(repeat.foreign_cores for repeat in cell.repeats)
    return (
        cell.subject,
        str(cell.window),
        _value(p50),
        _range(p50),
        _ratio(p50, of("p50_us", base)),
        _value(of("p99_us")),
        _value(rate),
        _range(rate),
        _ratio(rate, of("rate", base)),
        _value(cpu),
        _ratio(cpu, of("cpu_us", base)),
        f"{foreign:.2f}",
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _value(found: Spread | None) -> str:
    return "" if found is None else _number(found.median) + (DISTURBED if found.disturbed else "")


def _range(found: Spread | None) -> str:
    return "" if found is None else f"{_number(found.low)}-{_number(found.high)}"


def _ratio(found: Spread | None, base: Spread | None) -> str:
    return "" if found is None or base is None else f"{found.median / base.median:.2f}"


def show(console: Console, cells: Sequence[Cell], reference: str, title: str) -> None:
    """Print `cells` under `title`."""
    body = rows(cells, reference)
    if not console.is_terminal:
        # One line a row: for logs and files, where a drawn table would be cut to 80 columns.
        widths = [max(map(len, column)) for column in zip(_COLUMNS, *body)]
        for text in (title, *("  ".join(_align(line, widths)).rstrip() for line in (_COLUMNS, *body)), ""):
            console.out(text, highlight=False)
        return
    table = Table(title=title, title_justify="left")
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name == "subject" else "right", no_wrap=True)
    for previous, row in zip((body[0], *body), body):
        if row[0] != previous[0]:
            table.add_section()
        table.add_row(*row)
    console.print(table)


def _align(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [text.ljust(width) if at == 0 else text.rjust(width) for at, (text, width) in enumerate(zip(line, widths))]
