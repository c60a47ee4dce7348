"""`pipeline ps`: the runs of this user on this host."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated

import typer

from pipeline.cli.arguments import AnswerOption
from pipeline.cli.tables import make_console, make_table
from pipeline.client.status import ANSWER_S
from pipeline.config.quantities import format_bytes
from pipeline.errors import Unavailable
from pipeline.streams import say
from pipeline.watching.overview import RunRow, overview
from pipeline.watching.rates import age_text
from pipeline.watching.reloads import reload_note
from pipeline.wire.home import runs_home
from pipeline.wire.status import plain

__all__ = ["register", "state_text"]

_FAILED = 1
_NUMBERS = ("pid", "answered", "failed", "inside", "clients", "memory")


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(ps)


def ps(
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of objects as JSON.")] = False,
    timeout: AnswerOption = ANSWER_S,
) -> None:
    """List the pipelines that run here as this user. Exit code 0, if there is none too.

    Every command that takes a name takes an id as well: that one run, among others of its pipeline.
    """
    try:
        rows = overview(timeout)
    except Unavailable as error:
        say(f"error: {error}")
        sys.exit(_FAILED)
    if as_json:
        print(json.dumps([plain(row) for row in rows], indent=1))
        return
    if not rows:
        say(f"no pipeline runs here (looked in {runs_home()})")
        return
    console = make_console()
    columns = ("id", "pid", "state", "age", "stages", "answered", "failed", "inside", "clients", "memory")
    table = make_table("", *columns, right=_NUMBERS, console=console)
    now = time.time()
    for row in rows:
        counts = (row.answered, row.failed, row.inside, row.clients)
        numbers = ["-" if count is None else str(count) for count in counts]
        memory = "-" if row.memory is None else format_bytes(row.memory)
        table.add_row(
            row.id, "-" if row.pid is None else str(row.pid), state_text(row, now), age_text(row.age_s),
            ", ".join(row.stages) or "-", *numbers, memory,
        )  # fmt: skip
    console.print(table)


def state_text(row: RunRow, now: float) -> str:
    """Its state in one line, with the reasons for it. Pure.

    Args:
        now: seconds since the epoch.
    """
    why = "; ".join(f"{stage}: {reason}" if stage else reason for stage, reason in row.reasons.items())
    note = reload_note(row.reloads, now)
    return (f"{row.state}: {why}" if why else row.state) + (f"; {note}" if note else "")
