"""A frame as it is shown, at several widths."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from pipeline.cli.top import picture_of
from pipeline.watching.rates import Frame, ProcessRow, StageRow
from pipeline.watching.view import KEYS
from pipeline.wire.status import PoolStatus

FRAME = Frame(
    run="detect-29227", pipeline="detect", ready=False, reasons={"inference": "no worker"}, age_s=7620.0, seconds=2.0,
    answered_rate=1634.4, failed_rate=None, inside=9, clients=2,
    stages=(
        StageRow("resize", 1, 1, 3, 4, 2197.0, 1.0, 0, ""), StageRow("inference", 0, 2, 0, 0, 0.0, None, 6, "no worker")
    ),
    processes=(ProcessRow("scheduler", 7473, 0.271, 17 << 20, 4), ProcessRow("resize/0", 7474, None, 23 << 20, 4)),
    pools=(PoolStatus("ingress/0", 27, 11),), memory=40 << 20,
)  # fmt: skip


def shown(width: int, terminal: bool) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, highlight=False)
    console.print(picture_of(FRAME, console, f"by graph; {KEYS}"))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    return str(text)


def test_each_thing_is_in_one_line_where_there_is_room() -> None:
    lines = [line.split() for line in shown(120, terminal=True).splitlines()]
    head = "detect-29227: not ready, up 2 h 7 min; 1634/s answered, -/s failed; 9 inside, 2 clients; 40.0 MiB"
    assert head.split() in lines
    assert ["inference:", "no", "worker"] in lines
    assert ["resize", "1", "of", "1", "3", "4", "2197", "1.0", "0"] in lines
    assert ["inference", "0", "of", "2", "0", "0", "0.0", "-", "6", "no", "worker"] in lines
    assert ["scheduler", "7473", "27%", "17.0", "MiB", "4"] in lines
    assert ["resize/0", "7474", "-", "23.0", "MiB", "4"] in lines
    assert ["ingress/0", "16", "27"] in lines


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("width", [20, 50, 80, 120, 300])
def test_nothing_is_left_out_at_any_width(width: int, terminal: bool) -> None:
    words = shown(width, terminal).split()
    for word in ("detect-29227:", "resize", "2197", "inference", "scheduler", "27%", "resize/0", "ingress/0", "16"):
        assert word in words


def test_the_keys_fit_a_terminal_of_80_columns() -> None:
    assert f"by graph; {KEYS}" in [line.rstrip() for line in shown(80, terminal=True).splitlines()]


def test_a_pipeline_that_does_not_run_is_not_watched(cli_here: Callable[..., Any]) -> None:
    code, out, err = cli_here("top", "-none-")
    assert code == 2  # an option
    code, out, err = cli_here("top", "none")
    assert (code, out, err.startswith("error: no pipeline 'none' is running here")) == (1, "", True)
    assert cli_here("top", "--interval", "inf")[0] == 2
