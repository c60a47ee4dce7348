"""Entry: one thing that a process says to operators; and the line of stderr in which a child says it. Pure.

    child ──"\\x1d" and a JSON array, a line of its stderr──▶ the process that has started it ──▶ `pipeline.logs.log`

Whatever else a child prints, from Python or C, is an entry too, without a level of its own: `printed`.
"""

from __future__ import annotations

import json
import logging
from typing import NamedTuple

from stages.request import RequestInfo

__all__ = ["LEVELS", "LONGEST_TEXT", "MARK", "RAW_MARK", "Entry", "entries_in", "level_of_number"]

MARK = "\x1d"
"""Begins the line of an entry. A program's own text does not have it: it is ASCII's group separator."""

RAW_MARK = "\x1c"
"""Begins a line of the process `access` that is written to the log as it is: those of `pipeline.logs.access`."""

_WRITER = "access"
"""The title of that process. What another one prints may begin with any byte."""

LONGEST_TEXT = 16_000
"""Characters of an entry's text, of which the end is left out if it is longer, and of its traceback, of which it is the
middle: the exception stands at its end."""

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    # The answer to a signal, which a person at the terminal waits for.
    "note": 25,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
"""The levels, and what Python's `logging` has for them."""

#: Requests of a batch that are named; of the others only their number is told.
_NAMED = 3


def level_of_number(number: int) -> str:
    """The level of a record of `logging`, which may have any number."""
    found = "debug"
    for name, least in LEVELS.items():
        if number >= least and name != "note":
            found = name
    return found


class Entry(NamedTuple):
    """One thing that is said."""

    level: str
    """One of LEVELS."""
    text: str
    """For people; may have several lines."""
    process: str = ""
    """The title of the process that says it, as in `ps`: "supervisor", "detect/0"."""
    stage: str = ""
    requests: tuple[str, ...] = ()
    """Labels of the requests that it is about (see `stages.request`)."""
    logger: str = ""
    """Of a record of `logging`: the logger's name. Otherwise empty."""
    traceback: str = ""
    printed: bool = False
    """It is a line that a stage or a library has printed: nothing says how grave it is."""
    last: bool = False
    """A worker says why it ends; the worker that is started in its place may say it again."""
    raw: bool = False
    """It has its form already."""
    total: int = 1
    """Of `requests` those that it is about, if that is more than are named."""

    def line(self) -> str:
        """The line in which a child says it, with its newline; `entries_in` reads it."""
        text = self.text if len(self.text) <= LONGEST_TEXT else self.text[:LONGEST_TEXT] + "..."
        traceback, half = self.traceback, LONGEST_TEXT // 2
        if left_out := max(0, len(traceback) - 2 * half):
            traceback = f"{traceback[:half]}\n    ... {left_out} characters are left out here ...\n{traceback[-half:]}"
        # The JSON of Python, here and below: msgspec's has no text that is not Unicode, as the names of files may be.
        return f"{MARK}{json.dumps(self._replace(text=text, traceback=traceback))}\n"

    def about(self) -> str:
        """The stage, and the requests by id and name: "detect 3fa9c-17 (cat.jpg), 4 more"; "" if it is about none."""
        if not self.stage:
            return ""
        named = [str(RequestInfo.parse(label)) for label in self.requests[:_NAMED]]
        if self.total > len(named) and named:
            named.append(f"{self.total - len(named)} more")
        return f"{self.stage} {', '.join(named)}" if named else self.stage

    def ids(self) -> list[str]:
        """The ids of the requests."""
        return [label.partition(" ")[0] for label in self.requests]


def entries_in(line: str, process: str) -> list[Entry]:
    """What a line of a child's output says: an entry, what was printed, or both if no newline was printed between them.

    Args:
        line: without its newline.
        process: the title of the child.
    """
    if line.startswith(RAW_MARK) and process == _WRITER:
        return [Entry("info", line.removeprefix(RAW_MARK), process, raw=True)]
    printed, mark, said = line.partition(MARK)
    found = [Entry("info", printed, process, printed=True)] if printed or not mark else []
    if mark:
        found.append(_read(said, process) or Entry("info", said, process, printed=True))
    return found


def _read(said: str, process: str) -> Entry | None:
    """The entry that a child has said; None if this is none, such as two that came from two programs at once."""
    try:
        level, text, _, stage, requests, logger, traceback, printed, last, _, total = json.loads(said)
    except (ValueError, TypeError):
        return None
    texts = (level, text, stage, logger, traceback)
    if not isinstance(requests, list) or not isinstance(total, int) or level not in LEVELS:
        return None
    if not all(isinstance(each, str) for each in (*texts, *requests)):
        return None
    printed, last = printed is True, last is True
    return Entry(level, text, process, stage, tuple(requests), logger, traceback, printed, last, total=total)
