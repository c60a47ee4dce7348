"""Lifeline: a pipe by whose end a process learns that the program which has started it is gone, however that went.

    starting program    holds the writing end; it writes nothing, or lines that the started process takes
    started process     has the reading end as its stdin, and reads from it
    the program dies, even by kill -9 ──▶ the kernel closes the pipe ──▶ end of file ──▶ the process ends

It is the program's life that counts, and not that of its children: a fork copies every descriptor, so the copies are
closed in the child at its birth. What is started as another program gets none (close-on-exec).
The supervisor's children have a lifeline too (`pipeline.processes.child`); the supervisor forks no process.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

__all__ = ["StarterWatch", "let_go", "new_lifeline", "write_to"]

#: Writing ends that this process holds.
_held: set[int] = set()

#: No fork between the making of a pipe and its note in `_held`. Reentrant: a signal's handler may fork.
_forking = threading.RLock()


def new_lifeline() -> tuple[int, int]:
    """A new lifeline: its reading end, which the started process gets and the caller closes, and its writing end."""
    with _forking:
        reader, writer = os.pipe()
        _held.add(writer)
    return reader, writer


def let_go(writer: int) -> None:
    """Close a writing end, once; in a forked child it is closed already."""
    with _forking:
        if writer in _held:
            _held.remove(writer)
            os.close(writer)


def write_to(writer: int, text: bytes) -> int | None:
    """Write as much of a text as there is room for, without waiting; how many bytes that is.

    None: the writing end was let go of, or the started process is gone.
    """
    # Under the lock: the number of a descriptor that is closed may be another file's.
    with _forking:
        if writer not in _held:
            return None
        os.set_blocking(writer, False)
        try:
            return os.write(writer, text)
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            return None


def _forget_all() -> None:
    for writer in _held:
        os.close(writer)
    _held.clear()
    _forking.release()


os.register_at_fork(before=_forking.acquire, after_in_parent=_forking.release, after_in_child=_forget_all)


class StarterWatch:
    """The program that has started this process, as far as stdin tells: once stdin ends, that program is gone.

    Then this process gets a SIGTERM, so that it ends even if it is not ready yet; `gone` says that it is no request of
    a person. From now on stdin is empty for everything else.

    Args:
        take: is called with each line that comes by stdin before its end, in a thread of its own; None: they are
            dropped.
    """

    def __init__(self, take: Callable[[bytes], None] | None = None) -> None:
        self._take = take
        #: Whether stdin has ended.
        self.gone = False
        lifeline = os.dup(0)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        # A thread: it works while the main thread waits in a library, and for whatever stdin is.
        threading.Thread(target=self._watch, args=(lifeline,), name="lifeline", daemon=True).start()

    def _watch(self, lifeline: int) -> None:
        rest = b""
        try:
            while chunk := os.read(lifeline, 65536):
                if self._take is not None:
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        self._take(line)
        except OSError:
            pass  # A terminal that is gone, for example: no more will come of that either.
        os.close(lifeline)
        self.gone = True
        # To the main thread, whose waiting it ends.
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGTERM)
