"""The scheduler process: the thin shell around `pipeline.scheduler`.

It drains its sockets, feeds the state machine, asks it to decide, and sends what was decided: one
message to each receiver, however many orders or answers it holds. It decides nothing itself, and
never touches a tensor's bytes.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import WireError
from pipeline.graph.copying import order_of
from pipeline.graph.interface import welcome_of
from pipeline.processes.child import Boot, boot, collect_garbage, freeze_heap
from pipeline.scheduler.instructions import Instructions
from pipeline.scheduler.scheduler import Scheduler
from pipeline.wire.messages import (
    Again,
    AskStatus,
    Bye,
    Drained,
    Fences,
    Gone,
    Hello,
    Loan,
    Message,
    Orders,
    PeerGone,
    Ready,
    SlotRef,
    Status,
    Stop,
    Submit,
)
from pipeline.wire.run_dir import SCHEDULER_LOCK
from pipeline.wire.sockets import MOST_SOCKETS, Inbox, Outbox, address_of
from shm import segments
from shm.errors import OwnerAlive
from shm.owner import Alive, OwnerLock, OwnerWatch, probe
from shm.pool import SlotPool

__all__ = ["main"]

_TICK_NS = 50_000_000
_CLIENT_CHECK_NS = 250_000_000

#: No epoch's number: what a scheduler calls itself when it ends.
_ENDED = -1
#: So many who are no clients are answered at a time, each for so long.
_MOST_STRANGERS = 32
_STRANGER_S = 0.25

#: Descriptors, as counted in /proc/<pid>/fd: of a scheduler without workers and clients, and for each of them.
_OWN_FILES = 16
_WORKER_FILES = 3
_CLIENT_FILES = 4
_OWN_SOCKETS = 8 + _MOST_STRANGERS


class _Shell:
    def __init__(self, boot: Boot) -> None:
        self._boot = boot
        attached = [segments.attach(address) for address in boot.segments[:-1]]
        self._segments = attached
        pools = [SlotPool(segment, order_of(boot.plan, pool)) for segment, pool in zip(attached, boot.plan.pools)]
        self._scheduler = Scheduler(boot.plan, pools, [s.number for s in attached], boot.epoch)
        self._lock = OwnerLock.acquire(boot.run_dir / SCHEDULER_LOCK)
        self._inbox = Inbox(address_of(boot.run_dir, "scheduler"))
        self._supervisor = Outbox(address_of(boot.run_dir, "supervisor"))
        self._workers: dict[int, Outbox] = {}
        self._clients: dict[int, Outbox] = {}
        #: Of each client its lock, by which its death is seen.
        self._watches: dict[int, OwnerWatch] = {}
        #: Clients that said hello before the pipeline was ready.
        self._early: list[Hello] = []
        self._most_clients = _most_clients(sum(len(stage.workers) for stage in boot.plan.stages), len(boot.segments))
        self._told_of_most = False
        self._most_strangers = max(2, min(_MOST_STRANGERS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 32))
        #: When those were answered who are no clients, within the last second.
        self._strangers: deque[float] = deque()
        self._stopping = False
        self._welcome = welcome_of(boot.plan, boot.segments, boot.epoch)

    def run(self) -> None:
        self._supervisor.send(Ready(-1, -1, 0, os.getpid(), self._boot.epoch))
        freeze_heap()
        scheduler, inbox = self._scheduler, self._inbox
        tick_at = clients_at = 0
        while not self._stopping:
            # Take in everything that is here before deciding: the more is known, the fewer messages go out.
            messages = inbox.receive(_TICK_NS // 1_000_000)
            now = time.monotonic_ns()
            for message in messages:
                self._take(message, now)
            if now >= tick_at:
                tick_at = now + _TICK_NS
                scheduler.tick(now)
            if now >= clients_at:
                clients_at = now + _CLIENT_CHECK_NS
                self._look_after_clients(now)
                self._look_after_files()
            self._carry_out(scheduler.decide(now))
            collect_garbage()

    def _take(self, message: Message | WireError, now: int) -> None:
        scheduler = self._scheduler
        if isinstance(message, (Submit, Loan, Again)) and message.client not in self._clients:
            self._stranger(message.client, Gone(self._boot.epoch))
        elif isinstance(message, Submit):
            scheduler.submit(message, now)
        elif isinstance(message, WireError):
            scheduler.counts["refused_frames"] += 1
            print(f"refused a message: {message}", file=sys.stderr)
        elif isinstance(message, Loan):
            scheduler.loan(message)
        elif isinstance(message, Again):
            scheduler.again(message)
        elif isinstance(message, Hello):
            self._hello(message, now)
        elif isinstance(message, Bye):
            self._goodbye(message.client, now, message.kept)
        elif isinstance(message, AskStatus):
            status = Status(self._document())
            if message.client in self._clients:
                self._clients[message.client].send(status)
            else:
                self._stranger(message.client, status)
        elif isinstance(message, Stop):
            self._stopping = True
        else:
            if isinstance(message, Ready):
                self._workers[message.worker] = Outbox(address_of(self._boot.run_dir, f"w{message.worker}"))
            scheduler.handle(message, now)
            if self._early and scheduler.staffed:
                early, self._early = self._early, []
                for hello in early:
                    self._hello(hello, now)

    def _hello(self, hello: Hello, now: int) -> None:
        if not self._scheduler.staffed:
            self._early.append(hello)
            return
        number = hello.client
        if number not in self._watches:
            if len(self._watches) >= self._most_clients:
                if not self._told_of_most:
                    self._told_of_most = True
                    print(
                        f"client {hello.name} waits to be let in: {self._most_clients} clients are what this process "
                        f"has descriptors for; raise the hard limit of open files (ulimit -n)",
                        file=sys.stderr,
                    )
                return
            try:
                self._watches[number] = OwnerWatch(self._lock_of(number))
            except OSError:
                # It has left again; or its lock was removed, which it makes anew before it says hello once more.
                # Without one, it could not be told when its slots may be given to others.
                return
        self._scheduler.hello(number, hello.name, now)
        outbox = self._clients[number] = Outbox(address_of(self._boot.run_dir, f"clients/{number:x}"))
        outbox.send(self._welcome)

    def _stranger(self, number: int, message: Message) -> None:
        """Answer somebody who has not said hello here, perhaps because it was to a scheduler that is dead."""
        now = time.monotonic()
        while self._strangers and now - self._strangers[0] > _STRANGER_S:
            self._strangers.popleft()
        known = number >= 0 and isinstance(probe(self._lock_of(number)), Alive)
        if not known or len(self._strangers) >= self._most_strangers:
            # Each takes a socket for as long as it may linger, and there are not many. Who waits asks again.
            self._scheduler.counts["refused_strangers"] += 1
            return
        self._strangers.append(now)
        outbox = Outbox(address_of(self._boot.run_dir, f"clients/{number:x}"))
        outbox.send(message)
        # In the background: whoever does not take it must not hold anybody up.
        outbox.close(linger_ms=int(_STRANGER_S * 1000))

    def _lock_of(self, client: int) -> Path:
        return self._boot.run_dir / "clients" / f"{client:x}.lock"

    def _goodbye(self, number: int, now: int, kept: Sequence[SlotRef] = (), linger_ms: int = 0) -> None:
        self._scheduler.client_gone(number, now, kept)
        if number in self._scheduler.ingress.clients:
            return  # its process still reads some answers: it is known, and looked after, until the last is released
        outbox = self._clients.pop(number, None)
        if outbox is not None:
            outbox.close(linger_ms)
        watch = self._watches.pop(number, None)
        if watch is not None:
            watch.close()
            self._told_of_most = False

    def _look_after_clients(self, now: int) -> None:
        for number, watch in tuple(self._watches.items()):
            # It is dead, or has left and its goodbye was lost. Whether its lock file was removed does not matter.
            if not watch.alive:
                self._scheduler.counts["client_deaths"] += 1
                self._goodbye(number, now)

    def _look_after_files(self) -> None:
        """Make anew what was removed of ours in the run's folder; its supervisor makes the folder."""
        try:
            renewed = self._lock.renew()
        except (OSError, OwnerAlive):
            return  # The folder is not there; or the next scheduler is, and this one is about to be killed.
        if self._inbox.renew() or renewed:
            print("the scheduler's lock or socket was removed, and is made anew", file=sys.stderr)

    def _carry_out(self, todo: Instructions) -> None:
        epoch = self._boot.epoch
        for number, orders in todo.orders.items():
            self._workers[number].send(Orders(epoch, tuple(orders)))
        for number, fences in todo.fences.items():
            self._workers[number].send(Fences(epoch, number, tuple(fences)))
        for client, letters in todo.letters.items():
            if (outbox := self._clients.get(client)) is not None:
                for letter in letters:
                    outbox.send(letter)
        for number in todo.lost:
            if (outbox := self._clients.get(number)) is not None:
                outbox.send(Gone(_ENDED))
                self._scheduler.counts["lost_clients"] += 1
                self._goodbye(number, time.monotonic_ns(), linger_ms=1000)
        for number in todo.gone:
            outbox = self._workers.pop(number, None)
            if outbox is not None:
                outbox.close()
            for other in self._workers.values():
                other.send(PeerGone(number))
        for message in todo.supervisor:
            self._supervisor.send(Drained(self._document()) if type(message) is Drained else message)

    def _document(self) -> str:
        return json.dumps(self._scheduler.status())

    def close(self) -> None:
        for outbox in self._workers.values():
            outbox.close()
        for outbox in self._clients.values():
            # So that a client which waits need not find out.
            outbox.send(Gone(_ENDED))
            # The last answers were sent a moment ago.
            outbox.close(linger_ms=1000)
        for watch in self._watches.values():
            watch.close()
        self._inbox.close()
        self._supervisor.close(linger_ms=1000)
        for segment in self._segments:
            segment.close()
        self._lock.release()


def _most_clients(workers: int, segments: int) -> int:
    """How many clients there are descriptors and sockets for. Of more, libzmq would abort this process.

    A client takes four: its lock, the connection from it, and a socket with one to it. Who connects takes one before it
    has said a word, so a quarter is left for those who wait.
    """
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    left = (files - _OWN_FILES - segments - _WORKER_FILES * workers) * 3 // 4 // _CLIENT_FILES
    return max(1, min(left, MOST_SOCKETS - workers - _OWN_SOCKETS))


def main() -> None:
    """Entry point of the process."""
    shell = _Shell(boot("scheduler"))
    shell.run()
    shell.close()


if __name__ == "__main__":
    main()
