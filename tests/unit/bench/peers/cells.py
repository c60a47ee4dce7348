"""Cells for the tests of the table and the plot."""

from __future__ import annotations

from bench.measure import Cell, Repeat


def cell(name: str, window: int, *values: tuple[float, float, float, float]) -> Cell:
    """A cell with a repeat for each p50 us, requests/s, CPU us and foreign cores."""
    repeats = [
        Repeat(100, cpu, foreign, rate, p50 if window == 1 else None, None) for p50, rate, cpu, foreign in values
    ]
    return Cell(name, 602_112, window, repeats)


CELLS = [
    cell("pipeline", 1, (600, 1600, 650, 0.0), (640, 1500, 700, 0.1), (9000, 90, 2000, 1.5)),
    cell("pipeline", 16, (0, 10_000, 130, 0.1), (0, 12_000, 120, 0.2), (0, 800, 700, 1.0)),
    cell("mosec", 1, (3000, 300, 3300, 0.9), (3400, 280, 3400, 0.8)),
]
