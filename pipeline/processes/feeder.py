"""The feeder process: the client that `pipeline run CONFIG FILE...` is.

It sends the files, shows the answers, and ends with the exit code of the run: 0 all answered, 1 some
were not, or something was copied that must not be. SIGTERM makes it send nothing more and finish what
is under way. It uses nothing that an application could not.
"""

from __future__ import annotations

import gc
import signal
import sys
import time
from contextlib import ExitStack
from typing import Any, TextIO

from pipeline.client.client import Client
from pipeline.errors import Unavailable
from pipeline.feeding.display import make_display
from pipeline.feeding.feed import Feed
from pipeline.feeding.record import Record
from pipeline.feeding.summary import Summary, describe_copies
from pipeline.processes.child import Boot, boot

__all__ = ["feed", "main"]

_REPORTS_WAIT_S = 0.5
#: Workers report within 0.2 s of their last batch.
_SETTLED_S = 0.5


def _run(boot: Boot) -> int:
    with Client.connect(boot.run_dir, name="feeder") as client:
        return feed(client, boot.extra)


def feed(client: Client, extra: dict[str, Any], *, plain: bool = False) -> int:
    """Send the files of `extra` through a client that is connected, show what comes of them; the run's exit code.

    Args:
        plain: lines, also on a terminal: what stages print, or a debugger, must not meet a progress bar.
    """
    files: list[str] = extra["files"]
    zero_copy: bool = extra["assert_zero_copy"]
    plan = client.plan
    summary = Summary.of([stage.name for stage in plan.stages])
    with ExitStack() as stack:
        # Not before the pipeline is ready: one that cannot start leaves the last run's file alone.
        output: TextIO | None = None
        if extra["output"] is not None:
            output = stack.enter_context(open(extra["output"], "w", encoding="utf-8"))
        feed = Feed(client, files)
        signal.signal(signal.SIGTERM, lambda *_: feed.stop())
        display = stack.enter_context(make_display(plan.name, len(files), plain=plain))
        began = time.monotonic()
        died: Unavailable | None = None
        try:
            for record in feed.run(display.tick):
                _write(record, output)
                summary.add(record)
                display.add(record)
        except Unavailable as error:
            died = error
        summary.seconds = time.monotonic() - began
        summary.not_sent = len(files) - summary.requests
        if died is None:
            _take_reports(client, summary, _SETTLED_S if zero_copy else 0.0)
        display.finish(summary)
        if died is not None:
            print(died, file=sys.stderr)
    copied = zero_copy and bool(summary.copies)
    if copied:
        sys.stdout.flush()
        print(f"error: {describe_copies(summary.copies)}", file=sys.stderr)
    return 1 if summary.failures or summary.not_sent or copied else 0


def _write(record: Record, output: TextIO | None) -> None:
    if output is not None:
        output.write(record.to_json() + "\n")


def _take_reports(client: Client, summary: Summary, settle_s: float) -> None:
    """Take the workers' reports into the summary. They come a moment after the last batch.

    Args:
        settle_s: seconds for which nothing new must have come.
    """
    rows = sum(stage.requests for stage in summary.stages.values())
    now = since = time.monotonic()
    end = now + _REPORTS_WAIT_S + settle_s
    last = -1
    while True:
        status = client.status()
        now = time.monotonic()
        found = sum(stage["rows"] for stage in status["stages"])
        if found != last:
            last, since = found, now
        if now > end or (found >= rows and now - since >= settle_s):
            break
        time.sleep(0.02)
    summary.add_status(status)


def main() -> None:
    """Entry point of the process."""
    boot_ = boot("feeder")
    try:
        status = _run(boot_)
    except Unavailable as error:
        print(error, file=sys.stderr)
        status = 1
    except OSError as error:
        print(f"cannot write the output: {error}", file=sys.stderr)
        status = 2
    sys.stdout.flush()
    # The supervisor waits for the end: what has been imported is not searched for garbage once more.
    gc.freeze()
    sys.exit(status)


if __name__ == "__main__":
    main()
