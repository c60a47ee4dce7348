"""Streams: stdin, stdout and stderr, in whatever state the parent process has left them.

They may be closed (a daemon, `>&-`), be unable to write what we print (ASCII), be set not to block, lead to a full
disk, or to a reader that goes away. None of this may end a run whose purpose is another.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = [
    "above_announcement", "announce", "prepare_streams", "say", "settle_streams", "silence", "take_over_line",
    "unannounce", "unheard",
]  # fmt: skip


def prepare_streams(encoding: str | None = None) -> None:
    """Make the three streams usable, before anything else is opened.

    A closed one leads to /dev/null: otherwise the next file that is opened, a lock or a segment, would get its number,
    and printed text would be written into that. What an encoding has no character for is printed as an escape.

    Args:
        encoding: of what is printed, if its reader is known to take it; None: as the environment says.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest number that is free, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 (for as long as the process lives)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            # A parent has set it not to block: Python would lose what does not fit in at once.
            os.set_blocking(stream.fileno(), True)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


@contextmanager
def unheard(fd: int = 2) -> Iterator[None]:
    """Within the block, what cannot be printed to stderr (or stdout: 1) is lost, and nothing is raised."""
    try:
        yield
    except BrokenPipeError:
        silence(fd)
    except (OSError, ValueError):
        pass  # a disk that is full now; a stream that was closed


def say(text: str) -> None:
    """Print a line to stderr, where a person may or may not read it."""
    with unheard(), above_announcement():
        print(text, file=sys.stderr, flush=True)


#: What `announce` shows now.
_announced = ""
_TO_BEGIN_OF_LINE = "\r\x1b[K"


def announce(text: str) -> None:
    """Show one line on stderr until `unannounce`, with nothing below it; nothing at all if stderr is no terminal."""
    global _announced
    with unheard():
        if _has_movable_cursor():
            unannounce()
            # A line that the terminal breaks in two could not be taken away again.
            _announced = text[: os.get_terminal_size(sys.stderr.fileno()).columns - 1]
            print(_announced, end="", file=sys.stderr, flush=True)


def unannounce() -> None:
    """Take away what `announce` shows."""
    global _announced
    if _announced:
        _announced = ""
        with unheard():
            print(_TO_BEGIN_OF_LINE, end="", file=sys.stderr, flush=True)


def take_over_line() -> None:
    """Take away what another process announces on the terminal that this one begins to print to."""
    with unheard():
        if _has_movable_cursor():
            print(_TO_BEGIN_OF_LINE, end="", file=sys.stderr, flush=True)


def _has_movable_cursor() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


@contextmanager
def above_announcement() -> Iterator[None]:
    """Within the block, lines may be printed to stderr: what is announced makes room, and comes back below them."""
    text = _announced
    unannounce()
    yield
    if text:
        announce(text)


def silence(fd: int) -> None:
    """Let what is printed from now on, and what is still in buffers, go to /dev/null."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, fd)
    os.close(null)


def settle_streams() -> None:
    """Flush what was printed. Python does so at its end too, but there a failure changes the exit code."""
    for fd, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            silence(fd)
