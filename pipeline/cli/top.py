"""`pipeline top`: a run as it is from moment to moment: its stages, processes, slots, and what each does."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.cli.arguments import AnswerOption
from pipeline.cli.tables import make_console, make_table
from pipeline.client.status import ANSWER_S
from pipeline.config.quantities import format_bytes
from pipeline.errors import ConfigError, Unavailable
from pipeline.streams import say
from pipeline.watching.keys import Keys, pressed_keys
from pipeline.watching.overview import sample_of
from pipeline.watching.rates import Frame, Sample, Sort, age_text
from pipeline.watching.reloads import reload_note
from pipeline.watching.view import KEYS, View
from pipeline.wire.run_dir import LOCK, find_run, serving
from pipeline.wire.shards import one_run
from pipeline.wire.status import plain
from shm.owner import Alive, probe

__all__ = ["picture_of", "register"]

_FAILED = 1
_INTERVAL_S = 2.0


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(top)


def top(
    run: Annotated[
        str | None,
        typer.Argument(help="A pipeline's name, or a run's id (detect-29227) or folder; default: the only one."),
    ] = None,
    interval: Annotated[
        float, typer.Option("--interval", min=0.1, metavar="S", help="Seconds from one look to the next.")
    ] = _INTERVAL_S,
    once: Annotated[
        bool, typer.Option("--once", help="Show it once: the rates of one interval, then the end.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print an object of JSON, in a line of its own, for each look.")
    ] = False,
    timeout: AnswerOption = ANSWER_S,
    sort: Annotated[Sort, typer.Option("--sort", help="The order of rows at first.")] = Sort.GRAPH,
) -> None:
    """Watch a run: keys change the order of rows, p pauses, q quits. Exit code 1: it does not run, or has ended.

    If stdout is no terminal, one text follows another. After a reload it goes on with the new version.
    """
    if not 0 < interval < float("inf"):
        raise ConfigError(f"--interval: expected seconds, found {interval:g}")
    try:
        folder = one_run(find_run(run))
        console = make_console()
        if as_json or once or not console.is_terminal:
            _print(folder, View(sort), console, interval, timeout, once=once, as_json=as_json)
        else:
            _watch(folder, View(sort), console, interval, timeout)
    except Unavailable as error:
        say(f"error: {error}")
        sys.exit(_FAILED)
    except KeyboardInterrupt:
        pass  # as q


def _look(folder: Path, timeout_s: float) -> tuple[Path, Sample]:
    """The folder of the run that serves by now in place of the one in `folder`, and how it is.

    Raises:
        Unavailable: it has ended.
    """
    folder = one_run(serving(folder))
    if not isinstance(probe(folder / LOCK), Alive):
        raise Unavailable(f"{folder.name} has ended")
    return folder, sample_of(folder, timeout_s=timeout_s)


def _print(
    folder: Path, view: View, console: Console, interval: float, timeout_s: float, *, once: bool, as_json: bool
) -> None:
    """One text after the other."""
    while True:
        folder, sample = _look(folder, timeout_s)
        view = view.take(sample)
        frame = view.frame()
        # The first has no rates.
        if frame is not None and view.before is not None:
            if as_json:
                print(json.dumps(plain(frame)), flush=True)
            else:
                console.print(picture_of(frame, console))
                sys.stdout.flush()
            if once:
                return
        time.sleep(interval)


def _watch(folder: Path, view: View, console: Console, interval: float, timeout_s: float) -> None:
    """On a terminal, in its place, until q."""
    with pressed_keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        due = 0.0
        while not view.over:
            if time.monotonic() >= due:
                folder, sample = _look(folder, timeout_s)
                view = view.take(sample)
                due = time.monotonic() + interval
            if (frame := view.frame()) is not None:
                live.update(picture_of(frame, console, _line_of_keys(view, keys)), refresh=True)
            for key in keys.wait(due - time.monotonic()):
                view = view.press(key)


def _line_of_keys(view: View, keys: Keys) -> str:
    if not keys.there:
        return "Ctrl-C quits"
    return f"{'paused; ' * view.paused}by {view.sort.value}; {KEYS}"


def picture_of(frame: Frame, console: Console, keys: str = "") -> RenderableType:
    """A frame as text and tables, as wide as the console."""
    parts: list[RenderableType] = [_head(frame, console)]
    parts += [Text(f"  {stage + ': ' if stage else ''}{reason}") for stage, reason in frame.reasons.items()]
    if note := reload_note(frame.reloads, time.time()):
        parts.append(Text(f"  {note}"))
    if keys:
        parts.append(Text(keys, style="dim" if console.is_terminal else ""))
    cameras = [_cameras(frame, console)] if frame.cameras else []
    for table in (*cameras, _stages(frame, console), _processes(frame, console), _slots(frame, console)):
        # Without rules: a terminal has few lines, and what does not fit is not seen.
        table.box, table.padding = None, (0, 2, 0, 0)
        parts += [Text(), table]
    return Group(*parts)


def _head(frame: Frame, console: Console) -> Text:
    state = "ready" if frame.ready else "not ready"
    style = "" if not console.is_terminal else "bold green" if frame.ready else "bold red"
    rates = f"{_number(frame.answered_rate)}/s answered, {_number(frame.failed_rate)}/s failed"
    now = f"{frame.inside} inside, {frame.clients} clients; {format_bytes(frame.memory)}"
    rest = f", up {age_text(frame.age_s)}; {rates}; {now}"
    return Text.assemble(f"{frame.run}: ", (state, style), rest)


def _number(value: float | None) -> str:
    """A rate or a size with as many digits as say something; "-": not known."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _stages(frame: Frame, console: Console) -> Table:
    right = ("waiting", "ordered", "rows/s", "rows/batch", "deaths")
    table = make_table("", "stage", "workers", *right, "not ready because", right=right, console=console)
    for row in frame.stages:
        table.add_row(
            row.name, f"{row.workers} of {row.replicas}", str(row.waiting), str(row.ordered), _number(row.rate),
            _number(row.batch), str(row.deaths), row.problem,
        )  # fmt: skip
    return table


def _processes(frame: Frame, console: Console) -> Table:
    right = ("pid", "CPU", "memory", "threads")
    table = make_table("", "process", *right, right=right, console=console)
    for row in frame.processes:
        cpu = "-" if row.cpu is None else f"{100 * row.cpu:.0f}%"
        table.add_row(row.title, str(row.pid), cpu, format_bytes(row.memory), str(row.threads))
    return table


def _cameras(frame: Frame, console: Console) -> Table:
    right = ("frames/s", "answered/s", "dropped/s", "age", "clips", "unwritten")
    table = make_table("", "camera", "state", *right, right=right, console=console)
    for row in frame.cameras:
        age = "-" if row.age_s is None else f"{1000 * row.age_s:.0f} ms"
        rates = (_number(row.frame_rate), _number(row.answered_rate), _number(row.dropped_rate))
        state = f"{row.state}{': ' * bool(row.detail)}{row.detail}"
        table.add_row(row.name, state, *rates, age, str(row.clips), str(row.unwritten))
    return table


def _slots(frame: Frame, console: Console) -> Table:
    table = make_table("", "slots of", "in use", "of", right=("in use", "of"), console=console)
    for pool in frame.pools:
        table.add_row(pool.name, str(pool.slots - pool.free), str(pool.slots))
    return table
