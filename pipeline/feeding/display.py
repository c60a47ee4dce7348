"""Display: what a person sees of a run: on a terminal a progress bar, a table and a summary, otherwise lines."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol

from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pipeline.config.quantities import format_bytes
from pipeline.errors import without_last_lines
from pipeline.feeding.fitting import FittedTable
from pipeline.feeding.record import Record
from pipeline.feeding.summary import Summary
from stages.copies import REASONS

__all__ = ["Display", "PlainDisplay", "TerminalDisplay", "make_display"]

_MOST_ROWS = 40
#: Lines are held back for at most this many seconds, so that thousands of lines a second share their writes.
_FLUSH_S = 0.05


class Display(AbstractContextManager["Display"], Protocol):
    """Receives every record, and the summary at the end."""

    def add(self, record: Record) -> None:
        """Show the next record, in the order of the files."""

    def tick(self) -> None:
        """Redraw, since some time has passed."""

    def finish(self, summary: Summary) -> None:
        """The end."""


def make_display(
    pipeline: str, total: int | None, *, quiet: bool = False, plain: bool = False, stderr: bool = False
) -> Display:
    """The display for this stdout.

    Args:
        total: the number of requests; None if it is unknown.
        quiet: show no answers, only failures and the summary.
        plain: lines, even on a terminal.
        stderr: write to stderr, since stdout has other content.
    """
    # The stream as it is now: otherwise the console looks it up again and again, a microsecond each time.
    stream = sys.stderr if stderr else sys.stdout
    console = _Console(file=stream, highlight=False, emoji=False, markup=False)
    if console.is_terminal and not quiet and not plain:
        return TerminalDisplay(console, pipeline, total)
    return PlainDisplay(_Console(file=stream, highlight=False, emoji=False, markup=False, width=1000), quiet)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # Otherwise rich ends the process; but rich does not know whether the run is over.
        raise BrokenPipeError


class TerminalDisplay:
    """A progress bar with rate and remaining time; then the table, then the summary."""

    def __init__(self, console: Console, pipeline: str, total: int | None) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn(pipeline, style="bold"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            transient=True,
            # We draw it between answers: a thread of its own would delay the feeder.
            auto_refresh=False,
        )
        self._task = self._progress.add_task("", total=total, rate="")
        self._rows: list[Record] = []
        self._failed: list[Record] = []
        self._count = 0
        self._began = self._progress.get_time()

    def __enter__(self) -> TerminalDisplay:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def add(self, record: Record) -> None:
        self._count += 1
        if record.error is not None:
            self._failed.append(record)
        elif len(self._rows) < _MOST_ROWS:
            self._rows.append(record)
        if self._progress.tasks[self._task].completed == self._count - 1:
            self._progress.update(self._task, completed=self._count)
        self.tick()

    def tick(self) -> None:
        now = self._progress.get_time()
        # Over the whole run: the last few answers may have come at once, so their rate means nothing.
        speed = self._count / (now - self._began) if now > self._began else 0.0
        if now - getattr(self, "_drawn", 0.0) >= 0.1:
            self._drawn = now
            self._progress.update(self._task, rate=f"{speed:.1f}/s" if speed else "")
            self._progress.refresh()

    def finish(self, summary: Summary) -> None:
        self._progress.stop()
        self._console.print(_results(self._rows, self._failed, self._count))
        self._console.print(_summary(summary, rich=True))


class PlainDisplay:
    """One line a request, then the summary as lines."""

    def __init__(self, console: Console, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet
        self._flushed = 0.0

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def add(self, record: Record) -> None:
        # Not with rich, which takes ten times as long for a line without colour or width.
        if record.error is not None:
            kind, message = record.error
            text = _harmless(without_last_lines(message))
            self._console.file.write(f"{_one_line(record.input)}  FAILED  {kind}: {text}\n")
        elif not self._quiet:
            label, score = record.headline
            line = f"{_one_line(record.input)}  {_one_line(label)}  {score}".rstrip()
            self._console.file.write(f"{line}\n")
        if time.monotonic() - self._flushed >= _FLUSH_S:
            self.tick()

    def tick(self) -> None:
        self._flushed = time.monotonic()
        self._console.file.flush()

    def finish(self, summary: Summary) -> None:
        self._console.print(_summary(summary, rich=False))


def _one_line(text: str) -> str:
    """Control characters, such as a line feed in the name of a file, as escapes."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character > "\x9f" else repr(character)[1:-1] for character in text
    )


