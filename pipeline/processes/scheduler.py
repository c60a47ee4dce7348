"""The scheduler process: the thin shell around `pipeline.scheduler`.

It drains its socket, feeds the state machine, asks it to decide, and sends what was decided. It decides nothing
itself, and never touches a tensor's bytes. Its connections are those of `outboxes`.
"""

from __future__ import annotations

import os
import resource
import time

from pipeline.graph.copying import order_of
from pipeline.logs.telling import tell
from pipeline.processes.child import Boot, boot, collect_garbage, freeze_heap
from pipeline.processes.outboxes import Outboxes, limits_of
from pipeline.scheduler.door import SUPERVISOR, ClientGone
from pipeline.scheduler.scheduler import Scheduler
from pipeline.wire.address import SCHEDULER
from pipeline.wire.group import hold_lock
from pipeline.wire.links import listen
from pipeline.wire.messages import PoolAddress, Ready
from shm import segments
from shm.errors import NotInGroup, OwnerAlive
from shm.pool import SlotPool

__all__ = ["main"]

_TICK_MS = 50
_FILES_CHECK_NS = 250_000_000


class _SchedulerShell:
    def __init__(self, boot: Boot) -> None:
        plan = boot.plan
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._boot = boot
        self._segments = [segments.attach(address) for address in boot.segments[:-1]]
        self._scheduler = Scheduler(
            plan,
            [SlotPool(segment, order_of(plan, pool)) for segment, pool in zip(self._segments, plan.pools)],
            [segment.number for segment in self._segments],
            boot.epoch,
            [PoolAddress(a.kind, a.name, pool.name) for a, pool in zip(boot.segments, plan.pools)],
            limits_of(
                files,
                sum(len(stage.workers) for stage in plan.stages),
                len(boot.segments),
                plan.group is not None,
                plan.link == "ring",
            ),
        )
        self._scheduler.expect_observers(boot.extra.get("observers", 0))
        self._lock = hold_lock(boot.run_dir, SCHEDULER)
        self._inbox = listen(boot.run_dir, SCHEDULER, link=plan.link, polled=True, spins=plan.spins)
        self._outboxes = Outboxes(boot.run_dir, self._inbox)
        #: The stages that are not ready, as was told; None: it was never ready.
        self._reasons: set[str] | None = None

    def run(self) -> None:
        scheduler, inbox, outboxes = self._scheduler, self._inbox, self._outboxes
        outboxes.deliver([(SUPERVISOR, Ready(-1, -1, 0, os.getpid(), self._boot.epoch))])
        freeze_heap()
        files_at = 0
        while not scheduler.stopped:
            # Take in everything that is here before deciding: the more the state knows, the fewer messages go out.
            messages = inbox.receive(_TICK_MS)
            for outbox in inbox.resumable():
                outbox.proceed()
            now = time.monotonic_ns()
            for message in messages:
                scheduler.handle(message, now)
            # After the messages: a goodbye that is among them comes first.
            for client in outboxes.dead(now):
                scheduler.handle(ClientGone(client), now)
            for client in outboxes.deliver(scheduler.decide(now)):
                scheduler.handle(ClientGone(client), now)
            if now >= files_at:
                files_at = now + _FILES_CHECK_NS
                self._look_after_files()
                self._tell_readiness()
                for line in scheduler.troubles(now):
                    tell("warning", line)
            collect_garbage()

    def _look_after_files(self) -> None:
        """Make the scheduler's lock and socket anew if they were removed from the run's folder; the supervisor makes
        the folder."""
        try:
            renewed = self._lock.renew()
        except (OSError, OwnerAlive, NotInGroup):
            # The folder is not there; or the next scheduler has taken the lock, and this one is about to be killed.
            return
        if self._inbox.renew() or renewed:
            tell("warning", "the scheduler's lock or socket was removed, and is made anew")

    def _tell_readiness(self) -> None:
        """Tell each change, and not each reason: that a request has not passed for 6 s is no news after 5 s."""
        reasons = self._scheduler.readiness()
        if "" in reasons:
            # It drains, which the supervisor tells.
            return
        if self._reasons is not None and reasons.keys() != self._reasons:
            told = ", ".join(f"{stage}: {why}" for stage, why in reasons.items())
            tell("warning" if reasons else "info", f"not ready: {told}" if reasons else "ready again")
        # Before it was ready for the first time it starts, which the supervisor tells.
        if self._reasons is not None or not reasons:
            self._reasons = set(reasons)

    def close(self) -> None:
        self._inbox.close()
        self._outboxes.close()
        for segment in self._segments:
            segment.close()
        self._lock.release()


def main() -> None:
    """Entry point of the process."""
    shell = _SchedulerShell(boot())
    shell.run()
    shell.close()


if __name__ == "__main__":
    main()
