"""RequestInfo: what a stage can know about the request of a row of its batch.

Between processes it travels as one text, its *label*. The scheduler writes it, and a worker parses it only if a stage
or a log asks for it:

    3fa9c-17 cat.jpg          the 17th request of the client 3fa9c, which calls it cat.jpg
    3fa9c-17                  the same without a name
    3fa9c-17/3 page.png       the child 3 of that request, behind a stage that fans out
    3fa9c-17/3/0 page.png     the child 0 of that child
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["RequestInfo"]


class RequestInfo(NamedTuple):
    """One request, or a child of a request. Plain values: they may be kept after the batch."""

    id: str
    """The id, the same in logs, errors, `--output` and `Future.request`: "3fa9c-17"."""
    name: str = ""
    """The name that the client gave it, at most 200 characters; `pipeline run` gives the path of the input."""
    child: tuple[int, ...] = ()
    """Its number among the tensors that a stage made from the request, from 0; one for each such stage, outer first."""

    stream: int = 0
    """The stream that it is part of; 0: of none. The requests of a stream come one after the other, in a stage always
    to the same worker: what a stage keeps for the next one, it keeps under this number."""
    sequence: int = 0
    """Its number in the stream, which only rises."""
    deadline: int = 0
    """Nanoseconds of `time.monotonic_ns` after which its answer is not wanted; 0: it always is."""
    traceparent: str = ""
    """The trace context that a stage hands on to what it calls, as W3C Trace Context writes it: of its own span, if the
    pipeline exports traces, otherwise as the client gave it; empty: the request is part of no trace."""

    @staticmethod
    def parse(label: str) -> RequestInfo:
        """Read a label."""
        place, _, name = label.partition(" ")
        id, *child = place.split("/")
        return RequestInfo(id, name, tuple([int(position) for position in child]))

    def __str__(self) -> str:
        """For people, on one line: "3fa9c-17/3 (page.png)"."""
        place = "/".join([self.id, *map(str, self.child)])
        # A name may contain anything; in a log it must not begin a new line.
        name = self.name if self.name.isprintable() else ascii(self.name)[1:-1]
        return f"{place} ({name})" if name else place
