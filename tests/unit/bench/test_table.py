"""What the benchmark's table says about its cells."""

from __future__ import annotations

import io

from rich.console import Console

from bench.measure import Cell, Repeat
from bench.table import rows, show


def latency(subject: str, *p50s: float, foreign: float = 0.0) -> Cell:
    return Cell(subject, 4096, 1, [Repeat(10, p50 / 2, foreign, 1e6 / p50, p50, 2 * p50) for p50 in p50s])


def flow(subject: str, window: int, *rates: float) -> Cell:
    return Cell(subject, 4096, window, [Repeat(10, 1e6 / rate, 0.0, rate) for rate in rates])


def test_a_latency_row_shows_percentiles_and_its_ratio_to_the_reference() -> None:
    row = rows([latency("floor", 50.0), latency("relay", 100.0, 200.0, 300.0)], "floor")[1]
    assert row == ("relay", "1", "200", "400", "", "100-300", "4.00", "100", "4.00", "0.00")


def test_a_throughput_row_is_compared_at_its_own_window() -> None:
    cells = [flow("floor", 16, 1000.0), flow("floor", 64, 4000.0), flow("relay", 64, 2000.0)]
    assert rows(cells, "floor")[2] == ("relay", "64", "", "", "2,000", "2,000-2,000", "0.50", "500", "2.00", "0.00")


def test_there_is_no_ratio_where_the_reference_was_not_measured() -> None:
    (row,) = rows([flow("relay", 64, 2000.0)], "floor")
    assert (row[6], row[8]) == ("", "")


def test_a_disturbed_value_is_marked() -> None:
    (row,) = rows([latency("floor", 50.0, foreign=0.9)], "floor")
    assert (row[2], row[3], row[-1]) == ("50.0!", "100!", "0.90")


def shown(width: int, terminal: bool) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, color_system=None)
    show(console, [latency("floor", 50.0), flow("floor", 16, 1000.0), latency("relay", 100.0)], "floor", "4,096 B")
    return file.getvalue()


def test_no_width_and_no_file_cuts_a_column() -> None:
    for text in (shown(200, terminal=True), shown(60, terminal=True), shown(60, terminal=False)):
        for word in ("4,096 B", "subject", "requests/s", "1,000-1,000", "foreign", "relay"):
            assert word in text
    assert shown(60, terminal=True) == shown(60, terminal=False)
