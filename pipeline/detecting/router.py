"""Router: the ROUTER socket to which detectors of Frigate connect. It never blocks, and knows no message's meaning.

    a REQ's message    [who, "", part, ...]    `who` is a number that libzmq has given the connection
    its answer         [who, "", part, ...]    to that connection only; if it is gone, it goes nowhere

What lies in memory is bounded for a peer that means well: a REQ has one message under way, and from one that sends
more, no more than a few are read ahead. It is not bounded for one that does not: libzmq bounds each part
(MOST_FRAME_BYTES), and counts only messages that are whole, so the parts of one that never ends lie in memory until
the connection ends; and there may be any number of connections. libzmq has no option against it: docs/frigate.md says
what to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import zmq

from pipeline.errors import StartError

__all__ = ["MOST_FRAME_BYTES", "Asked", "Router"]

MOST_FRAME_BYTES = 64 << 20
"""A larger frame, which is one part of a message, ends the connection before it is read."""

_MOST_AHEAD = 4
_INPUT, _NOBLOCK = int(zmq.POLLIN), int(zmq.NOBLOCK)


class Asked(NamedTuple):
    """A message."""

    envelope: tuple[bytes, ...]
    """What the answer begins with."""
    parts: tuple[memoryview, ...]


class Router:
    """
    Args:
        endpoint: where it listens, such as tcp://127.0.0.1:5555 or ipc:///tmp/cache/zmq_detector.

    Raises:
        StartError: it cannot listen there.
    """

    def __init__(self, endpoint: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = socket = self._context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 100)
        socket.setsockopt(zmq.RCVHWM, _MOST_AHEAD)
        socket.setsockopt(zmq.SNDHWM, _MOST_AHEAD)
        socket.setsockopt(zmq.MAXMSGSIZE, MOST_FRAME_BYTES)
        # Otherwise an answer to one that is gone is dropped without a word.
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise StartError(
                f"cannot listen on {endpoint}: {error.strerror}; expected an address such as tcp://127.0.0.1:5555 or "
                f"ipc:///tmp/detector"
            ) from error
        self.endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        """Where it listens, with the port if any was asked for."""

    @property
    def descriptor(self) -> int:
        """It has input when something may have changed, and only once: then, and after each `send`, `receive` to its
        end."""
        return int(self._socket.getsockopt(zmq.FD))

    def receive(self) -> Iterator[Asked]:
        """The messages that are here."""
        socket = self._socket
        while int(socket.getsockopt(zmq.EVENTS)) & _INPUT:
            who, *frames = socket.recv_multipart(_NOBLOCK, copy=False)
            # A frame of no bytes stands before what a REQ says; others may send none.
            delimited = bool(frames) and len(frames[0]) == 0
            envelope = (who.bytes, b"") if delimited else (who.bytes,)
            yield Asked(envelope, tuple([frame.buffer for frame in frames[delimited:]]))

    def send(self, envelope: Sequence[bytes], parts: Sequence[Any]) -> bool:
        """Answer a message; False if the one that has asked is gone, or takes nothing."""
        try:
            self._socket.send_multipart([*envelope, *parts], _NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                return False
            raise
        return True

    def close(self) -> None:
        """Close it; answers have a moment more to leave."""
        self._socket.close()
        self._context.term()
