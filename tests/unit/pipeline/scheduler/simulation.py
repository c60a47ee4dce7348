"""Simulation: a whole pipeline in one thread, in which every interleaving can be played.

The scheduler, the pools, the workers' batchers and executions are the real ones. These are modelled:

    connections   one queue for each pair (sender, receiver); in order within, in any order between
    workers       idle or computing; a batch reads and half-writes its slots, and ends in a later event;
                  workers of one process forward to each other without a message, and die together
    clients       well behaved or not; they check that an answer's bytes stay as they are until released
    death         at any point; some first part of what the dead process has sent still arrives

A random walk, or Hypothesis, drives it: `choose` says which event comes next.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from pipeline.graph.plan import Plan
from pipeline.graph.slots import places_of
from pipeline.scheduler import door
from pipeline.scheduler.door import Connect, Disconnect, Log
from pipeline.scheduler.scheduler import Scheduler
from pipeline.wire.address import CLIENT, WORKER
from pipeline.wire.messages import (
    MISSING,
    Drain,
    Drained,
    Fenced,
    Fences,
    Keep,
    Kept,
    Message,
    Notice,
    Notices,
    Order,
    Orders,
    PeerGone,
    Ready,
    Retire,
    Submit,
    Welcome,
    WorkerGone,
)
from pipeline.worker.candidates import Waiting, rows_in
from pipeline.worker.execution import Execution
from pipeline.worker.forwarder import Said, notices_of
from pipeline.worker.grouping import batcher_of
from pipeline.worker.lean import Lean
from pipeline.worker.unpacking import misfit, orders_of
from shm import segments
from shm.handle import TensorHandle
from shm.pool import SlotPool
from shm.segment import SegmentSpec
from shm.view import SegmentTable
from tests.unit.pipeline.scheduler.actors import (
    EPOCH,
    MS,
    SCHEDULER,
    SUPERVISOR,
    Client,
    Peer,
    Worker,
    mark_of,
    running_of,
)
from tests.unit.pipeline.scheduler.clientele import Clientele
from tests.unit.pipeline.scheduler.graphs import PARTS, TENSOR_BYTES, stage_of
from tests.unit.pipeline.scheduler.network import Network

__all__ = ["Simulation"]

PEERS: dict[str, Callable[[int], Peer]] = {
    door.SUPERVISOR.kind: lambda number: SUPERVISOR,
    WORKER: lambda number: ("w", number),
    CLIENT: lambda number: ("c", number),
}


class Simulation(Clientele):
    """A pipeline of `plan` whose workers are ready; choose(n) is a number 0..n-1; `lean`: as `Scheduler`."""

    def __init__(self, plan: Plan, choose: Callable[[int], int], lean: bool = True) -> None:
        self.plan = plan
        self.choose = choose
        self.now = 1_000 * MS
        made = [
            # Numbers of its own, since batches are put in their order: the same walk is the same each time.
            segments.create("local", SegmentSpec("sim", pool.name.replace("/", "-"), pool.slot_bytes, pool.slots, number=100 + at))
            for at, pool in enumerate(plan.pools)
        ]
        self._made = made
        self.table = SegmentTable()
        for segment in made:
            self.table.add(segment)
        self.pools = [SlotPool(segment) for segment in made]
        self.scheduler = Scheduler(plan, self.pools, [segment.number for segment in made], EPOCH, lean=lean)
        self.segments = [segment.number for segment in made]
        self.ingress_segments = [made[index].number for index in self.scheduler.compiled.ingress_pools]
        self.network = Network()
        self.workers: dict[int, Worker] = {}
        self.clients: dict[int, Client] = {}
        #: Processes that run or are about to: (first stage, replica) -> number of their first worker.
        self.replicas: dict[tuple[int, int], int | None] = {}
        #: (client, tag) -> the sum of the deaths of workers that computed it alone: a crash counts a half, a kill
        #: from outside a third.
        self.guilt: defaultdict[tuple[int, int], Fraction] = defaultdict(Fraction)
        # Relays do not look at their inputs.
        self._stage_reads_x = any(stage.fields for stage in plan.stages)
        #: What the supervisor was asked to keep.
        self.kept: list[Keep] = []
        self.parted = next((name for name, edge in plan.outputs if edge.tensor == PARTS), None)
        self.lost_workers = False
        self.streaming = choose(3) == 2
        #: (stream, stage) -> its worker, and the sequence number of what that began last.
        self._streams: dict[tuple[int, int], tuple[int, int]] = {}
        #: Processes that were asked to retire, by the number of their first worker.
        self._retiring: set[int] = set()
        self.draining = False
        #: Whether a new version has taken over, to which clients are sent.
        self.replaced = False
        self.drained = False
        self.answered = 0
        #: How many rows were computed out of columns.
        self.rows_in_columns = 0
        #: How many notices were not sent, since their requests were over.
        self.untold = 0
        self._next_worker = 0
        self._mates_of = {stages[0]: stages for stages in plan.processes}
        for first in self._mates_of:
            for replica in range(len(plan.stages[first].workers)):
                self.replicas[first, replica] = None
        while self.start_worker():
            pass
        self.join()
        self._deliver_everything()

    def close(self) -> None:
        """Give the memory back."""
        self.table.close()
        for segment in self._made:
            segment.unlink()

    # -- the network ------------------------------------------------------------------------------

    def _deaf(self, receiver: Peer) -> bool:
        """Whether it is computing: a worker reads messages between batches only."""
        return isinstance(receiver, tuple) and receiver[0] == "w" and bool(self.workers[receiver[1]].rows)

    def deliver(self) -> bool:
        """One message arrives; the scheduler may take in several before it decides."""
        ready = self.network.open(self._deaf)
        if not ready:
            return False
        self._deliver(ready[self.choose(len(ready))])
        return True

    def _deliver(self, connection: tuple[Peer, Peer], decide: bool | None = None) -> None:
        _, receiver = connection
        message = self.network.take(connection)
        if receiver == SCHEDULER:
            self.scheduler.handle(message, self.now)
            if decide or (decide is None and self.choose(3)):
                self.decide()
        elif receiver == SUPERVISOR:
            self._supervisor_takes(message)
        elif isinstance(receiver, tuple):
            if receiver[0] == "w":
                self._worker_takes(self.workers[receiver[1]], message)
            else:
                self._client_takes(self.clients[receiver[1]], message)

    def _deliver_everything(self) -> None:
        while ready := self.network.open(self._deaf):
            self._deliver(ready[0], decide=True)

    def _supervisor_takes(self, message: Message) -> None:
        if isinstance(message, Drained):
            self.drained = True
            return
        assert isinstance(message, Keep)
        for handle in message.inputs:
            if handle == MISSING:
                continue
            assert isinstance(handle, TensorHandle)
            self.table.view(handle)  # it copies them: they must still be there
        self.kept.append(message)
        self.network.send(SUPERVISOR, SCHEDULER, Kept(message.request, ""))

    # -- the scheduler's shell --------------------------------------------------------------------

    def decide(self) -> None:
        """The scheduler decides, and its messages are sent."""
        for receiver, message in self.scheduler.decide(self.now):
            if isinstance(message, Drained) and self.replaced and not self.draining:
                self._check_that_nothing_comes()
            # Connections are not modelled: every process can always reach every other one.
            if receiver.kind in PEERS and not isinstance(message, (Connect, Disconnect, Log, PeerGone, Welcome)):
                self.network.send(SCHEDULER, PEERS[receiver.kind](receiver.number), message)
        self.check()

    def _check_that_nothing_comes(self) -> None:
        """The run is about to end: no client has a slot to fill, nor has it sent one that is still on its way."""
        for client in self._connected():
            assert not client.granted, f"client {client.number} has {client.granted}, and the run ends"
            coming = self.network.coming((client.peer, SCHEDULER))
            # What was sent twice was answered the first time.
            sent = [s.tag for message in coming if isinstance(message, Submit) for s in message.submissions]
            assert not set(sent).intersection(client.waiting), f"{sent} of client {client.number} comes too late"

    def tick(self) -> None:
        """Time passes."""
        self.now += (1, 5, 40)[self.choose(3)] * MS
        self.decide()

    # -- workers ----------------------------------------------------------------------------------

    def start_worker(self) -> bool:
        """The supervisor starts a replica that is missing."""
        missing = [place for place, number in self.replicas.items() if number is None]
        if not missing:
            return False
        first, replica = missing[self.choose(len(missing))]
        process = self.replicas[first, replica] = self._next_worker
        for stage in self._mates_of[first]:
            plan = self.plan.stages[stage]
            number = self._next_worker
            self._next_worker += 1
            current = self.scheduler.compiled.stages[stage]
            made, stages = stage_of(plan), self.scheduler.compiled.stages
            execution = Execution(
                plan, stage, current.base, made, self.table, current.asked, lambda: self.now, len(current.pools) > 1,
                stages=stages,
            )
            lean = Lean(plan, stage, made, self.table, stages, execution, lambda: self.now)
            batcher = batcher_of(self.plan, stage)
            batcher.lean = lean.able
            self.workers[number] = Worker(number, process, stage, replica, batcher, execution, lean)
            self.network.send(("w", number), SCHEDULER, Ready(number, stage, replica, 1000 + process, EPOCH))
        return True

    def retire_worker(self) -> bool:
        """The supervisor asks a process to retire, perhaps before the scheduler has heard that it is ready."""
        able = [n for n in self.replicas.values() if n is not None and n not in self._retiring]
        if not able:
            return False
        process = able[self.choose(len(able))]
        self._retiring.add(process)
        self.lost_workers = True
        for mate in self._mates(self.workers[process]):
            self.network.send(SUPERVISOR, SCHEDULER, Retire(mate.number))
        return True

    def _retire(self, worker: Worker) -> None:
        worker.retired = True
        mates = self._mates(worker)
        if not all(mate.retired for mate in mates):
            return
        self.replicas[mates[0].stage, worker.replica] = None
        for mate in mates:
            assert not mate.rows
            assert not len(mate.batcher), "it was told to leave, and has something to do"
            if mate.late:
                self._send_notices(mate, [])
            mate.alive = False
            for message in self.network.leaves(mate.peer):
                self._comes_too_late(mate, message)
            self.network.send(SUPERVISOR, SCHEDULER, WorkerGone(mate.number, "exit code 0", (), False, False))

    def _comes_too_late(self, worker: Worker, message: Orders) -> None:
        """Orders reach a worker that was told to leave: all are cancelled ones, which another worker has forwarded."""
        came = [order for columns in message.columns for order in orders_of(columns, self.scheduler.compiled.stages)]
        for order in (*message.orders, *came):
            assert not worker.batcher.add(order, self.now), "it was told to leave, and is ordered something"

    def _worker_takes(self, worker: Worker, message: Message) -> None:
        if isinstance(message, Retire):
            self._retire(worker)
        elif isinstance(message, Orders):
            if worker.retired:
                self._comes_too_late(worker, message)
                return
            self.untold += sum([mate.settle(message.settled) for mate in self._mates(worker)])
            for order in message.orders:
                assert order.hop.worker == worker.number
                worker.batcher.add(order, self.now)
            for columns in message.columns:
                assert columns.hops[0].worker == worker.number
                assert misfit(columns, worker.stage, self.scheduler.compiled.stages) is None
                worker.batcher.add_columns(columns, self.now)
            most = self.plan.stages[worker.stage].credits + self.plan.rows - 1
            assert len(worker.batcher) <= most, "more was ordered than credits allow"
        else:
            assert isinstance(message, Fences)
            for fence in message.fences:
                worker.batcher.fence(fence.request, fence.attempt)
            self.network.send(worker.peer, SCHEDULER, Fenced(EPOCH, worker.number, message.fences))

    def _living(self) -> list[Worker]:
        return [worker for worker in self.workers.values() if worker.alive]

    def _mates(self, worker: Worker) -> list[Worker]:
        """The workers of its process, itself among them, in the plan's order."""
        return [mate for mate in self.workers.values() if mate.process == worker.process]

    def _may_begin(self, worker: Worker) -> bool:
        """While there are suspects, a process computes one batch at a time."""
        mates = self._mates(worker)
        computing = [mate for mate in mates if mate.rows]
        suspects = any(mate.batcher.has_suspects for mate in mates) or any(mate.rows[0].order.group for mate in computing)
        return not (computing and suspects)

    def begin(self) -> bool:
        """A worker begins a batch: it reads its inputs, and writes the first half of its outputs."""
        for worker in self._turned(self._living()):
            if worker.rows or not self._may_begin(worker) or (batch := worker.batcher.take(self.now)) is None:
                continue
            stages = self.scheduler.compiled.stages
            worker.columns = batch.columns
            worker.rows = batch.rows or [
                Waiting(order, came) for came, part in batch.columns for order in orders_of(part, stages)
            ]
            self.rows_in_columns += len(worker.rows) if batch.columns else 0
            most = self.plan.stages[worker.stage].batch.max_size
            assert rows_in(worker.rows) <= most or worker.rows[0].order.group or len(worker.rows) == 1
            for row in worker.rows:
                self._check_stream(worker, row.order)
                hop = row.order.hop
                for handle in hop.inputs:
                    if handle == MISSING:
                        continue
                    assert isinstance(handle, TensorHandle), f"{handle} was not filled in by the hop before"
                    worker.read.append((handle, self.table.view(handle).tobytes()))
                for offset in places_of(self.plan.stages[worker.stage].fields, row.order.rows):
                    # If there are many outputs, into the first.
                    if offset + TENSOR_BYTES > self.table.slot_bytes(hop.segment):
                        continue
                    handle = TensorHandle(hop.segment, hop.slot, hop.generation, offset, "uint8", (TENSOR_BYTES,))
                    mark = mark_of(worker.number, row.order.request, row.order.attempt)
                    self.table.view(handle, writable=True)[: TENSOR_BYTES // 2] = np.frombuffer(mark, np.uint8)
                    worker.wrote.append((handle, mark))
            return True
        return False

    def _check_stream(self, worker: Worker, order: Order) -> None:
        """A stream stays at one worker in each stage, and its requests come in their order."""
        request = self.scheduler.requests.get(order.request)
        if not order.stream or request is None or request.answered or request.attempt != order.attempt:
            return
        number, sequence = self._streams.get((order.stream, worker.stage), (worker.number, 0))
        assert number == worker.number, f"{request} of stream {order.stream} is at another worker than those before it"
        assert sequence <= order.sequence, f"{request} of stream {order.stream} comes after sequence number {sequence}"
        self._streams[order.stream, worker.stage] = worker.number, order.sequence

    def finish(self) -> bool:
        """A worker ends its batch: no other may have touched its slots. It sends forwards, then notices."""
        computing = [worker for worker in self._living() if worker.rows]
        if not computing:
            return False
        worker = computing[self.choose(len(computing))]
        for handle, data in worker.read:
            assert self.table.view(handle).tobytes() == data, f"{handle}: changed while worker {worker.number} read it"
        for handle, mark in worker.wrote:
            found = self.table.view(handle)[: TENSOR_BYTES // 2].tobytes()
            assert found == mark, f"{handle}: another process wrote while worker {worker.number} did"
        outcome = worker.lean.run(worker.columns) if worker.columns else worker.execution.run(worker.rows)
        worker.end_batch()
        for number in dict.fromkeys([*outcome.forwards, *outcome.columns]):
            forward = Orders(EPOCH, tuple(outcome.forwards.get(number, ())), tuple(outcome.columns.get(number, ())), worker.settled)
            if self.workers[number].process == worker.process:
                self._worker_takes(self.workers[number], forward)
            else:
                self.network.send(worker.peer, ("w", number), forward)
        worker.late += outcome.late
        if outcome.notices:
            self._send_notices(worker, outcome.notices)
        return True

    def flush(self) -> bool:
        """A worker sends the notices that no process waits for."""
        late = [worker for worker in self._living() if worker.late]
        if not late:
            return False
        self._send_notices(late[self.choose(len(late))], [])
        return True

    def _send_notices(self, worker: Worker, notices: list[Said]) -> None:
        parts = [notice for notice in notices if isinstance(notice, Notice) and not notice.last]
        for notice in parts:
            # One message each, so that any number of them may be lost with their worker.
            self.network.send(worker.peer, SCHEDULER, Notices(EPOCH, worker.number, (notice,)))
        said = worker.late + [notice for notice in notices if notice not in parts]
        worker.late = []
        self.network.send(worker.peer, SCHEDULER, notices_of(EPOCH, worker.number, said))

    def kill_worker(self) -> bool:
        """A worker dies, whatever it is doing, and some of what it sent is lost. The supervisor tells the scheduler."""
        if not (living := self._living()):
            return False
        busy = [worker for worker in living if worker.rows]
        among = busy if busy and self.choose(2) else living
        self.kill(among[self.choose(len(among))])
        return True

    def kill(self, worker: Worker) -> None:
        """This worker dies, and its whole process with it."""
        mates = self._mates(worker)
        running = running_of(mates)
        outside = not self.choose(4)
        everything = [number for numbers in running.values() for number in numbers]
        if len(everything) == 1 and (request := self.scheduler.requests.get(everything[0])) is not None:
            self.guilt[request.client, request.tag] += Fraction(1, 3 if outside else 2)
        self.replicas[mates[0].stage, worker.replica] = None
        self.lost_workers = True
        for mate in reversed(mates):
            mate.alive = False
            self.network.dies(mate.peer, self.choose)
            mine = running.get(mate.number, ())
            beside = len(running) > bool(mine)
            alone = mate.rows[0].order if len(mate.rows) == 1 else None
            row = self.choose(alone.rows) if alone is not None and alone.group and alone.rows > 1 else -1
            gone = WorkerGone(mate.number, "killed by signal 11 (SIGSEGV)", mine, outside, beside, row)
            self.network.send(SUPERVISOR, SCHEDULER, gone)

    # -- what must always hold ----------------------------------------------------------------------

    def check(self) -> None:
        """What the scheduler knows is sound."""
        self.scheduler.validate()

    def settle(self) -> None:
        """No more trouble: every request is answered, and every slot comes back."""
        for _ in range(100_000):
            if not self._progress():
                break
        else:
            raise AssertionError("it never comes to rest")
        for client in self._connected():
            assert not client.waiting, f"no answer for {sorted(client.waiting)} of client {client.number}: {self.story()}"
        for known in self.scheduler.workers.values():
            assert not known.orders, f"worker {known.number} still has {sorted(known.orders)}: {self.story()}"
        assert sorted(self.scheduler.workers) == sorted(worker.number for worker in self._living())
        for client in self._connected():
            self._leave(client, keep=False)
        self._deliver_everything()
        self.probe()
        assert not self.scheduler.requests, self.story()
        assert [pool.free for pool in self.pools] == [pool.slots for pool in self.pools], self.story()
        for worker in self._living():
            assert len(worker.batcher) == 0

    def _progress(self) -> bool:
        moved = self.start_worker()
        while ready := self.network.open(self._deaf):
            self._deliver(ready[self.choose(len(ready))], decide=True)
            moved = True
        self.probe()
        for client in self._connected():
            # It goes there once it has all its answers.
            if client.sent_away and not client.waiting:
                self._leave(client, keep=True)
                moved = True
        for client in [client for client in self.clients.values() if client.alive]:
            while client.held:
                self._release(client, 0)
                moved = True
        moved = self.begin() or self.finish() or self.flush() or bool(self.network.open(self._deaf)) or moved
        if not moved and any(len(worker.batcher) for worker in self._living()):
            self.now += 1000 * MS
            moved = True
        return moved

    def story(self) -> str:
        return f"{self.scheduler.requests} {self.scheduler.status()}"

    def drain(self) -> bool:
        """The supervisor asks for a drain."""
        if self.draining:
            return False
        self.draining = True
        self.network.send(SUPERVISOR, SCHEDULER, Drain(self.now + 3_600_000 * MS))
        return True

    def replace(self) -> bool:
        """A new version has taken over."""
        if self.draining or self.replaced:
            return False
        self.replaced = True
        self.network.send(SUPERVISOR, SCHEDULER, Drain(self.now + 3_600_000 * MS, "demo-2"))
        return True

    def _turned(self, items: list[Any]) -> Iterator[Any]:
        if items:
            start = self.choose(len(items))
            yield from items[start:]
            yield from items[:start]
