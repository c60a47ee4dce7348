"""The network of a simulation: a queue for each pair of processes. Only messages of one queue keep their order."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable

from pipeline.wire.codec import decode, encode
from pipeline.wire.messages import Message, Orders
from tests.unit.pipeline.scheduler.actors import Peer

__all__ = ["Network"]

Connection = tuple[Peer, Peer]


class Network:
    """What has been sent and not been received."""

    def __init__(self) -> None:
        self._connections: defaultdict[Connection, deque[Message]] = defaultdict(deque)
        self._dead: set[Peer] = set()

    def send(self, sender: Peer, receiver: Peer, message: Message) -> None:
        """Send a message through the codec, as on a real link. Nothing is sent to a dead receiver."""
        if receiver not in self._dead:
            self._connections[sender, receiver].append(decode(encode(message)))

    def open(self, deaf: Callable[[Peer], bool]) -> list[Connection]:
        """The connections whose next message can be received now; `deaf` receivers wait."""
        return [pair for pair, queue in self._connections.items() if queue and not deaf(pair[1])]

    def take(self, connection: Connection) -> Message:
        """The next message of a connection."""
        return self._connections[connection].popleft()

    def coming(self, connection: Connection) -> list[Message]:
        """What is on its way on a connection."""
        return list(self._connections[connection])

    def lose(self, connection: Connection) -> None:
        """The receiver drops the next message of a connection, if there is one."""
        if queue := self._connections[connection]:
            queue.popleft()

    def leaves(self, peer: Peer) -> list[Orders]:
        """A process that has nothing left to do ends; what it has sent arrives. Returns the orders that still came."""
        self._dead.add(peer)
        orders: list[Orders] = []
        for (_, receiver), queue in self._connections.items():
            if receiver == peer:
                orders += [message for message in queue if isinstance(message, Orders)]
                queue.clear()
        return orders

    def dies(self, peer: Peer, choose: Callable[[int], int]) -> None:
        """A process dies: what was sent to it is lost, and on every connection some last part of what it sent."""
        self._dead.add(peer)
        for (sender, receiver), queue in self._connections.items():
            if receiver == peer:
                queue.clear()
            elif sender == peer and queue:
                for _ in range(choose(len(queue) + 1)):
                    queue.pop()
