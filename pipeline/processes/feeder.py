"""The feeder process: the client that `pipeline run CONFIG FILE...` is.

It sends the files, shows the answers, and ends with the exit code of the run: 0 all answered, 1 some
were not. SIGTERM makes it send nothing more and finish what is under way. It uses nothing that an
application could not.
"""

from __future__ import annotations

import signal
import sys
import time
from contextlib import ExitStack
from typing import TextIO

from pipeline.client.client import Client
from pipeline.errors import Unavailable
from pipeline.feeding.display import make_display
from pipeline.feeding.feed import Feed
from pipeline.feeding.record import Record
from pipeline.feeding.summary import Summary
from pipeline.processes.child import Boot, boot

__all__ = ["main"]

_STATUS_WAIT_S = 0.5


def _run(boot: Boot) -> int:
    files: list[str] = boot.extra["files"]
    plan = boot.plan
    names = [stage.name for stage in plan.stages]
    summary = Summary.of(names)
    with ExitStack() as stack:
        client = stack.enter_context(Client.connect(boot.run_dir, name="feeder"))
        # Not before the pipeline is ready: one that cannot start leaves the last run's file alone.
        output: TextIO | None = None
        if boot.extra["output"] is not None:
            output = stack.enter_context(open(boot.extra["output"], "w", encoding="utf-8"))
        feed = Feed(client, files)
        signal.signal(signal.SIGTERM, lambda *_: feed.stop())
        display = stack.enter_context(make_display(plan.name, len(files)))
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
            _ask_for_reasons(client, summary, names)
        display.finish(summary)
        if died is not None:
            print(died, file=sys.stderr)
    return 1 if summary.failures or summary.not_sent else 0


def _write(record: Record, output: TextIO | None) -> None:
    if output is not None:
        output.write(record.to_json() + "\n")


def _ask_for_reasons(client: Client, summary: Summary, names: list[str]) -> None:
    """Why batches closed, out of the workers' reports, which come a moment after the last batch."""
    rows = sum(stage.requests for stage in summary.stages.values())
    end = time.monotonic() + _STATUS_WAIT_S
    while True:
        status = client.status()
        if sum(report[3] for report in status["workers"]) >= rows or time.monotonic() > end:
            break
        time.sleep(0.02)
    summary.add_status(status, names)


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
    sys.exit(status)


if __name__ == "__main__":
    main()
