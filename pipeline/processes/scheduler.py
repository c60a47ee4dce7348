"""The scheduler process: the thin shell around `pipeline.scheduler`.

It drains its sockets, feeds the state machine, asks it to decide, and sends what was decided: one
message to each receiver, however many orders or answers it holds. It decides nothing itself, and
never touches a tensor's bytes.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time

from pipeline.errors import WireError
from pipeline.processes.child import Boot, boot, freeze_heap
from pipeline.scheduler.instructions import Instructions
from pipeline.scheduler.scheduler import Scheduler
from pipeline.wire.messages import (
    Answers,
    AskStatus,
    Bye,
    Drained,
    Fences,
    Hello,
    Loan,
    Message,
    Orders,
    PeerGone,
    PoolAddress,
    Ready,
    Status,
    Stop,
    Submit,
    Welcome,
)
from pipeline.wire.run_dir import SCHEDULER_LOCK
from pipeline.wire.sockets import Inbox, Ingress, Outbox, Poller, address_of
from shm import segments
from shm.owner import Alive, OwnerLock, probe
from shm.pool import SlotPool

__all__ = ["main"]

_TICK_NS = 50_000_000
_CLIENT_CHECK_NS = 250_000_000
_COLLECT_NS = 5_000_000_000


class _Shell:
    def __init__(self, boot: Boot) -> None:
        self._boot = boot
        attached = [segments.attach(address) for address in boot.segments[:-1]]
        self._segments = attached
        self._scheduler = Scheduler(
            boot.plan, [SlotPool(s) for s in attached], [s.number for s in attached], boot.epoch
        )
        self._lock = OwnerLock.acquire(boot.run_dir / SCHEDULER_LOCK)
        self._inbox = Inbox(address_of(boot.run_dir, "scheduler"))
        self._ingress = Ingress(address_of(boot.run_dir, "ingress"))
        self._supervisor = Outbox(address_of(boot.run_dir, "supervisor"))
        self._workers: dict[int, Outbox] = {}
        #: Clients that said hello before the pipeline was ready.
        self._early: list[tuple[bytes, Hello]] = []
        self._stopping = False
        self._welcome = Welcome(
            boot.epoch,
            boot.plan.to_json(),
            tuple(PoolAddress(a.kind, a.name, p.name) for a, p in zip(boot.segments, boot.plan.pools)),
        )

    def run(self) -> None:
        self._supervisor.send(Ready(-1, -1, 0, os.getpid()))
        freeze_heap()
        poller = Poller()
        poller.add(self._inbox)
        poller.add(self._ingress)
        poller.add(self._boot.lifeline)
        scheduler = self._scheduler
        tick_at = clients_at = collect_at = 0
        while not self._stopping:
            if self._boot.lifeline in poller.wait(_TICK_NS // 1_000_000):
                sys.exit(3)
            # Take in everything that is here before deciding: the more is known, the fewer messages go out.
            now = time.monotonic_ns()
            for message in self._inbox.drain():
                self._from_inside(message, now)
            for client, message in self._ingress.drain():
                self._from_client(client, message, now)
            if now >= tick_at:
                tick_at = now + _TICK_NS
                scheduler.tick(now)
            if now >= clients_at:
                clients_at = now + _CLIENT_CHECK_NS
                self._look_after_clients(now)
            self._carry_out(scheduler.decide(now))
            if now >= collect_at:
                collect_at = now + _COLLECT_NS
                gc.collect(1)

    def _from_inside(self, message: Message | WireError, now: int) -> None:
        if isinstance(message, WireError):
            self._scheduler.counts["refused_frames"] += 1
            print(f"refused a message: {message}", file=sys.stderr)
            return
        if type(message) is Ready and message.worker >= 0:
            self._workers[message.worker] = Outbox(address_of(self._boot.run_dir, f"w{message.worker}"))
        elif type(message) is Stop:
            self._stopping = True
            return
        elif type(message) is AskStatus:
            self._supervisor.send(Status(self._document()))
            return
        self._scheduler.handle(message, now)
        if self._early and self._scheduler.ready:
            early, self._early = self._early, []
            for client, hello in early:
                self._from_client(client, hello, now)

    def _from_client(self, client: bytes, message: Message | WireError, now: int) -> None:
        scheduler = self._scheduler
        if type(message) is Submit:
            scheduler.submit(client, message, now)
        elif type(message) is Loan:
            scheduler.loan(client, message.segment, message.level)
        elif type(message) is Hello:
            if not scheduler.ready:
                self._early.append((client, message))
                return
            scheduler.hello(client, message.name, message.lock, now)
            self._ingress.send(client, self._welcome)
        elif type(message) is Bye:
            scheduler.client_gone(client, now)
        elif type(message) is AskStatus:
            self._ingress.send(client, Status(self._document()))
        else:
            scheduler.counts["refused_frames"] += 1
            why = message if isinstance(message, WireError) else f"a client may not send {type(message).__name__}"
            print(f"refused a client's message: {why}", file=sys.stderr)

    def _look_after_clients(self, now: int) -> None:
        for number, client in list(self._scheduler.ingress.clients.items()):
            # The lock is the client's own file, in a folder of ours: a name, never a path.
            # Not there any more: it left, and its goodbye was lost.
            if not isinstance(probe(self._boot.run_dir / "clients" / os.path.basename(client.lock)), Alive):
                self._scheduler.counts["client_deaths"] += 1
                self._scheduler.client_gone(number, now)

    def _carry_out(self, todo: Instructions) -> None:
        epoch = self._boot.epoch
        for number, orders in todo.orders.items():
            self._workers[number].send(Orders(epoch, tuple(orders)))
        for number, fences in todo.fences.items():
            self._workers[number].send(Fences(epoch, tuple(fences)))
        for client in todo.answers.keys() | todo.grants.keys():
            self._ingress.send(
                client, Answers(tuple(todo.answers.get(client, ())), tuple(todo.grants.get(client, ())))
            )
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
        self._ingress.close()
        self._inbox.close()
        self._supervisor.close(linger_ms=1000)
        for segment in self._segments:
            segment.close()
        self._lock.release()


def main() -> None:
    """Entry point of the process."""
    shell = _Shell(boot("scheduler"))
    shell.run()
    shell.close()


if __name__ == "__main__":
    main()
