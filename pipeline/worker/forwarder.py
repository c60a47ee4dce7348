"""Forwarder: the ways on which the workers of one process send what they have made.

    orders   ──▶ the batcher of a worker of the same process: a call, and no message
             ──▶ the socket of a worker elsewhere
    the rest ──▶ the scheduler

Decides nothing: an order names the worker of its next hop, and the scheduler has chosen it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.wire.address import SCHEDULER, Address
from pipeline.wire.columns import Columns, PassedColumns, longs
from pipeline.wire.links import Inbox, Outbox, connect
from pipeline.wire.messages import Message, Notice, Notices, Order, Orders, Passed
from pipeline.worker.batcher import Batcher

__all__ = ["Forwarder", "Said", "notices_of", "untold"]

NO_COLUMNS: Mapping[int, Sequence[Columns]] = {}


Said = Notice | Passed | PassedColumns
"""What a worker says of an order, or of several."""


def notices_of(epoch: int, worker: int, said: Sequence[Said]) -> Notices:
    """What a worker says of its orders, in one message."""
    columns = tuple([each for each in said if type(each) is PassedColumns])
    passed = tuple([each for each in said if type(each) is Passed])
    if len(passed) + len(columns) == len(said):
        return Notices(epoch, worker, (), passed, columns)
    return Notices(epoch, worker, tuple([each for each in said if type(each) is Notice]), passed, columns)


def untold(late: Sequence[Said], settled: int) -> list[Said]:
    """What is left to say of orders that went on, once every request below `settled` is over."""
    return [said for said in late if _is_news(said, settled)]


def _is_news(said: Said, settled: int) -> bool:
    if isinstance(said, PassedColumns):
        return max(longs(said.requests)) >= settled
    # From a notice the scheduler also learns how large slots should be.
    return isinstance(said, Notice) or said.request >= settled


class Forwarder:
    """Where the workers of one process send to.

    Args:
        run_dir: the folder of the run's sockets.
        epoch: the life of the scheduler whose orders they have.
        inbox: of the process.
    """

    def __init__(self, run_dir: Path, epoch: int, inbox: Inbox | None = None) -> None:
        self.epoch = epoch
        #: See `Orders`; those that are forwarded say it too.
        self.settled = 0
        self._run_dir = run_dir
        self._inbox = inbox
        self._scheduler = connect(run_dir, SCHEDULER, inbox)
        self._here: dict[int, Batcher] = {}
        self._peers: dict[int, Outbox] = {}
        #: Workers elsewhere that have died. What is for them is dropped: the scheduler orders it again.
        self._gone: set[int] = set()

    def add(self, number: int, batcher: Batcher) -> None:
        """Add a worker of this process: orders for it go straight into its batcher."""
        self._here[number] = batcher

    def tell_scheduler(self, message: Message) -> None:
        """Send the scheduler something."""
        self._scheduler.send(message)

    def forward(
        self, forwards: Mapping[int, Sequence[Order]], common: Mapping[int, Sequence[Columns]] = NO_COLUMNS
    ) -> None:
        """Hand orders, and `common` ones, to the workers of their next hops, by their numbers."""
        for number in dict.fromkeys([*forwards, *common]):
            orders, columns = forwards.get(number, ()), common.get(number, ())
            batcher = self._here.get(number)
            if batcher is not None:
                now = time.monotonic_ns()
                for order in orders:
                    batcher.add(order, now)
                for each in columns:
                    batcher.add_columns(each, now)
                continue
            if number in self._gone:
                # It was ordered before the worker died. A connection that is made now would never be closed.
                continue
            peer = self._peers.get(number)
            if peer is None:
                peer = self._peers[number] = connect(self._run_dir, Address.worker(number), self._inbox)
            # False: it is dead. The scheduler knows or will know, and orders again.
            peer.send(Orders(self.epoch, tuple(orders), tuple(columns), self.settled))

    def begin(self, epoch: int) -> None:
        """From now on orders are of this life of the scheduler, which numbers its requests anew."""
        self.epoch, self.settled = epoch, 0

    def peer_gone(self, number: int) -> None:
        """A worker elsewhere has died."""
        self._gone.add(number)
        peer = self._peers.pop(number, None)
        if peer is not None:
            peer.close()

    def close(self) -> None:
        """Close every socket, once the last messages to the scheduler have left, or a second later."""
        for peer in self._peers.values():
            # A worker that retires may have handed on an order just now.
            peer.close(linger_ms=1000)
        self._scheduler.close(linger_ms=1000)
