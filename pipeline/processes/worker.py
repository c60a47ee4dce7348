"""The worker process: one replica of one stage, or of several that are colocated.

It takes messages from its socket, gives each of its workers (`pipeline.worker.replica`) its turn, and
waits when none has anything to do. It never decides which worker gets what, and never allocates or frees a slot.

    socket ──Orders──▶ a's batcher ─▶ a ──▶ b's batcher ─▶ b ──Orders──▶ the socket of a worker elsewhere
      of w4 and w5     └─────────── one process ───────────┘

In a sweep every worker computes one batch at most, in the plan's order: a request goes through the whole chain in one
sweep, and no worker waits for another's backlog.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
from collections import deque
from collections.abc import Collection, Sequence

from pipeline.errors import WireError
from pipeline.logs.complaints import Complaints
from pipeline.logs.entry import Entry
from pipeline.logs.telling import tell, tell_entry
from pipeline.processes.child import Boot, boot, collect_garbage, freeze_heap
from pipeline.wire.address import SUPERVISOR, Address
from pipeline.wire.links import Inbox, Outbox, connect, listen
from pipeline.wire.messages import Failed, Fences, Message, Orders, PeerGone, Ready, Reset, Retire, Stop
from pipeline.worker.debugging import refuse_breakpoints
from pipeline.worker.failures import start_failure
from pipeline.worker.forwarder import Forwarder
from pipeline.worker.logs import install
from pipeline.worker.recorder import Recorder
from pipeline.worker.replica import LATE_NS, Replica, may_begin
from shm import segments
from shm.placement import map_pages
from shm.view import SegmentTable

__all__ = ["main"]

_REPORT_NS = 100_000_000
_IDLE_COLLECT_NS = 1_000_000_000
_IDLE_WAIT_MS = 2000
#: How long the loop asks for batches in flight without a pause; after that it pauses in between.
_SPIN_NS = 300_000
_NAP_S = 50e-6
#: How often the loop checks that the socket's files were not removed.
_FILES_NS = 1_000_000_000


class _Process:
    """The loop, and what its workers share."""

    def __init__(self, boot: Boot, socket: Inbox, supervisor: Outbox) -> None:
        self._boot = boot
        self._socket = socket
        self._supervisor = supervisor
        self._forwarder = Forwarder(boot.run_dir, boot.epoch, socket)
        self._table = SegmentTable()
        #: Messages that were read while a batch was computed, in their order.
        self._came: deque[Message | WireError] = deque()
        self._records = segments.attach(boot.segments[-1])
        shared = self._table, self._forwarder, self._look
        self._replicas = [
            Replica(boot.plan, post, boot.replica, Recorder(self._records.slot(post.record)), *shared)
            for post in boot.posts
        ]
        self._complaints = Complaints()
        self._by_number = {replica.number: replica for replica in self._replicas}
        #: Which stage an error at the start has come from; "" if that is plain.
        self.place = ""
        #: No batch is ever in flight while another one is computed.
        self._alone = True
        self._stopping = False
        self._reported_at = 0
        self._files_at = 0
        # Before the stages are set up: that may take long, and these are the segments of now.
        self._pools = self._attach(boot.segments[:-1])

    def set_up(self) -> None:
        """Load the users' stages and make them ready; then tell the scheduler and the supervisor."""
        refuse_breakpoints()
        uses = [self._boot.plan.stages[replica.stage].use for replica in self._replicas]
        packages = [use.partition(":")[0].partition(".")[0] for use in uses]
        install(self._under_way, packages, tell_entry, self._boot.log_level)
        for replica in self._replicas:
            if len(self._replicas) > 1:
                self.place = f"stage {self._boot.plan.stages[replica.stage].name}: "
            replica.set_up()
        self.place = ""
        self._alone = all(replica.concurrency == 1 for replica in self._replicas)
        self._show_memory()
        self._say_ready()

    def _under_way(self) -> tuple[str, list[str]]:
        """What is being computed, for the log."""
        for replica in self._replicas:
            stage, labels = replica.under_way()
            if stage:
                return stage, labels
        return "", []

    def last_words(self, error: BaseException) -> Entry:
        """What to say of an exception that ends this process: StageBroken, or a stage's `sys.exit()`."""
        for replica in self._replicas:
            stage, labels = replica.under_way()
            if stage:
                hint = "; to fail a request alone, raise an exception" if isinstance(error, SystemExit) else ""
                story = replica.story(error)
                text = f"stage {stage} ends its process{hint}: {story.message}"
                return Entry("error", text, "", stage, tuple(labels), traceback=story.traceback, last=True)
        why, trace = start_failure(error)
        return Entry("error", why, traceback=trace, last=True)

    def _attach(self, addresses: Sequence[tuple[str, str]]) -> list[tuple[str, memoryview]]:
        """Attach every segment; the names and the memory of the pools that are read or filled here."""
        pools = []
        for address, pool in zip(addresses, self._boot.plan.pools):
            segment = segments.attach(address)
            self._table.add(segment)
            if any(replica.touches(pool.name) for replica in self._replicas):
                map_pages(segment)
                pools.append((pool.name, segment.buffer))
        return pools

    def _show_memory(self) -> None:
        pools, self._pools = self._pools, []
        for replica in self._replicas:
            replica.attach_memory([buffer for name, buffer in pools if replica.touches(name)])

    def _say_ready(self) -> None:
        """Tell the scheduler of each worker, and the supervisor of the process, under the number of its first
        worker."""
        replica, epoch = self._boot.replica, self._forwarder.epoch
        said = [Ready(each.number, each.stage, replica, os.getpid(), epoch) for each in self._replicas]
        for ready in said:
            self._forwarder.tell_scheduler(ready)
        self._supervisor.send(said[0])

    def _reset(self, message: Reset) -> None:
        """Another scheduler has come, with other slots."""
        # All batches end before any worker forgets its orders: what ends is handed on to the next worker.
        for replica in self._replicas:
            replica.land_all()
        for replica in self._replicas:
            replica.forget()
        self._forwarder.begin(message.epoch)
        self._table.close()
        self._pools = self._attach([(pool.kind, pool.name) for pool in message.pools])
        self._show_memory()
        self._say_ready()

    def run(self) -> None:
        """Work until told to stop."""
        freeze_heap()
        replicas, socket, alone, came = self._replicas, self._socket, self._alone, self._came
        clock = time.monotonic_ns
        idle_since = 0
        timeout = 0
        while True:
            while came:
                timeout = 0
                self._take(came.popleft())
            for message in socket.receive(timeout):
                self._take(message)
            for outbox in socket.resumable():
                outbox.proceed()
            timeout = 0
            moved = False
            for replica in replicas:
                if replica.step(clock()) if alone else replica.step(clock(), may_begin(replicas)):
                    moved = True
            now = clock()
            if now >= self._files_at:
                self._files_at = now + _FILES_NS
                socket.renew()
            if moved:
                idle_since = 0
                collect_garbage()
                if not alone or self._stopping or self._has_orders():
                    continue
                # Nothing is left, so the next question to the socket is the one that waits.
            elif not alone and any(replica.flights for replica in replicas):
                if not idle_since:
                    idle_since = now
                elif now - idle_since > _SPIN_NS:
                    # A batch that takes long is not worth a busy core.
                    time.sleep(_NAP_S)
                continue
            if self._stopping:
                return
            if not idle_since:
                idle_since = now
            timeout = self._wait_ms(now, idle_since)

    def _look(self) -> Collection[object]:
        """What has come while a batch is computed. It is handled when that is over."""
        self._came += self._socket.receive()
        return self._came

    def _has_orders(self) -> bool:
        return sum([len(replica.batcher) for replica in self._replicas]) > 0

    def _wait_ms(self, now: int, idle_since: int) -> int:
        """How long there is nothing to do unless a message comes; does meanwhile what can wait."""
        wake = None
        late = news = False
        # If the pipeline is not busy, this runs between one request and the next, so it must be quick: no generators.
        for replica in self._replicas:
            at = replica.batcher.wake_at()
            if at is not None and (wake is None or at < wake):
                wake = at
            if replica.late:
                late = True
            elif replica.batches != replica.reported:
                news = True
        if wake is not None:
            left = wake - now
            if left < 1_000_000:
                # Sockets wait in whole milliseconds; rounding up would add up to one to every small batch.
                time.sleep(max(0, min(left, 100_000)) / 1e9)
                return 0
            return left // 1_000_000
        if late:
            return LATE_NS // 1_000_000
        if news:
            if now - self._reported_at >= _REPORT_NS:
                self._reported_at = now
                for replica in self._replicas:
                    replica.report()
            return _REPORT_NS // 1_000_000
        if now - idle_since > _IDLE_COLLECT_NS:
            gc.collect()
        return _IDLE_WAIT_MS

    def _take(self, message: Message | WireError) -> None:
        kind = type(message)
        if kind is Orders:
            assert isinstance(message, Orders)
            if message.epoch == self._forwarder.epoch and (message.orders or message.columns):
                first = message.orders[0].hop if message.orders else message.columns[0].hops[0]
                replica = self._by_number.get(first.worker)
                if replica is None:
                    self._refuse(f"did not expect orders for w{first.worker}")
                    return
                self._settle(message.settled)
                replica.add(message.orders)
                if message.columns and not replica.add_columns(message.columns):
                    self._refuse(f"did not expect such orders for w{first.worker}")
        elif isinstance(message, Fences):
            if message.epoch == self._forwarder.epoch and message.worker in self._by_number:
                self._by_number[message.worker].fence(message)
        elif isinstance(message, PeerGone):
            self._forwarder.peer_gone(message.worker)
            for replica in self._replicas:
                if replica.late:
                    # What was sent to the dead worker is lost. The scheduler orders it again once it knows that it was
                    # sent.
                    replica.tell_late()
        elif isinstance(message, Reset):
            self._reset(message)
        elif isinstance(message, Stop):
            self._stop()
        elif isinstance(message, Retire):
            self._retire(message.worker)
        elif isinstance(message, WireError):
            self._refuse(f"refused a message: {message}")
        else:
            self._refuse(f"did not expect a {kind.__name__}")

    def _settle(self, settled: int) -> None:
        """Every request below that number is over."""
        if settled > self._forwarder.settled:
            self._forwarder.settled = settled
            for replica in self._replicas:
                replica.settle(settled)

    def _stop(self) -> None:
        """Finish what is here, then leave."""
        self._stopping = True
        for replica in self._replicas:
            replica.batcher.draining = True

    def _retire(self, number: int) -> None:
        """One of the workers has nothing left to do; once all have nothing left, the process leaves."""
        replica = self._by_number.get(number)
        if replica is None:
            self._refuse(f"did not expect that w{number} retires")
            return
        replica.retired = True
        if all(each.retired for each in self._replicas):
            self._stop()

    def _refuse(self, why: str) -> None:
        self._replicas[0].refused += 1
        if shown := self._complaints.shown(why, time.monotonic_ns()):
            tell("warning", shown)

    def close(self) -> None:
        """Tear the stages down, the last first, and let go of everything."""
        for replica in reversed(self._replicas):
            replica.close()
        self._forwarder.close()
        self._records.close()
        self._table.close()