def _harmless(message: str) -> str:
    """The lines of a message without control characters: a stage's text could move the terminal's cursor."""
    return "\n".join(_one_line(line) for line in message.split("\n"))


def _results(rows: list[Record], failed: list[Record], count: int) -> RenderableType:
    scored = any(record.headline[1] for record in rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("file", overflow="fold")
    table.add_column("top label" if scored else "outputs", overflow="fold")
    if scored:
        table.add_column("probability", justify="right")
    for record in rows:
        label, score = record.headline
        table.add_row(Text(_one_line(record.input)), Text(_one_line(label)), *([score] if scored else []))
    parts: list[RenderableType] = [table] if rows else []
    if (more := count - len(failed) - len(rows)) > 0:
        parts.append(Text(f"... and {more} more; --output FILE.jsonl writes all of them\n", style="dim"))
    for record in failed[:_MOST_ROWS]:
        assert record.error is not None
        failed_name = (f"{_one_line(record.input)}  FAILED", "red")
        text = _harmless(without_last_lines(record.error[1]))
        parts.append(Text.assemble(failed_name, f"  {record.error[0]}: {text}"))
    if len(failed) > _MOST_ROWS:
        parts.append(Text(f"... and {len(failed) - _MOST_ROWS} more failures", style="red"))
    if failed:
        parts.append(Text())
    return Group(*parts)


def _summary(summary: Summary, *, rich: bool) -> RenderableType:
    latencies = summary.latencies
    line = f"{summary.requests} {'request' if summary.requests == 1 else 'requests'}, {summary.failures} failed"
    if summary.skipped:
        line += f", {summary.skipped} answered before"
    if summary.not_sent:
        line += f", {summary.not_sent} not sent"
    elif summary.stopped:
        line += ", the rest not sent"
    line += f" in {summary.seconds:.2f} s: {summary.rate:.1f}/s"
    quantiles = ", ".join(f"p{percent} {latencies.percentile(percent):.1f}" for percent in (50, 90, 99))
    answered = summary.requests > summary.failures
    # On a terminal each table has an empty line above and below it.
    text = Text("" if rich else "\n")
    text.append(line, style="bold" if rich else "")
    copied = summary.copied_per_request
    if answered:
        text.append(f"\nlatency ms: {quantiles}    copied: {f'{_bytes(copied)} per request' if copied else 'nothing'}")
    if not summary.has_computed:
        # A table of zeros would look as if stages had run.
        return text
    if not rich:
        text.append("\n")
    parts: list[RenderableType] = [text, _stage_table(summary, rich=rich)]
    if summary.copies:
        parts += [*([] if rich else [Text()]), _copies_table(summary, rich=rich)]
    return Group(*parts)


def _copies_table(summary: Summary, *, rich: bool) -> Table:
    table = FittedTable(box=box.SIMPLE_HEAD if rich else None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("copied on", overflow="fold")
    table.add_column("bytes", justify="right", no_wrap=True)
    table.add_column("batches", justify="right", no_wrap=True)
    table.add_column("because")
    for copy in summary.copies:
        table.add_row(copy.edge, _bytes(copy.nbytes), str(copy.batches), f"{copy.reason}: {REASONS[copy.reason].why}")
    return table


def _stage_table(summary: Summary, *, rich: bool) -> Table:
    table = FittedTable(box=box.SIMPLE_HEAD if rich else None, pad_edge=False, padding=(0, 2, 0, 0))
    # Only the last column may wrap: a name or a number in two pieces cannot be read.
    table.add_column("stage", no_wrap=True)
    for name in ("queue ms", "compute ms", "mean batch", "copied"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("batches closed because")
    for name, stage in summary.stages.items():
        count = stage.requests or 1
        closed = {reason: n for reason, n in summary.closed.get(name, {}).items() if n}
        # A stage without batches always has full batches of one: there is no reason to show.
        single = stage.mean_batch == 1 and closed.keys() == {"full"}
        reasons = "" if single else ", ".join(f"{reason} {n}" for reason, n in closed.items())
        table.add_row(
            name,
            f"{stage.queue_ms / count:.2f}",
            f"{stage.compute_ms / count:.2f}",
            f"{stage.mean_batch:.2f}",
            _bytes(stage.copied_bytes / count),
            reasons or "-",
        )
    return table


def _bytes(count: float) -> str:
    return format_bytes(round(count))
