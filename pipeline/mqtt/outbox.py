"""Outbox: what the broker has still to be told. Pure.

Of a state only the newest is kept, so that a broker may be away for any time; events are kept up to a bound, the newest
of them. What was sent counts as told once the broker has said so.

    put ──▶ waiting ──take──▶ on its way ──told──▶ (states are kept, for a broker that has lost them)
                 ▲───────────────┘ lost: the connection is gone
"""

from __future__ import annotations

from collections import deque

from pipeline.mqtt.topics import Publication

__all__ = ["MOST_EVENTS", "Outbox"]

MOST_EVENTS = 1000
_MOST_ON_THE_WAY = 16


class Outbox:
    """What waits for the broker.

    Args:
        last: the topic that is told after all other states: that the source is there.
        most: events that are kept.
    """

    def __init__(self, last: str, most: int = MOST_EVENTS) -> None:
        self._last = last
        self._most = most
        #: The newest of each state.
        self._states: dict[str, Publication] = {}
        #: Topics whose state the broker has not been told.
        self._waiting: dict[str, None] = {}
        self._events: deque[Publication] = deque()
        self._on_the_way: list[Publication] = []
        #: Events that were dropped, since too many waited.
        self.dropped = 0

    def put(self, publication: Publication) -> None:
        """Have it told."""
        if publication.retain:
            self._states[publication.topic] = publication
            self._waiting[publication.topic] = None
        else:
            self._events.append(publication)
            self._shorten()

    def again(self, topic: str) -> None:
        """Another process has said something else on this topic: say ours again."""
        if topic in self._states:
            self._waiting[topic] = None

    def take(self) -> Publication | None:
        """The next to send; None: nothing waits, or enough is on its way."""
        if len(self._on_the_way) >= _MOST_ON_THE_WAY:
            return None
        # Of a topic one at a time: otherwise a broker that takes nothing would have any number of pictures waiting.
        busy = {one.topic for one in self._on_the_way if one.retain}
        topics = [topic for topic in self._waiting if topic not in busy and topic != self._last]
        if not topics and not busy and self._last in self._waiting:
            topics = [self._last]
        if topics:
            del self._waiting[topics[0]]
            taken = self._states[topics[0]]
        elif self._events:
            taken = self._events.popleft()
        else:
            return None
        self._on_the_way.append(taken)
        return taken

    def told(self, publication: Publication) -> None:
        """The broker has it."""
        self._on_the_way.remove(publication)
        if publication.retain and not publication.payload and self._states.get(publication.topic) == publication:
            # It was removed, which is said once: another run may have a camera of that name one day.
            del self._states[publication.topic]

    def lost(self) -> None:
        """The connection is gone: all states are told again, for the broker may have been another one, and so are the
        events that were on their way, which may come twice."""
        self._events.extendleft(one for one in reversed(self._on_the_way) if not one.retain)
        self._on_the_way.clear()
        self._waiting = dict.fromkeys(self._states)
        self._shorten()

    @property
    def events(self) -> int:
        """Events that wait."""
        return len(self._events)

    @property
    def empty(self) -> bool:
        """Whether the broker has been told all."""
        return not (self._waiting or self._events or self._on_the_way)

    def _shorten(self) -> None:
        while len(self._events) > self._most:
            self._events.popleft()
            self.dropped += 1
