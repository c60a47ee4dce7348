"""ZeroMQ: the first link (see `pipeline.wire.links`), and the only file that imports zmq.

All sockets are `ipc://` sockets in the run's folder, which only its user may enter; their names are those of
`Address.file`.

    inbox    PULL, bound under each address of its process
    outbox   PUSH, connected to one inbox

A high-water mark would drop messages or block the sender, so none is set.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import zmq

from pipeline.errors import StartError, WireError
from pipeline.wire.address import SOCKET_SUFFIX, Address
from pipeline.wire.codec import MAX_FRAME_BYTES, Sent, decode, encode
from pipeline.wire.messages import Message

#: What a context of libzmq has room for unless told otherwise (ZMQ_MAX_SOCKETS): one for each client of a scheduler.
MOST_SOCKETS = 1023

__all__ = ["MOST_SOCKETS", "Pull", "Push", "connect", "endpoint_of", "forget", "listen"]

#: What sun_path of a unix socket holds, without its final NUL.
_MAX_PATH = 107

#: Most frames taken from a socket before acting on them, so that a flood cannot starve the rest.
_RECEIVE_LIMIT = 512

#: As plain numbers: `int & IntFlag` makes a flag each time.
_INPUT, _NOBLOCK = int(zmq.POLLIN), int(zmq.NOBLOCK)


def endpoint_of(run_dir: Path, address: Address) -> str:
    """What ZeroMQ calls an address of a run.

    Raises:
        StartError: the path is longer than a unix socket's path may be.
    """
    path = _path_of(run_dir, address)
    if len(os.fsencode(path)) > _MAX_PATH:
        raise StartError(
            f"the socket path {path!r} has {len(os.fsencode(path))} bytes; unix sockets allow {_MAX_PATH}. "
            f"Set TRTLAB_RUN_DIR to a shorter folder"
        )
    return f"ipc://{path}"


def _path_of(run_dir: Path, address: Address) -> str:
    return str(run_dir / f"{address.file}{SOCKET_SUFFIX}")


def _context() -> zmq.Context[zmq.Socket[bytes]]:
    return zmq.Context.instance()


def _configure(socket: zmq.Socket[bytes]) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    # libzmq closes a connection that announces a larger frame, before it allocates anything.
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)


class Pull:
    """The inbox of a process.

    Args:
        run_dir: the folder of the run.
        addresses: of the process.
        signalled: the process is an application's, in which signals may come at any rate. A plain receive begins
            its wait anew after each, and would wait on for as long as they come.

    Raises:
        StartError: an address cannot be bound; those before it are given back.
    """

    def __init__(self, run_dir: Path, *addresses: Address, signalled: bool = False) -> None:
        endpoints = [endpoint_of(run_dir, address) for address in addresses]
        self._socket = _context().socket(zmq.PULL)
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
            self._wait_for_message(self._poll, timeout_ms)
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

    def wait(self, descriptors: Iterable[int], timeout_ms: int) -> set[int]:
        """Wait until a message is here, or one of these descriptors has input; those that have, after `timeout_ms`."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        for descriptor in descriptors:
            poller.register(descriptor, zmq.POLLIN)
        return {source for source, _ in poller.poll(max(0, timeout_ms)) if isinstance(source, int)}

    def renew(self) -> list[str]:
        """Make the socket's files anew if they were removed; the names of those that had to be.

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

    def _wait_for_message(self, poll: select.poll, timeout_ms: int) -> None:
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


class Push:
    """A connection to one inbox.

    Raises:
        StartError: the path of the folder is too long.
    """

    def __init__(self, run_dir: Path, address: Address) -> None:
        endpoint = endpoint_of(run_dir, address)
        self._socket = _context().socket(zmq.PUSH)
        _configure(self._socket)
        self._socket.connect(endpoint)

    def send(self, message: Sent) -> bool:
        """Send without ever blocking; False if the other side has gone for good."""
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


def listen(run_dir: Path, *addresses: Address, signalled: bool = False) -> Pull:
    """An inbox under these addresses; see `pipeline.wire.links.listen`."""
    return Pull(run_dir, *addresses, signalled=signalled)


def connect(run_dir: Path, address: Address) -> Push:
    """A way to the inbox of this address; see `pipeline.wire.links.connect`."""
    return Push(run_dir, address)


def forget(run_dir: Path, address: Address) -> None:
    """Remove the file of a dead process's socket, if it is there."""
    with suppress(OSError):
        os.unlink(_path_of(run_dir, address))
