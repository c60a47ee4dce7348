"""Unread: answers that have come, were not read yet, and hold slots. Pure.

No request waits for a slot that only its own client's unread answers hold: when slots are short, those answers are
moved into the client's memory, and their slots go back.

    answered ──▶ unread ──▶ read: views of its slots
                   │
                   └── a request has waited for a slot ──▶ moved: copies, made now; reading them later gives these

An answer that came a moment ago is left alone: the thread or task that waits for it is about to read it.
"""

from __future__ import annotations

import weakref

from pipeline.client.answering import move
from pipeline.client.future import Pending

__all__ = ["Unread"]

_FEW = 64

#: How long an answer is left to the thread or task that waits for it.
_ABOUT_TO_READ_NS = 1_000_000


class Unread:
    """The unread answers of one client. They are held weakly: one that is dropped gives its slots back at once."""

    def __init__(self) -> None:
        #: In the order in which they came, each with the time at which it did.
        self._answers: dict[int, tuple[int, weakref.ref[Pending]]] = {}
        #: How many of them lived when the dropped ones were last removed.
        self._living = _FEW

    def add(self, pending: Pending) -> None:
        """It was answered."""
        if len(self._answers) >= 2 * self._living:
            self._answers = {tag: known for tag, known in tuple(self._answers.items()) if known[1]() is not None}
            self._living = max(_FEW, len(self._answers))
        if pending.leases:
            self._answers[pending.tag] = pending.answered_ns, weakref.ref(pending)

    def take(self, pending: Pending) -> None:
        """It is being read. A second call does nothing."""
        self._answers.pop(pending.tag, None)

    def are(self, count: int) -> bool:
        """Whether there are so many of them at least."""
        if len(self._answers) < count:
            return False
        for _, reference in tuple(self._answers.values()):
            if reference() is not None:
                count -= 1
                if count <= 0:
                    return True
        return count <= 0

    @property
    def next_at(self) -> int | None:
        """When the next of them may be moved; None: there is none."""
        for came, _ in self._answers.values():
            return came + _ABOUT_TO_READ_NS
        return None

    def move(self, now: int | None = None) -> bool:
        """Move them into the client's memory; whether there were any.

        Args:
            now: only those that came a while before this time; None: all.
        """
        moved = False
        for tag, (came, reference) in tuple(self._answers.items()):
            if now is not None and came + _ABOUT_TO_READ_NS > now:
                break
            if (pending := reference()) is not None:
                moved = move(pending) or moved
            # After that: if this is interrupted, it is moved by the next call.
            self._answers.pop(tag, None)
        return moved
