"""Forms: an entry as text, for people, and as JSON, for programs. Pure.

    info: ready                                                                      the process itself
    detect/0 | WARNING faces [detect 3fa9c-17 (cat.jpg)]: no face                    a stage's own `logging`
    detect/0 | error: request 3fa9c-18 failed in stage detect: ValueError: ...       the runtime, in a child
    detect/0 | what the stage has printed
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone

from pipeline.logs.entry import Entry

__all__ = ["ROOTS", "before_of", "json_of", "missing_lines", "text_of", "text_of_before", "time_of"]

ROOTS = ("", "supervisor", "serve")
"""The processes that a person starts: what they say themselves has no name before it."""

_BEFORE = re.compile(r"\S+Z info: (\d+) lines came before this one")


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


def text_of_before(count: int) -> str:
    """The first line of a file that goes on where another one was full: so many lines stood in those before it."""
    return f"info: {count} lines came before this one"


def before_of(line: str) -> int | None:
    """The count of `text_of_before`, if that is what this line of a file with times says."""
    found = _BEFORE.fullmatch(line)
    return None if found is None else int(found[1])


def missing_lines(count: int, why: str) -> str:
    """Tells in their place that so many lines of a log are not there."""
    return f"warning: {count} lines are missing here: {why}"


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
