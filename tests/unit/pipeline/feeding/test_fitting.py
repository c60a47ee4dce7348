"""Tables on terminals of any width: whole words."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich import box
from rich.console import Console

from pipeline.feeding.fitting import FittedTable, share_width

ROWS = [
    ("preprocess", "stages.image:DecodeResize", "where rows of a batch do not lie side by side", "12"),
    ("inference", "stages.infer:Infer", "always", "3"),
]


def shown(width: int) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, color_system=None, markup=False, legacy_windows=False)
    table = FittedTable(title="copies", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("stage", no_wrap=True)
    for name in ("class", "when"):
        table.add_column(name)
    table.add_column("batches", justify="right")
    for row in ROWS:
        table.add_row(*row)
    console.print(table)
    return stream.getvalue()


@pytest.mark.parametrize("width", [120, 80, 70, 60, 50, 40])
def test_every_word_is_whole_at_any_width(width: int) -> None:
    text = shown(width)
    assert all(len(line) <= width for line in text.splitlines())
    words = text.split()
    for row in ROWS:
        for word in " ".join(row).split():
            assert word in words, text


def test_with_room_a_row_is_a_line() -> None:
    assert [len(shown(120).splitlines()), len(shown(80).splitlines())] == [7, 8]


def test_without_room_for_a_table_a_row_is_a_paragraph() -> None:
    assert [line.rstrip() for line in shown(50).splitlines()] == [
        "copies", "",
        "preprocess",
        "  class    stages.image:DecodeResize",
        "  when     where rows of a batch do not lie side",
        "           by side",
        "  batches  12",
        "inference",
        "  class    stages.infer:Infer",
        "  when     always",
        "  batches  3",
        "",
    ]  # fmt: skip


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 60)), min_size=1, max_size=6), st.integers(1, 200))
def test_widths_fill_the_room_and_break_no_word(columns: list[tuple[int, int]], room: int) -> None:
    least = [word for word, _ in columns]
    natural = [word + more for word, more in columns]
    widths = share_width(natural, least, room)
    if widths is None:
        assert sum(least) > room
    else:
        assert sum(widths) == min(room, sum(natural))
        assert all(low <= width <= high for low, width, high in zip(least, widths, natural))


def test_the_widest_column_gives_way_first() -> None:
    assert share_width([10, 30, 20], [5, 5, 5], 50) == [10, 20, 20]
    assert share_width([10, 30, 20], [5, 28, 5], 50) == [10, 28, 12]
