"""Forms: an entry as text, for people, and as JSON, for programs. Pure.

    info: ready                                                                      the process itself
    detect/0 | WARNING faces [detect 3fa9c-17 (cat.jpg)]: no face                    a stage's own `logging`
    detect/0 | error: request 3fa9c-18 failed in stage detect: ValueError: ...       the runtime, in a child
    detect/0 | what the stage has printed
"""

from __future__ import annotations

import json
from datetime import datetime, timezone

from pipeline.logs.entry import Entry

__all__ = ["ROOTS", "json_of", "text_of", "time_of"]

ROOTS = ("", "supervisor", "serve")
"""The processes that a person starts: what they say themselves has no name before it."""


def time_of(now: float) -> str:
    """Seconds since 1970 as RFC 3339 writes them, in UTC, to the millisecond."""
    when = datetime.fromtimestamp(now, timezone.utc)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03}Z"


def text_of(entry: Entry) -> list[str]:
    """An entry as lines for people, without the time."""
    head = entry.text
    if entry.logger:
        about = f" [{entry.about()}]" if entry.stage else ""
        head = f"{entry.level.upper()} {entry.logger}{about}: {entry.text}"
    elif not entry.printed and (entry.process in ROOTS or entry.level != "info"):
        head = f"{entry.level}: {entry.text}"
    lines = [*head.split("\n"), *(entry.traceback.split("\n") if entry.traceback else ())]
    if entry.process in ROOTS:
        # As it was written: a text of several lines is a text.
        return ["\n".join(lines)]
    return [f"{entry.process} | {line}" for line in lines]


def json_of(entry: Entry, now: float, pipeline: str, run: str = "") -> str:
    """An entry as one JSON object in one line. The fields are those of docs/operating.md.

    Args:
        entry: what is said.
        now: seconds since 1970.
        pipeline: the name of the pipeline; "" for `pipeline serve`, which may have several.
        run: the id of the run, once it has one.
    """
    found: dict[str, object] = {"time": time_of(now), "level": entry.level}
    if pipeline:
        found["pipeline"] = pipeline
    if run:
        found["run"] = run
    found["process"] = entry.process
    if entry.stage:
        found["stage"] = entry.stage
    if entry.requests:
        found["requests"] = entry.ids()
        if entry.total > len(entry.requests):
            found["request_count"] = entry.total
    if entry.logger:
        found["logger"] = entry.logger
    found["message"] = entry.text
    if entry.traceback:
        found["traceback"] = entry.traceback
    if entry.printed:
        found["printed"] = True
    return json.dumps(found, ensure_ascii=False)
