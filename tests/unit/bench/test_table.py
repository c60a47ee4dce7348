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
    assert row == ("relay", "1", "200", "400", "5,000", "100-300", "4.00", "100", "4.00", "0.00")


def test_a_throughput_row_is_compared_at_its_own_window() -> None:
    cells = [flow("floor", 16, 1000.0), flow("floor", 64, 4000.0), flow("relay", 64, 2000.0)]
    assert rows(cells, "floor")[2] == ("relay", "64", "", "", "2,000", "2,000-2,000", "0.50", "500", "2.00", "0.00")


def test_a_reference_that_was_measured_with_one_caller_alone_is_compared_with_all_windows() -> None:
    cells = [latency("direct", 10.0), latency("threads", 1000.0), flow("threads", 4, 2000.0)]
    assert [row[6] for row in rows(cells, "direct")] == ["1.00", "100.00", "0.0200"]
    cells += [flow("direct", 16, 1000.0)]
    assert [row[6] for row in rows(cells, "direct")] == ["1.00", "100.00", "", "1.00"]


def test_a_flow_whose_calls_were_timed_shows_their_percentiles_too() -> None:
    (row,) = rows([Cell("tasks", 4096, 64, [Repeat(10, 5.0, 0.0, 2000.0, 300.0, 900.0)])], "floor")
    assert (row[2], row[3], row[4], row[5]) == ("300", "900", "2,000", "2,000-2,000")


def test_the_cpu_of_each_group_of_processes_has_its_column() -> None:
    grouped = Repeat(10, 30.0, 0.0, 2000.0, groups_us={"caller": 10.0, "scheduler": 20.0})
    cells = [flow("floor", 64, 1000.0), Cell("tasks", 4096, 64, [grouped])]
    floor, tasks = rows(cells, "floor")
    assert (floor[9:], tasks[9:]) == (("", "", "0.00"), ("10.0", "20.0", "0.00"))
    assert "caller  scheduler  foreign" in text_of(cells, 200, terminal=False)


def test_there_is_no_ratio_where_the_reference_was_not_measured() -> None:
    (row,) = rows([flow("relay", 64, 2000.0)], "floor")
    assert (row[6], row[8]) == ("", "")


def test_a_disturbed_value_is_marked() -> None:
    (row,) = rows([latency("floor", 50.0, foreign=0.9)], "floor")
    assert (row[2], row[3], row[-1]) == ("50.0!", "100!", "0.90")


def shown(width: int, terminal: bool) -> str:
    return text_of([latency("floor", 50.0), flow("floor", 16, 1000.0), latency("relay", 100.0)], width, terminal)


def text_of(cells: list[Cell], width: int, terminal: bool) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, color_system=None)
    show(console, cells, "floor", "4,096 B")
    return file.getvalue()


def test_no_width_and_no_file_cuts_a_column() -> None:
    for text in (shown(200, terminal=True), shown(60, terminal=True), shown(60, terminal=False)):
        for word in ("4,096 B", "subject", "requests/s", "1,000-1,000", "foreign", "relay"):
            assert word in text
    assert shown(60, terminal=True) == shown(60, terminal=False)
