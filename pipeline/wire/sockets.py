"""Sockets: the only file that imports zmq.

Every process has one inbox that others push into; clients speak to the scheduler's ingress. All are
`ipc://` sockets in the run's folder, which only its user may enter.

    inbox    PULL, bound:   <run>/supervisor.sock  <run>/scheduler.sock  <run>/w<number>.sock
    outbox   PUSH, connected to one inbox
    ingress  ROUTER, bound: <run>/ingress.sock     clients connect with DEALER

Bounded by credits, not by queues: a high-water mark would drop or block, so none is set; what may
be on its way is limited by the slots that exist.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import zmq

from pipeline.errors import StartError, Unavailable, WireError
from pipeline.wire.codec import MAX_FRAME_BYTES, decode, encode
from pipeline.wire.messages import Message

__all__ = ["Connection", "Inbox", "Ingress", "Outbox", "Poller", "address_of"]

#: What sun_path of a unix socket holds, without its final NUL.
_MAX_PATH = 107

#: Most frames taken from a socket before acting on them, so that a flood cannot starve the rest.
_DRAIN_LIMIT = 512


def address_of(run_dir: Path, who: str) -> str:
    """The endpoint of `who` ("scheduler", "supervisor", "ingress", "w12") in a run's folder.

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
    def __init__(self, kind: int, endpoint: str) -> None:
        self._socket = _context().socket(kind)
        _configure(self._socket)
        self._path = endpoint.removeprefix("ipc://")
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self._socket.close()
            raise StartError(f"cannot bind {endpoint}: {error}") from error
        os.chmod(self._path, 0o600)

    @property
    def socket(self) -> zmq.Socket[bytes]:
        return self._socket

    def close(self) -> None:
        """Close and remove the socket's file."""
        self._socket.close()
        # libzmq removes it too, unless the folder moved under it.
        if os.path.lexists(self._path):
            os.unlink(self._path)


class Inbox(_Bound):
    """Where everybody pushes messages for this process."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(zmq.PULL, endpoint)

    def drain(self) -> Iterator[Message | WireError]:
        """All messages that are here now; a bad frame comes as the error that it is."""
        receive = self._socket.recv
        for _ in range(_DRAIN_LIMIT):
            try:
                frame = receive(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                yield decode(frame)
            except WireError as error:
                yield error


class Outbox:
    """A connection to one inbox."""

    def __init__(self, endpoint: str) -> None:
        self._socket = _context().socket(zmq.PUSH)
        _configure(self._socket)
        self._socket.connect(endpoint)

    def send(self, message: Message) -> bool:
        """Send without ever blocking; False where the other side has gone for good."""
        try:
            self._socket.send(encode(message), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def close(self, linger_ms: int = 0) -> None:
        """Close; wait up to `linger_ms` for what has been sent to leave this process."""
        self._socket.close(linger_ms)


class Ingress(_Bound):
    """The scheduler's end of all clients."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(zmq.ROUTER, endpoint)

    def drain(self) -> Iterator[tuple[bytes, Message | WireError]]:
        """All (client, message) that are here now."""
        receive = self._socket.recv_multipart
        for _ in range(_DRAIN_LIMIT):
            try:
                frames = receive(zmq.NOBLOCK)
            except zmq.Again:
                return
            if len(frames) != 2:
                yield frames[0], WireError(f"expected one frame a message, found {len(frames) - 1}")
                continue
            try:
                yield frames[0], decode(frames[1])
            except WireError as error:
                yield frames[0], error

    def send(self, client: bytes, message: Message) -> None:
        """Send to one client; silently nothing where it has gone."""
        try:
            self._socket.send_multipart((client, encode(message)), zmq.NOBLOCK)
        except (zmq.Again, zmq.ZMQError) as error:
            if error.errno not in (errno.EAGAIN, errno.EHOSTUNREACH):
                raise


class Connection:
    """A client's end: one connection to the scheduler's ingress."""

    def __init__(self, endpoint: str, identity: bytes) -> None:
        self._socket = _context().socket(zmq.DEALER)
        _configure(self._socket)
        self._socket.setsockopt(zmq.IDENTITY, identity)
        self._socket.connect(endpoint)

    def send(self, message: Message) -> None:
        """Send without blocking.

        Raises:
            Unavailable: the scheduler has gone.
        """
        try:
            self._socket.send(encode(message), zmq.NOBLOCK)
        except zmq.Again:
            raise Unavailable("the pipeline's scheduler takes no more messages") from None

    def receive(self, timeout_ms: int) -> list[Message]:
        """All messages that are here, or that come within `timeout_ms`.

        Raises:
            WireError: the scheduler sent something that is not a message.
        """
        messages: list[Message] = []
        try:
            messages.append(decode(self._socket.recv(zmq.NOBLOCK)))
        except zmq.Again:
            if not timeout_ms or not self._socket.poll(timeout_ms):
                return messages
        while True:
            try:
                messages.append(decode(self._socket.recv(zmq.NOBLOCK)))
            except zmq.Again:
                return messages

    def fileno(self) -> int:
        """A descriptor that becomes readable when something may have arrived (edge-triggered)."""
        fd: int = self._socket.getsockopt(zmq.FD)  # type: ignore[assignment]
        return fd

    def close(self, linger_ms: int = 200) -> None:
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

    def wait(self, timeout_ms: float | None) -> set[int]:
        """The descriptors with input, after at most `timeout_ms`; sockets only end the wait."""
        events = self._poller.poll(None if timeout_ms is None else max(0, timeout_ms))
        return {source for source, _ in events if isinstance(source, int)}
