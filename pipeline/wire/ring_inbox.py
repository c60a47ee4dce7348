"""RingInbox: the receiving end of the link of rings, and the ZeroMQ inbox beside it, as one.

    epoll ─┬─ a bell of each ring                  edge-triggered: one wake-up, and nothing to read
           ├─ the connection of each ring          handover, requests for room, its end
           ├─ connections of this process's own outboxes: what they say is for those (`resumable`)
           ├─ the listening socket of each address
           └─ the descriptor of the ZeroMQ inbox

A process that only ever waits by `receive` (`polled`) is rung for only while it sleeps (`pipeline.wire.near_rings`).

What a process sends by ZeroMQ is never handed over before what it had put into its ring: when a message of ZeroMQ is
here, all rings are emptied first.

If a call is interrupted, as by a signal's handler that raises, the next one looks at everything (`_mend`).
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pipeline.errors import StartError, WireError
from pipeline.wire import zeromq
from pipeline.wire.address import RING_SUFFIX, Address
from pipeline.wire.group import socket_mode
from pipeline.wire.handover import ASK_ROOM, ROOM, TAKEN, heard, peer_of, receive, say
from pipeline.wire.messages import Message
from pipeline.wire.near_rings import NearRings
from pipeline.wire.ring_outbox import RingOutbox
from pipeline.wire.sockets import decoded, made_for_this_user, path_of, peers_of
from shm.errors import NotInGroup, RingBroken
from shm.permissions import open_to
from shm.ring import RingReader

__all__ = ["RingInbox"]

#: Most frames taken from a ring before acting on them, so that a flood cannot starve the rest.
_RECEIVE_LIMIT = 512

#: Connections that may wait to be accepted. A writer that finds no room there uses ZeroMQ.
_BACKLOG = 1024

_MOST_EVENTS = 64
_LEVEL, _EDGE = select.EPOLLIN, select.EPOLLIN | select.EPOLLET


class _Incoming:
    """A ring that others write.

    Args:
        connection: that it comes by.
    """

    __slots__ = ("asked", "bell", "connection", "over", "peer", "reader")

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.peer = str(peer_of(connection))
        self.reader: RingReader | None = None
        self.bell = -1
        #: Whether its writer waits for room.
        self.asked = False
        #: Whether its writer has gone: what is in it is still taken in.
        self.over = False


class _Listening:
    """A socket at which rings are handed over.

    Args:
        run_dir, address: whose it is.

    Raises:
        OSError, NotInGroup: it cannot be made.
    """

    def __init__(self, run_dir: Path, address: Address) -> None:
        self.path = path_of(run_dir, address, RING_SUFFIX)
        group, mode = socket_mode(run_dir, address)
        self.socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            # Of a process that was killed.
            with suppress(FileNotFoundError):
                os.unlink(self.path)
            with made_for_this_user(address):
                self.socket.bind(self.path)
            open_to(group, self.path, mode)
            self.file = os.stat(self.path).st_ino
            self.socket.listen(_BACKLOG)
        except BaseException:
            self.socket.close()
            raise

    def close(self) -> None:
        self.socket.close()
        # By now another process may have its own there.
        with suppress(OSError):
            if os.stat(self.path, follow_symlinks=False).st_ino == self.file:
                os.unlink(self.path)


class RingInbox:
    """The inbox of a process; see `pipeline.wire.links.Inbox`.

    Args:
        run_dir: the folder of the run.
        addresses: of the process.
        signalled, polled, spins: see `pipeline.wire.links.listen`.

    Raises:
        StartError: an address cannot be bound.
    """

    def __init__(
        self, run_dir: Path, *addresses: Address, signalled: bool = False, polled: bool = False, spins: bool = False
    ) -> None:
        self._run_dir = run_dir
        self._pull = zeromq.listen(run_dir, *addresses, signalled=signalled)
        self._poll = select.epoll()
        self._poll.register(self._pull.descriptor, _LEVEL)
        self._peers = peers_of(run_dir, addresses)
        #: Given up for a moment if a connection comes and there is no descriptor left for it.
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self.closed = False
        """Whether `close` was called."""
        self._listening: dict[Address, _Listening] = {}
        #: By descriptor: what it is of.
        self._sources: dict[int, _Listening | _Incoming | RingOutbox] = {}
        self._incoming: dict[_Incoming, None] = {}
        #: Rings that may have something, in the order in which they were found.
        self._ready: dict[_Incoming, None] = {}
        self._near = NearRings(self._ready, spins) if polled else None
        self._resumable: dict[RingOutbox, None] = {}
        #: Whether the descriptor of ZeroMQ has input.
        self._control = False
        #: Whether a call is under way, or has not come to its end.
        self._torn = False
        for address in addresses:
            try:
                self._listen(address)
            except (OSError, NotInGroup) as error:
                self.close()
                raise StartError(f"cannot bind {path_of(run_dir, address, RING_SUFFIX)}: {error}") from error

    def _listen(self, address: Address) -> None:
        listening = _Listening(self._run_dir, address)
        self._listening[address] = listening
        self._sources[listening.socket.fileno()] = listening
        self._poll.register(listening.socket.fileno(), _LEVEL)

    # -- as of every inbox ----------------------------------------------------------------------

    @property
    def descriptor(self) -> int:
        """See `pipeline.wire.links.Inbox`."""
        # What comes into a ring that is near changes nothing there.
        assert self._near is None
        return self._poll.fileno()

    @property
    def waiting(self) -> bool:
        """Whether a message is here, or an outbox can go on."""
        self._collect(0)
        if self._ready or self._resumable:
            return True
        return (self._control or not self._pull.quiet) and self._pull.waiting

    def receive(self, timeout_ms: int = 0) -> list[Message | WireError]:
        """All messages that are here, waiting up to `timeout_ms` for the first; a bad frame comes as its error.

        It ends early if an outbox can go on.
        """
        end = time.monotonic() + timeout_ms / 1000 if timeout_ms else 0.0
        left = timeout_ms / 1000
        while True:
            idle = not self._ready and not self._resumable and self._pull.quiet
            self._collect(left if idle else 0)
            messages = self._taken()
            if messages or self._resumable or not timeout_ms:
                return messages
            if (left := end - time.monotonic()) <= 0:
                return messages

    def wait(self, descriptors: Iterable[int], timeout_ms: int) -> set[int]:
        """Wait until a message is here, or one of these descriptors has input; those that have, after `timeout_ms`."""
        poll = select.poll()
        poll.register(self._poll.fileno(), select.POLLIN)
        for descriptor in descriptors:
            poll.register(descriptor, select.POLLIN)
        if self._near is not None:
            self._near.fall_asleep()
        here = bool(self._ready or self._resumable) or not self._pull.quiet
        found = {fd for fd, _ in poll.poll(0 if here else max(0, timeout_ms))}
        return found - {self._poll.fileno()}

    def resumable(self) -> list[RingOutbox]:
        """Outboxes of this process that can go on: each must `proceed`."""
        return list(self._resumable) if self._resumable else []

    def renew(self) -> list[str]:
        """Make anew what was removed of its files, and say which: none while the folder is gone."""
        renewed = self._pull.renew()
        for address, listening in list(self._listening.items()):
            if os.path.lexists(listening.path):
                continue
            with suppress(OSError, NotInGroup):
                self._listen(address)
                # Those that have connected to the first one stay connected.
                self._forget_source(listening.socket.fileno())
                listening.close()
                renewed.append(os.path.basename(listening.path))
        return renewed

    def close(self) -> None:
        """Close it, and remove its files."""
        self.closed = True
        for listening in self._listening.values():
            listening.close()
        for incoming in list(self._incoming):
            self._end(incoming)
        self._sources.clear()
        self._resumable.clear()
        self._poll.close()
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
        self._pull.close()

    # -- for the outboxes of this process -------------------------------------------------------

    def watch(self, outbox: RingOutbox, descriptor: int) -> bool:
        """See `pipeline.wire.ring_outbox.Watch`."""
        if self.closed:
            return False
        self._sources[descriptor] = outbox
        self._poll.register(descriptor, _EDGE)
        return True

    def watch_output(self, descriptor: int, wanted: bool) -> None:
        """See `pipeline.wire.ring_outbox.Watch`."""
        if not self.closed:
            self._poll.modify(descriptor, _EDGE | select.EPOLLOUT if wanted else _EDGE)

    def resumed(self, outbox: RingOutbox) -> None:
        """See `pipeline.wire.ring_outbox.Watch`."""
        self._resumable.pop(outbox, None)

    def unwatch(self, descriptor: int) -> None:
        """See `pipeline.wire.ring_outbox.Watch`."""
        outbox = self._sources.get(descriptor)
        if isinstance(outbox, RingOutbox):
            self._forget_source(descriptor)
            self._resumable.pop(outbox, None)

    # -- what has happened ----------------------------------------------------------------------

    def _collect(self, timeout_s: float) -> None:
        """Note what has happened, waiting so long for something."""
        near = self._near
        if self._torn:
            self._mend()
            timeout_s = 0.0
        self._torn = True
        if near is not None and (near.look() or (timeout_s and near.spin())):
            timeout_s = 0.0
        events = self._poll.poll(timeout_s, _MOST_EVENTS)
        if near is not None and timeout_s:
            near.rise(bool(events))
        for descriptor, _ in events:
            source = self._sources.get(descriptor)
            if isinstance(source, _Incoming):
                if descriptor != source.bell:
                    self._hear(source)
                self._ready[source] = None
            elif isinstance(source, RingOutbox):
                self._resumable[source] = None
            elif source is not None:
                self._accept(source)
            else:
                self._control = True
        self._torn = False

    def _mend(self) -> None:
        """A call was interrupted: what it had been told is not told again."""
        self._control = True
        for incoming in list(self._incoming):
            if incoming.reader is None:
                # Its ring may be lost. Its writer sends by ZeroMQ what it had put into it.
                self._end(incoming)
                continue
            # Or what it had asked for is not known: at any word, it asks anew.
            say(incoming.connection, TAKEN)
            self._ready[incoming] = None
        for source in list(self._sources.values()):
            if isinstance(source, RingOutbox):
                self._resumable[source] = None

    def _accept(self, listening: _Listening) -> None:
        try:
            connection = listening.socket.accept()[0]
            connection.setblocking(False)
        except BlockingIOError:
            return
        except OSError:
            self._turn_away(listening)
            return
        incoming = _Incoming(connection)
        self._incoming[incoming] = None
        self._watch_incoming(incoming, connection.fileno(), _LEVEL)

    def _turn_away(self, listening: _Listening) -> None:
        """There is no descriptor left for a connection. With the spare one it is accepted and closed, and its writer
        uses ZeroMQ; otherwise it would be told again and again."""
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
        with suppress(OSError):
            listening.socket.accept()[0].close()
        with suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _watch_incoming(self, incoming: _Incoming, descriptor: int, how: int) -> None:
        self._sources[descriptor] = incoming
        try:
            self._poll.register(descriptor, how)
        except OSError:
            # The kernel has no room for it, or it is no bell. Its writer uses ZeroMQ.
            incoming.over, incoming.reader = True, None
            self._ready[incoming] = None

    def _hear(self, incoming: _Incoming) -> None:
        """One packet of a writer's."""
        if incoming.reader is None:
            with suppress(BlockingIOError):
                try:
                    incoming.reader, incoming.bell = receive(incoming.connection)
                except WireError:
                    # If it is a process of ours, it sends by ZeroMQ what it had put there.
                    incoming.over = True
                    return
                if incoming.bell >= 0:
                    self._watch_incoming(incoming, incoming.bell, _EDGE)
                if not incoming.over:
                    say(incoming.connection, TAKEN)
            return
        word = heard(incoming.connection)
        if word == b"":
            incoming.over = True
            # It would be told again and again.
            self._forget_source(incoming.connection.fileno())
        elif word == ASK_ROOM:
            incoming.asked = True

    def _taken(self) -> list[Message | WireError]:
        """What is here by now: that of the rings first."""
        control: list[Message | WireError] = []
        if self._control or not self._pull.quiet:
            control = self._pull.receive()
            self._control = False
            if control:
                # What its senders had put into their rings before must come before it.
                self._ready.update(self._incoming)
        if not self._ready:
            return control
        messages: list[Message | WireError] = []
        for incoming in list(self._ready):
            self._take(incoming, messages)
        messages += control
        return messages

    def _take(self, incoming: _Incoming, messages: list[Message | WireError]) -> None:
        reader, peers = incoming.reader, self._peers
        if reader is not None:
            if self._near is not None:
                self._near.brought(incoming, reader)
            try:
                for frame in reader.take(_RECEIVE_LIMIT):
                    message = decoded(frame)
                    messages.append(message if peers is None else peers.checked(message, incoming.peer))
                waiting = reader.waiting
            except RingBroken as error:
                messages.append(WireError(f"a ring of {incoming.peer} is refused: {error}"))
                incoming.over, waiting = True, False
            if incoming.asked:
                incoming.asked = False
                say(incoming.connection, ROOM)
            if waiting:
                return
        self._ready.pop(incoming, None)
        if incoming.over:
            self._end(incoming)

    def _end(self, incoming: _Incoming) -> None:
        """Let go of a ring."""
        if self._near is not None:
            self._near.forget(incoming)
        self._ready.pop(incoming, None)
        self._incoming.pop(incoming, None)
        self._forget_source(incoming.connection.fileno())
        incoming.connection.close()
        if incoming.bell >= 0:
            self._forget_source(incoming.bell)
            os.close(incoming.bell)
            incoming.bell = -1
        if incoming.reader is not None:
            incoming.reader.release()

    def _forget_source(self, descriptor: int) -> None:
        if self._sources.pop(descriptor, None) is not None:
            # By hand: a copy of it in another process would keep it there.
            with suppress(OSError, ValueError):
                self._poll.unregister(descriptor)

    def forget(self) -> None:
        """This process is the child of a fork: it must not keep its parent's connections open."""
        self.closed = True
        for incoming in self._incoming:
            incoming.connection.close()
            if incoming.bell >= 0:
                os.close(incoming.bell)
        for listening in self._listening.values():
            listening.socket.close()
        self._incoming.clear()
        self._listening.clear()
        self._sources.clear()
        self._ready.clear()
        if self._near is not None:
            self._near.clear()
        self._poll.close()
