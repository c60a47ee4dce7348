"""The scheduler process: the thin shell around `pipeline.scheduler`.

It drains its sockets, feeds the state machine, asks it to decide, and sends what was decided: one
message to each receiver, however many orders or answers it holds. It decides nothing itself, and
never touches a tensor's bytes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import WireError
from pipeline.graph.copying import order_of
from pipeline.processes.child import Boot, boot, collect_garbage, freeze_heap
from pipeline.scheduler.instructions import Instructions
from pipeline.scheduler.scheduler import Scheduler
from pipeline.wire.messages import (
    Answer,
    Answers,
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
    PoolAddress,
    Ready,
    SlotRef,
    Status,
    Stop,
    Submit,
    Welcome,
)
from pipeline.wire.run_dir import SCHEDULER_LOCK
from pipeline.wire.sockets import Inbox, Outbox, address_of
from shm import segments
from shm.owner import Alive, OwnerLock, probe
from shm.pool import SlotPool

__all__ = ["main", "parted"]

_TICK_NS = 50_000_000
_CLIENT_CHECK_NS = 250_000_000
#: In one message, for the reason of `MOST_NOTICES`.
_MOST_ANSWERS = 128


def parted(answers: Sequence[Answer], grants: Sequence[SlotRef]) -> list[Answers]:
    """What is sent to one client: one message, or several where one might not fit a frame."""
    if len(answers) <= _MOST_ANSWERS:
        return [Answers(tuple(answers), tuple(grants))]
    parts = [
        Answers(tuple(answers[start : start + _MOST_ANSWERS]), ()) for start in range(0, len(answers), _MOST_ANSWERS)
    ]
    return [*parts[:-1], Answers(parts[-1].answers, tuple(grants))]


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
        #: Clients that said hello before the pipeline was ready.
        self._early: list[Hello] = []
        self._stopping = False
        self._welcome = Welcome(
            boot.epoch,
            boot.plan.to_json(),
            tuple(PoolAddress(a.kind, a.name, p.name) for a, p in zip(boot.segments, boot.plan.pools)),
        )

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
            self._carry_out(scheduler.decide(now))
            collect_garbage()

    def _take(self, message: Message | WireError, now: int) -> None:
        scheduler = self._scheduler
        if isinstance(message, Submit):
            if message.client in self._clients:
                scheduler.submit(message, now)
            else:
                self._stranger(message.client, Gone(self._boot.epoch))
        elif isinstance(message, WireError):
            scheduler.counts["refused_frames"] += 1
            print(f"refused a message: {message}", file=sys.stderr)
        elif isinstance(message, Loan):
            scheduler.loan(message)
        elif isinstance(message, Hello):
            self._hello(message, now)
        elif isinstance(message, Bye):
            self._goodbye(message.client, now)
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
        self._scheduler.hello(hello.client, hello.name, now)
        outbox = self._clients[hello.client] = Outbox(address_of(self._boot.run_dir, f"clients/{hello.client:x}"))
        outbox.send(self._welcome)

    def _stranger(self, number: int, message: Message) -> None:
        """Answer somebody who has not said hello here, perhaps because it was to a scheduler that is dead."""
        if number < 0 or not isinstance(probe(self._lock_of(number)), Alive):
            return
        outbox = Outbox(address_of(self._boot.run_dir, f"clients/{number:x}"))
        outbox.send(message)
        # In the background: whoever does not take it must not hold anybody up.
        outbox.close(linger_ms=1000)

    def _lock_of(self, client: int) -> Path:
        return self._boot.run_dir / "clients" / f"{client:x}.lock"

    def _goodbye(self, number: int, now: int) -> None:
        self._scheduler.client_gone(number, now)
        outbox = self._clients.pop(number, None)
        if outbox is not None:
            outbox.close()

    def _look_after_clients(self, now: int) -> None:
        for number in tuple(self._clients):
            # Held: it lives. Free: it is dead. Not there: it has left, and its goodbye was lost.
            if not isinstance(probe(self._lock_of(number)), Alive):
                self._scheduler.counts["client_deaths"] += 1
                self._goodbye(number, now)

    def _carry_out(self, todo: Instructions) -> None:
        epoch = self._boot.epoch
        for number, orders in todo.orders.items():
            self._workers[number].send(Orders(epoch, tuple(orders)))
        for number, fences in todo.fences.items():
            self._workers[number].send(Fences(epoch, number, tuple(fences)))
        for client in todo.answers.keys() | todo.grants.keys():
            if (outbox := self._clients.get(client)) is not None:
                for message in parted(todo.answers.get(client, ()), todo.grants.get(client, ())):
                    outbox.send(message)
        for number in todo.gone:
            outbox = self._workers.pop(number, None)
            if outbox is not None:
                outbox.close()
            for other in self._workers.values():
                other.send(PeerGone(number))
        for word in todo.supervisor:
            self._supervisor.send(Drained(self._document()) if type(word) is Drained else word)

    def _document(self) -> str:
        return json.dumps(self._scheduler.status())

    def close(self) -> None:
        for outbox in self._workers.values():
            outbox.close()
        for outbox in self._clients.values():
            # The last answers were sent a moment ago.
            outbox.close(linger_ms=1000)
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
