"""The signals that ask a run to stop: SIGINT (Ctrl-C), SIGTERM, and SIGHUP (its terminal was closed).

    the command is read, the config planned    `end_before_start`: they end the process, which has made nothing yet
    from the run's folder on                   `StopSignals`: they are noted, and the supervisor's loop takes them

And SIGUSR1, which asks it to open its log file anew; before there is one, it does nothing. SIGHUP stays ignored if it
was at the start: that is what nohup(1) is for.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import deque
from types import FrameType
from typing import NamedTuple

__all__ = ["StopSignal", "StopSignals", "await_no_log", "end_before_start"]


def _asked_for() -> list[signal.Signals]:
    """Those that this process listens to."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *(() if ignored else (signal.SIGHUP,))]


def end_before_start(exit_code: int) -> None:
    """On such a signal, print a line and end this process with `exit_code`; a second signal ends it at once."""
    await_no_log()
    for number in _asked_for():
        signal.signal(number, _End(exit_code))


def await_no_log() -> None:
    """SIGUSR1 does nothing from now on, where it would end the process."""
    # Not SIG_IGN, which programs that are started from here would inherit.
    signal.signal(signal.SIGUSR1, _nothing)


def _nothing(number: int, frame: FrameType | None) -> None:
    pass


class _End:
    """The handler."""

    def __init__(self, exit_code: int) -> None:
        self._exit_code = exit_code

    def __call__(self, number: int, frame: FrameType | None) -> None:
        for each in _asked_for():
            signal.signal(each, signal.SIG_DFL)
        # Not by print: the signal may have come in the middle of that.
        with contextlib.suppress(OSError):
            os.write(2, b"stopped before it had started\n")
        raise SystemExit(self._exit_code)


class StopSignal(NamedTuple):
    """One that has come."""

    number: int
    at: float
    """Monotonic seconds."""


class StopSignals:
    """Notes the signals from its `with` block on, and ends the wait of a poll on `descriptor`; SIGCHLD does as well."""

    def __init__(self) -> None:
        #: Signals that have come and were not taken yet, in the order they came.
        self.received: deque[StopSignal] = deque()
        self._reopen = False
        self._before: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> StopSignals:
        self.descriptor, self._write = os.pipe()
        for end in (self.descriptor, self._write):
            os.set_blocking(end, False)
        # One that comes just before a wait must end it: the descriptor sees to that.
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in (*_asked_for(), signal.SIGUSR1, signal.SIGCHLD):
            self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGUSR1:
            self._reopen = True
        elif number != signal.SIGCHLD:
            self.received.append(StopSignal(number, time.monotonic()))

    def reopens(self) -> bool:
        """Whether a SIGUSR1 has come since the last call."""
        asked, self._reopen = self._reopen, False
        return asked

    def clear(self) -> None:
        """Empty the descriptor."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.descriptor, 4096)

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            # The process is at its end already: a late signal must not change its exit code.
            signal.signal(number, signal.SIG_IGN if isinstance(handler, _End) else handler)
        os.close(self.descriptor)
        os.close(self._write)
