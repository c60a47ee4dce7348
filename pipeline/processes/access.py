"""The access process: a line for each request that has ended, into the run's log (`--access-log`).

    scheduler ──what has ended, when it is asked──▶ access ──lines──▶ supervisor ──▶ stderr, or the log file

It asks for more only when its lines are written (see `watched`). So if the log is slow, this process waits, and the
scheduler, which waits for nothing, keeps what it has room for and counts the rest: that number is a line, too.
"""

from __future__ import annotations

import os
import time
from functools import partial

from pipeline.logs.access import access_json, access_text
from pipeline.logs.entry import RAW_MARK
from pipeline.logs.forms import time_of
from pipeline.logs.settings import LogSettings
from pipeline.logs.telling import tell
from pipeline.processes.child import Boot, boot
from pipeline.processes.watched import watched
from pipeline.wire.messages import Observed

__all__ = ["lines_of", "main"]


def lines_of(found: Observed, boot_: Boot, settings: LogSettings, now: float, now_ns: int) -> list[str]:
    """The lines of what has been observed.

    Args:
        found: it.
        boot_: has the names of the pipeline, its stages and the run.
        settings: how the log is written.
        now: seconds since 1970.
        now_ns: the same moment, in monotonic nanoseconds.
    """
    stages = [stage.name for stage in boot_.plan.stages]
    lines = []
    for ended in found.ended:
        at = now - (now_ns - ended.ended) / 1e9
        if settings.format == "json":
            lines.append(access_json(ended, stages, at, boot_.plan.name, boot_.run_dir.name))
        else:
            lines.append(("" if settings.for_people else f"{time_of(at)} ") + access_text(ended, stages))
    return lines


def _write(lines: list[str]) -> None:
    text = "".join(f"{RAW_MARK}{line}\n" for line in lines).encode(errors="backslashreplace")
    while text:
        text = text[os.write(1, text) :]


def main() -> None:
    """Entry point of the process."""
    boot_ = boot()
    made = partial(lines_of, boot_=boot_, settings=LogSettings(**boot_.extra))
    for answer in watched(boot_.run_dir, "access"):
        if answer is not None:
            if answer.lost:
                tell("warning", f"{answer.lost} requests are missing here: the log was too slow for them")
            _write(made(answer, now=time.time(), now_ns=time.monotonic_ns()))


if __name__ == "__main__":
    main()
