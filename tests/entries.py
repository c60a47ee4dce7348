"""What a child process says to operators (see `pipeline.logs.entry`), as a test reads it from its stderr."""

from __future__ import annotations

from pipeline.logs.entry import Entry, entries_in
from pipeline.logs.forms import text_of

__all__ = ["entries_of", "lines_of"]


def entries_of(stderr: str) -> list[Entry]:
    """Entries, and lines that were printed."""
    # Not by `splitlines`, which takes the marks for ends of lines.
    return [entry for line in stderr.split("\n") if line for entry in entries_in(line, "")]


def lines_of(stderr: str) -> list[str]:
    """The lines that operators read, without the name of the process."""
    return [line for entry in entries_of(stderr) for text in text_of(entry) for line in text.split("\n")]
