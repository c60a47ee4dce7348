"""What `pipeline siege` and `pipeline client` show: a line while they run, and a report at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.cli.tables import make_console, make_table
from pipeline.client.inputs import misfit_of
from pipeline.errors import ClientMisuse, ConfigError, InvalidRequest, Unavailable
from pipeline.load.loops import Loop
from pipeline.load.report import PERCENTILES, Report, percentiles_of
from pipeline.streams import announce, say, unannounce

__all__ = ["asking", "expect_deadline", "live_line", "show_report"]

_FAILED = 1

#: From here on it is shown how far behind its schedule the sending is.
_BEHIND_S = 0.05


def expect_deadline(deadline_ms: float | None) -> None:
    """Before the first request, each of which would fail by it.

    Raises:
        ConfigError: `--deadline-ms` is none.
    """
    if (why := misfit_of(deadline_ms, 0)) is not None:
        raise ConfigError(f"--deadline-ms: {why.removeprefix('deadline_ms: ')}")


@contextmanager
def asking() -> Iterator[None]:
    """Within the block, a target is asked, and a live line may be shown; if there is no such target, the program ends.

    Raises:
        ConfigError: what the command line says does not fit the model.
    """
    try:
        yield
    except InvalidRequest as error:
        raise ConfigError(str(error)) from None
    except (Unavailable, ClientMisuse) as error:
        unannounce()
        say(f"error: {error}")
        sys.exit(_FAILED)
    finally:
        unannounce()


def live_line(wanted: Callable[[float], float] | None = None) -> Callable[[float, Loop], None]:
    """What shows how a loop is now, on a terminal, in 80 columns if the numbers are small:

        12 s: 200/s wanted, 200 sent, 199 answered; 3 outstanding; p99 4.35 ms

    Args:
        wanted: the rate that is wanted at a time; None: a closed loop.
    """
    last = 0.0

    def show(now: float, loop: Loop) -> None:
        nonlocal last
        window, passed = loop.tally.next_window(), now - last
        last = now
        rates = f"{window.sent / passed:.0f} sent, {window.answered / passed:.0f} answered"
        parts = [f"{rates} /s" if wanted is None else f"{wanted(now):.0f}/s wanted, {rates}"]
        if loop.tally.failed:
            parts.append(f"{loop.tally.failed} failed")
        parts.append(f"{loop.outstanding} outstanding")
        if window.latencies.count:
            parts.append(f"p99 {window.latencies.percentile(99) * 1e3:.2f} ms")
        if (behind := loop.behind_s(now)) > _BEHIND_S:
            parts.append(f"{behind:.1f} s behind")
        announce(f"{now:.0f} s: {'; '.join(parts)}")

    return show


def show_report(report: Report, *, as_json: bool) -> None:
    """Print it: to stdout, and what must not be overlooked to stderr."""
    if as_json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        _show_table(report)
    for line in report.failures():
        say(f"failed: {line}")
    for line in report.warnings():
        say(f"warning: {line}")


def _show_table(report: Report) -> None:
    console = make_console()
    for line in report.head():
        console.print(line, soft_wrap=True)
    columns = [*[f"p{percent:g}" for percent in PERCENTILES], "max"]
    table = make_table("", "ms", *columns, "", right=tuple(columns), console=console)
    for what, durations, meaning in report.table():
        found = percentiles_of(durations)
        values = [found[column] for column in columns]
        # Of nothing there is no percentile: 0.000 would look as if the answers had come at once.
        table.add_row(what, *["-" if value is None else f"{value:.3f}" for value in values], meaning)
    console.print(table)
