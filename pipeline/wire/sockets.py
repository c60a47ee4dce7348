"""Sockets: the only file that imports zmq.

Every process, clients too, has one inbox that others push into, so that it can wait with a plain
receive instead of a poll. All are `ipc://` sockets in the run's folder, which only its user may enter.

    inbox    PULL, bound: <run>/supervisor.sock  scheduler.sock  w<number>.sock  clients/<number>.sock
             (that of a process with several workers to each of their addresses)
    outbox   PUSH, connected to one inbox

Bounded by credits, not by queues: a high-water mark would drop or block, so none is set; what may
be on its way is limited by the slots that exist.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import zmq

from pipeline.errors import StartError, WireError
from pipeline.wire.codec import MAX_FRAME_BYTES, Sent, decode, encode
from pipeline.wire.messages import Message

#: What a context of libzmq has room for unless told otherwise (ZMQ_MAX_SOCKETS): one for each client of a scheduler.
MOST_SOCKETS = 1023

__all__ = ["MOST_SOCKETS", "Inbox", "Outbox", "Poller", "address_of"]

#: What sun_path of a unix socket holds, without its final NUL.
_MAX_PATH = 107

#: Most frames taken from a socket before acting on them, so that a flood cannot starve the rest.
_RECEIVE_LIMIT = 512

#: As plain numbers: `int & IntFlag` makes a flag each time.
_INPUT, _NOBLOCK = int(zmq.POLLIN), int(zmq.NOBLOCK)


def address_of(run_dir: Path, who: str) -> str:
    """The endpoint of `who` ("scheduler", "supervisor", "w12", "clients/1f") in a run's folder.

    Raises:
        StartError: the path is longer than a unix socket's path may be.
    """
    path = str(run_dir / f"{who}.sock")
    if len(os.fsencode(path)) > _MAX_PATH:
        raise StartError(
            f"the socket path {path!r} has {len(os.fsencode(path))} bytes; unix sockets allow {_MAX_PATH}. "
            f"Set TRTLAB_RUN_DIR to a shorter folder"
        )
    return f"ipc://{path}"


def _context() -> zmq.Context[zmq.Socket[bytes]]:
    return zmq.Context.instance()


def _configure(socket: zmq.Socket[bytes]) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    # libzmq closes a connection that announces a larger frame, before it allocates anything.
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)


class _Bound:
    def __init__(self, kind: int, endpoints: Sequence[str]) -> None:
        self._socket = _context().socket(kind)
        _configure(self._socket)
        self._paths: list[str] = []
        for endpoint in endpoints:
            try:
                self._socket.bind(endpoint)
            except zmq.ZMQError as error:
                self.close()
                raise StartError(f"cannot bind {endpoint}: {error}") from error
            self._paths.append(endpoint.removeprefix("ipc://"))
            os.chmod(self._paths[-1], 0o600)

    @property
    def socket(self) -> zmq.Socket[bytes]:
        return self._socket

    def renew(self) -> list[str]:
        """Make the socket's files anew where they were removed; the names of those that had to be.

        A process that is connected stays so. It fails as long as their folder is gone: try again then.
        """
        renewed = []
        for path in self._paths:
            if os.path.lexists(path):
                continue
            # Bound a second time, and never unbound: that would end the connections that came by the first, and
            # remove a file of this name later. What the first costs is one descriptor.
            with suppress(zmq.ZMQError, OSError):
                self._socket.bind(f"ipc://{path}")
                os.chmod(path, 0o600)
                renewed.append(os.path.basename(path))
        return renewed

    def close(self) -> None:
        """Close and remove the socket's files."""
        self._socket.close()
        for path in self._paths:
            # libzmq removes it too, unless the folder moved under it.
            with suppress(OSError):
                os.unlink(path)


class Inbox(_Bound):
    """Where everybody pushes messages for this process, under one address or several."""

    def __init__(self, *endpoints: str, signalled: bool = False) -> None:
        """
        Args:
            endpoints: its addresses.
            signalled: the process is an application's, in which signals may come at any rate. A plain receive begins
                its wait anew after each, and would wait on for as long as they come.
        """
        super().__init__(zmq.PULL, endpoints)
        self._timeout_ms = -2
        self._poll: select.poll | None = None
        if signalled:
            self._poll = select.poll()
            self._poll.register(self._socket.get(zmq.FD), select.POLLIN)  # type: ignore[arg-type]

    def receive(self, timeout_ms: int = 0) -> list[Message | WireError]:
        """All messages that are here, waiting up to `timeout_ms` for the first; a bad frame comes as its error."""
        socket = self._socket
        messages: list[Message | WireError] = []
        if timeout_ms and self._poll is not None:
            self._wait(self._poll, timeout_ms)
        elif timeout_ms:
            if timeout_ms != self._timeout_ms:
                socket.setsockopt(zmq.RCVTIMEO, timeout_ms)
                self._timeout_ms = timeout_ms
            try:
                messages.append(_decoded(socket.recv()))
            except zmq.Again:
                return messages
        # Asking whether there is more costs half of what running into an exception does.
        while len(messages) < _RECEIVE_LIMIT and socket.get(zmq.EVENTS) & _INPUT:  # type: ignore[operator]
            messages.append(_decoded(socket.recv(_NOBLOCK)))
        return messages


    def _wait(self, poll: select.poll, timeout_ms: int) -> None:
        end = time.monotonic() + timeout_ms / 1000
        # libzmq's descriptor tells of a change only: what there is must be asked for first, and after each.
        while not self._socket.get(zmq.EVENTS) & _INPUT:  # type: ignore[operator]
            if (left := end - time.monotonic()) <= 0:
                return
            poll.poll(left * 1000)


def _decoded(frame: bytes) -> Message | WireError:
    try:
        return decode(frame)
    except WireError as error:
        return error


class Outbox:
    """A connection to one inbox."""

    def __init__(self, endpoint: str) -> None:
        self._socket = _context().socket(zmq.PUSH)
        _configure(self._socket)
        self._socket.connect(endpoint)

    def send(self, message: Sent) -> bool:
        """Send without ever blocking; False where the other side has gone for good."""
        try:
            self._socket.send(encode(message), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return bool(self._socket.closed)

    def close(self, linger_ms: int = 0) -> None:
        """Close; wait up to `linger_ms` for what has been sent to leave this process."""
        self._socket.close(linger_ms)


class Poller:
    """Waits for any of several sockets and file descriptors."""

    def __init__(self) -> None:
        self._poller = zmq.Poller()

    def add(self, source: _Bound | int) -> None:
        """Wait for input on a bound socket or a descriptor."""
        self._poller.register(source if isinstance(source, int) else source.socket, zmq.POLLIN)

    def remove(self, source: _Bound | int) -> None:
        """The reverse of `add`."""
        self._poller.unregister(source if isinstance(source, int) else source.socket)

    def wait(self, timeout_ms: int) -> set[int]:
        """The descriptors with input, after at most `timeout_ms`; sockets only end the wait."""
        events = self._poller.poll(max(0, timeout_ms))
        return {source for source, _ in events if isinstance(source, int)}
