"""ZeroMQ: the first link (see `pipeline.wire.links`), and the only file that imports zmq.

All sockets are `ipc://` sockets in the run's folder, which only its user and its group may enter; their names are those
of `Address.file`. If the run has a group, the inboxes of the scheduler and of clients ask the kernel which user each
message comes from; they take from others only what those may say (`pipeline.wire.peers`). And a client's socket must be
of the user that holds the client's lock: another name for another client's socket is not connected to.

    inbox    PULL, bound under each address of its process
    outbox   PUSH, connected to one inbox

A high-water mark would drop messages or block the sender, so none is set; apart from those inboxes: a member of the
group that floods one fills its own memory, and no other's. (An inbox at its mark leaves messages with their sender,
which never blocks, since it has no mark.)
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import zmq

from pipeline.errors import StartError, WireError
from pipeline.wire.address import CLIENT, SOCKET_SUFFIX, Address
from pipeline.wire.codec import MAX_FRAME_BYTES, Sent, encode
from pipeline.wire.group import group_of, socket_mode
from pipeline.wire.messages import Message
from pipeline.wire.sockets import decoded, made_for_this_user, path_of, peers_of, socket_of
from shm.errors import NotInGroup
from shm.permissions import open_to

#: What a context of libzmq has room for unless told otherwise (ZMQ_MAX_SOCKETS): one for each client of a scheduler.
MOST_SOCKETS = 1023

__all__ = ["MOST_SOCKETS", "Pull", "Push", "connect", "endpoint_of", "forget", "leave", "listen"]

#: Most frames taken from a socket before acting on them, so that a flood cannot starve the rest.
_RECEIVE_LIMIT = 512

#: Messages of one sender that wait in the inbox of a run with a group, at most; each of up to 4 MiB.
_MOST_WAITING = 64

#: Messages of one receive before which it is asked whether there is one. Running into an exception costs what three
#: questions do, so from here on that is cheaper.
_ASKED = 4

#: As plain numbers: `int & IntFlag` makes a flag each time.
_INPUT, _NOBLOCK = int(zmq.POLLIN), int(zmq.NOBLOCK)


def endpoint_of(run_dir: Path, address: Address) -> str:
    """What ZeroMQ calls an address of a run.

    Raises:
        StartError: the path is longer than a unix socket's path may be.
    """
    return f"ipc://{path_of(run_dir, address, SOCKET_SUFFIX)}"


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
        #: What members of the run's group may send; None: no other user can connect.
        self._peers = peers_of(run_dir, addresses)
        if self._peers is not None:
            self._socket.setsockopt(zmq.RCVHWM, _MOST_WAITING)
        self._paths: dict[str, tuple[int | None, int]] = {}
        for address, endpoint in zip(addresses, endpoints):
            path, (group, mode) = endpoint.removeprefix("ipc://"), socket_mode(run_dir, address)
            try:
                with made_for_this_user(address):
                    self._socket.bind(endpoint)
                self._paths[path] = (group, mode)
                open_to(group, path, mode)
            except (zmq.ZMQError, OSError, NotInGroup) as error:
                self.close()
                raise StartError(f"cannot bind {endpoint}: {error}") from error
        # The same for as long as the socket lives.
        self._descriptor: int = self._socket.get(zmq.FD)  # type: ignore[assignment]
        self._timeout_ms = -2
        self._signalled = signalled
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)
        #: Nothing was here when the socket was last asked: until its descriptor has input, nothing is. Each question to
        #: the socket is two system calls, and to the descriptor one that takes a third of the time.
        self._empty = False

    @property
    def descriptor(self) -> int:
        """Has input once whenever something has changed: see `pipeline.wire.links.Inbox`."""
        return self._descriptor

    @property
    def quiet(self) -> bool:
        """Whether nothing was here when it was last asked: until the descriptor has input, nothing is."""
        return self._empty

    def resumable(self) -> tuple[Push, ...]:
        """None: no outbox of this link holds anything back."""
        return ()

    @property
    def waiting(self) -> bool:
        """Whether a message is here."""
        # First: the question takes in what the descriptor tells, which does not tell it again if a handler of a signal
        # ends this call before the answer is kept.
        self._empty = False
        here = bool(self._socket.getsockopt(zmq.EVENTS) & _INPUT)  # type: ignore[operator]
        self._empty = not here
        return here

    def receive(self, timeout_ms: int = 0) -> list[Message | WireError]:
        """All messages that are here, waiting up to `timeout_ms` for the first; a bad frame comes as its error."""
        messages: list[Message | WireError] = []
        if not timeout_ms:
            if self._empty and not self._poll.poll(0):
                return messages
        elif self._signalled:
            if not self._wait_for_message(timeout_ms):
                return messages
            messages.append(self._taken(_NOBLOCK))
        else:
            if timeout_ms != self._timeout_ms:
                self._socket.setsockopt(zmq.RCVTIMEO, timeout_ms)
                self._timeout_ms = timeout_ms
            try:
                messages.append(self._taken())
            except zmq.Again:
                self._empty = True
                return messages
        while len(messages) < _ASKED:
            if not self.waiting:
                return messages
            messages.append(self._taken(_NOBLOCK))
        with suppress(zmq.Again):
            while len(messages) < _RECEIVE_LIMIT:
                messages.append(self._taken(_NOBLOCK))
            return messages
        self._empty = True
        return messages

    def _taken(self, flags: int = 0) -> Message | WireError:
        if self._peers is None:
            return decoded(self._socket.recv(flags))
        # 3 us in place of 0.2: only a frame that is not copied knows who has sent it.
        frame = self._socket.recv(flags, copy=False)
        try:
            peer = str(frame.get("Peer-Address"))
        except zmq.ZMQError:  # the kernel does not tell
            peer = ""
        return self._peers.checked(decoded(frame.buffer), peer)

    def wait(self, descriptors: Iterable[int], timeout_ms: int) -> set[int]:
        """Wait until a message is here, or one of these descriptors has input; those that have, after `timeout_ms`."""
        # This asks the socket, too, and does not say what it was told.
        self._empty = False
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
        for path, (group, mode) in self._paths.items():
            if os.path.lexists(path):
                continue
            # Bound a second time, and never unbound: that would end the connections that came by the first, and
            # remove a file of this name later. What the first costs is one descriptor.
            # It takes in what has happened to the socket, too, so that the descriptor does not tell of that any more.
            self._empty = False
            with suppress(zmq.ZMQError, OSError, NotInGroup):
                self._socket.bind(f"ipc://{path}")
                open_to(group, path, mode)
                renewed.append(os.path.basename(path))
        return renewed

    def close(self) -> None:
        """Close and remove the socket's files."""
        self._socket.close()
        for path in self._paths:
            # libzmq removes it too, unless the folder moved under it.
            with suppress(OSError):
                os.unlink(path)

    def _wait_for_message(self, timeout_ms: int) -> bool:
        """Wait until a message is here, however often a signal comes meanwhile; whether one is."""
        # libzmq's descriptor tells of a change only: what there is must be asked for after each.
        if not self._empty and self.waiting:
            return True
        end = time.monotonic() + timeout_ms / 1000
        while (left := end - time.monotonic()) > 0:
            if self._poll.poll(left * 1000) and self.waiting:
                return True
        return False


