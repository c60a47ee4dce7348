"""Observing: a process that watches which requests of a run end, without being one of its clients.

    Observer ──Observe, again and again──▶ scheduler ──Observed──▶ Observer
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from pipeline.errors import Unavailable
from pipeline.wire.address import SCHEDULER, Address
from pipeline.wire.group import hold_lock, taking_place
from pipeline.wire.links import connect, listen
from pipeline.wire.messages import Message, Observe, Observed

__all__ = ["Observer"]

_ASK_AGAIN_S = 1.0
"""The scheduler is dead or busy, or has answered too many strangers just now."""


class Observer:
    """A `with` block in which a run is watched. From the first question on, the scheduler keeps what ends.

    Args:
        run_dir: its folder.
        also: other addresses of this process, whose messages `take` returns too.
        expected: the process is one of the run, so that what ended before its first question is kept as well.

    Raises:
        Unavailable: no process of this user can be reached there.
    """

    def __init__(self, run_dir: Path, also: Iterable[Address] = (), *, expected: bool = False) -> None:
        self._number = int.from_bytes(os.urandom(8), "little") >> 1
        self._expected = expected
        self._run_dir = run_dir
        own = Address.client(self._number)
        with taking_place(run_dir):
            self._lock = hold_lock(run_dir, own)
            try:
                self._inbox = listen(run_dir, own, *also)
            except BaseException:
                self._lock.release()
                raise
        self._outbox = connect(run_dir, SCHEDULER)
        #: The number of the last answer that was taken in.
        self._seen = 0
        self._asked_at = float("-inf")

    def ask(self, spans: tuple[int, ...] = ()) -> None:
        """Ask what has ended, unless the answer to an earlier question may still come.

        Args:
            spans: see `Observe`.
        """
        now = time.monotonic()
        if now - self._asked_at >= _ASK_AGAIN_S:
            if self._asked_at > 0:
                # Another scheduler may have taken the place of the one that was asked.
                self._outbox.close()
                self._outbox = connect(self._run_dir, SCHEDULER)
            self._asked_at = now
            self._outbox.send(Observe(self._number, self._seen, spans, self._expected))

    def take(self, timeout_s: float) -> tuple[list[Observed], list[Message]]:
        """What has come within so many seconds, or until something has: answers, each once, and other messages.

        Raises:
            Unavailable: the scheduler keeps nothing for this observer, and says why.
        """
        found: list[Observed] = []
        others: list[Message] = []
        end = time.monotonic() + timeout_s
        while not (found or others):
            left_s = end - time.monotonic()
            self._take_in(self._inbox.receive(max(0, math.ceil(left_s * 1000))), found, others)
            # An answer that was taken in before is nothing: what follows it may still be on its way.
            if left_s <= 0:
                break
        return found, others

    def _take_in(self, messages: Iterable[object], found: list[Observed], others: list[Message]) -> None:
        for message in messages:
            if isinstance(message, Observed):
                if message.refused:
                    raise Unavailable(f"{self._run_dir.name} cannot be watched: {message.refused}")
                self._asked_at = float("-inf")
                # A new scheduler begins with 1 again.
                if message.number not in (0, self._seen):
                    self._seen = message.number
                    found.append(message)
            elif isinstance(message, Message):
                others.append(message)

    def close(self) -> None:
        """The scheduler forgets this observer by itself."""
        self._outbox.close()
        self._inbox.close()
        self._lock.release()

    def __enter__(self) -> Observer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