def main() -> None:
    """Entry point of the process."""
    boot_ = boot()
    number, stage, _ = boot_.posts[0]
    placed = boot_.plan.stages[stage].workers[boot_.replica]
    if placed.cpus:
        # Before anything starts threads, which inherit it. Some sandboxes refuse it; then the worker runs on any CPU.
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, placed.cpus)
    plan = boot_.plan
    addresses = [Address.worker(post.number) for post in boot_.posts]
    socket = listen(boot_.run_dir, *addresses, link=plan.link, polled=True, spins=plan.spins)
    supervisor = connect(boot_.run_dir, SUPERVISOR)
    process = None
    status = 0
    try:
        process = _Process(boot_, socket, supervisor)
        process.set_up()
    except (Exception, SystemExit) as error:
        place = "" if process is None else process.place
        why, story = start_failure(error)
        supervisor.send(Failed(number, f"{place}{why}", story))
        status = 1
    else:
        try:
            process.run()
        except BaseException as error:
            # Without the runtime's frames; it stands in what this worker has printed last. What was under way runs
            # again elsewhere, so nothing is torn down or answered here.
            tell_entry(process.last_words(error))
            if isinstance(error, SystemExit):
                raise
            sys.exit(1)
    if process is not None:
        process.close()
    supervisor.close(linger_ms=1000)
    socket.close()
    sys.exit(status)


if __name__ == "__main__":
    main()