#: Descriptors of clients' sockets that are not needed any more, and when they may be closed: monotonic seconds.
_unneeded: deque[tuple[float, int]] = deque()


def _close_later(fd: int, linger_ms: int) -> None:
    """Close the descriptor of a client's socket once libzmq's own thread has surely let go of it, in a call to come:
    that thread connects by its number, which must not be another file's by then."""
    _unneeded.append((time.monotonic() + linger_ms / 1000 + 1.0, fd))


def _close_unneeded() -> None:
    now = time.monotonic()
    while _unneeded and _unneeded[0][0] <= now:
        os.close(_unneeded.popleft()[1])


class Push:
    """A connection to one inbox. In a run with a group, none to a client that has no socket of its own by now.

    Raises:
        StartError: the path of the folder is too long.
    """

    def __init__(self, run_dir: Path, address: Address) -> None:
        endpoint = endpoint_of(run_dir, address)
        self._socket = _context().socket(zmq.PUSH)
        _configure(self._socket)
        #: Of the client's socket, if the run has a group; -1 otherwise.
        self._fd = -1
        if address.kind == CLIENT and group_of(run_dir) is not None:
            _close_unneeded()
            self._fd = socket_of(run_dir, address.number, SOCKET_SUFFIX)
            if self._fd < 0:
                return
            # This very socket, also if libzmq connects once more later.
            endpoint = f"ipc:///proc/self/fd/{self._fd}"
        self._socket.connect(endpoint)

    def send(self, message: Sent) -> bool:
        """Send without ever blocking; False if the other side has gone for good."""
        return self.send_frame(encode(message))

    def send_frame(self, frame: bytes) -> bool:
        """As `send`, of a message that is encoded already."""
        try:
            self._socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def proceed(self) -> None:
        """Nothing is held back: libzmq queues."""

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return bool(self._socket.closed)

    def close(self, linger_ms: int = 0) -> None:
        """Close; wait up to `linger_ms` for what has been sent to leave this process."""
        self._socket.close(linger_ms)
        if self._fd >= 0:
            _close_later(self._fd, linger_ms)
            self._fd = -1


def listen(run_dir: Path, *addresses: Address, signalled: bool = False) -> Pull:
    """An inbox under these addresses; see `pipeline.wire.links.listen`."""
    return Pull(run_dir, *addresses, signalled=signalled)


def connect(run_dir: Path, address: Address) -> Push:
    """A way to the inbox of this address; see `pipeline.wire.links.connect`."""
    return Push(run_dir, address)


def leave() -> None:
    """See `pipeline.wire.links.leave`."""
    _context().destroy(linger=0)


def forget(run_dir: Path, address: Address) -> None:
    """Remove the file of a dead process's socket, if it is there."""
    with suppress(OSError):
        os.unlink(path_of(run_dir, address, SOCKET_SUFFIX))
