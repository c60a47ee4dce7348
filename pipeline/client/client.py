"""Client: what an application uses to send requests to a running pipeline of the same host or pod.

    with Client.connect("resnet") as client:
        result = client.submit(image=jpeg_bytes).get()
        print(result["labels"], result["scores"])

Tensors are written once, into a slot of shared memory that the pipeline has granted; what is sent is
the handle. A client holds as many slots as it has requests under way, and waits for a slot when it
has none: the pipeline's memory never grows.

A client belongs to one thread. Its death is seen by a lock that the kernel drops.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.client.future import Future, Lease, Result
from pipeline.client.traces import by_stage
from pipeline.errors import InvalidRequest, Overloaded, Unavailable
from pipeline.graph.plan import INGRESS, Plan
from pipeline.wire.messages import (
    OK,
    Answers,
    AskStatus,
    Bye,
    Gone,
    Hello,
    Loan,
    SlotRef,
    Status,
    Submission,
    Submit,
    Welcome,
)
from pipeline.wire.run_dir import LOCK, SCHEDULER_LOCK, find_run
from pipeline.wire.sockets import Inbox, Outbox, address_of
from shm import segments
from shm.handle import JSON, TensorHandle, itemsize
from shm.layout import ALIGNMENT
from shm.owner import Alive, OwnerLock, probe
from shm.placement import map_pages
from shm.view import SegmentTable
from stages.errors import SpecMismatch
from stages.spec import TensorSpec, extents_of

__all__ = ["Client", "Draft"]

Array = NDArray[Any]

_LONGEST_DEADLINE_MS = 86_400_000.0

#: Waiting for a slot so long, with nothing under way, means that the own results hold them.
_OWN_FAULT_S = 5.0

#: A hello that came to a scheduler which was about to die is lost.
_ASK_AGAIN_S = 0.5

#: While nothing comes, the scheduler's lock is looked at this often: its death is seen within this time.
_ALIVE_CHECK_MS = 50

#: So long is waited for what a scheduler sent just before it ended.
_LAST_WORDS_MS = 40


class Draft:
    """A slot that is being filled: one writable array for each input. `submit` sends it off."""

    __slots__ = ("_client", "_handles", "_slot", "inputs")

    def __init__(self, client: Client, slot: SlotRef, handles: tuple[TensorHandle, ...], views: Mapping[str, Array]):
        self._client = client
        self._slot: SlotRef | None = slot
        self._handles = handles
        #: name -> writable view; "json" inputs are their UTF-8 bytes.
        self.inputs = views

    def submit(self, *, deadline_ms: float | None = None, priority: int = 0, flush: bool = True) -> Future:
        """Send the request; see `Client.submit`. A draft is submitted, or discarded, once."""
        if self._slot is None:
            raise InvalidRequest("this draft was submitted or discarded before")
        slot, self._slot = self._slot, None
        return self._client._submit(slot, self._handles, deadline_ms, priority, flush)

    def discard(self) -> None:
        """Keep the slot for another draft."""
        if self._slot is not None:
            self._client._keep(self._slot)
            self._slot = None


class Client:
    """A connection to one running pipeline. Use `connect`."""

    plan: Plan
    """What runs on the other side."""

    def __init__(self, run_dir: Path, number: int, name: str, lock: OwnerLock) -> None:
        self._run_dir = run_dir
        self._number = number
        self._name = name
        self._lock = lock
        self._inbox = Inbox(address_of(run_dir, f"clients/{number:x}"))
        self._scheduler = Outbox(address_of(run_dir, "scheduler"))
        self._closed = False
        self._epoch = -1
        self._table = SegmentTable()
        #: The ingress pools by rising slot size: (slot bytes, segment number, slots).
        self._pools: list[tuple[int, int, int]] = []
        self._granted: dict[int, list[SlotRef]] = {}
        self._levels: dict[int, int] = {}
        self._futures: dict[int, Future] = {}
        self._next_tag = 1
        self._submissions: list[Submission] = []
        self._returns: deque[SlotRef] = deque()
        #: Slots of answers that have not been given back.
        self._borrowed = 0
        self._statuses: list[str] = []
        #: Why there is no connection; None while there is one.
        self._lost: Unavailable | None = Unavailable("not connected yet")
        self._asked_at = self._looked_at = 0.0

    # -- coming and going -----------------------------------------------------------------------

    @classmethod
    def connect(cls, run: str | Path | None = None, *, name: str = "client", timeout_s: float = 60.0) -> Client:
        """Connect to a running pipeline, and wait until it is ready.

        Args:
            run: the pipeline's name, the path of its run folder, or None for the only one running.
            name: what `pipeline status` calls this client.
            timeout_s: seconds to wait for the pipeline to be ready.

        Raises:
            Unavailable: it is not running, or not ready in time.
        """
        run_dir = find_run(run)
        number = secrets.randbits(63)
        try:
            lock = OwnerLock.acquire(run_dir / "clients" / f"{number:x}.lock")
        except OSError as error:
            raise Unavailable(f"no pipeline runs in {run_dir}: {error}") from error
        client = cls(run_dir, number, name, lock)
        try:
            client.reconnect(timeout_s)
        except BaseException:
            client.close()
            raise
        return client

    def reconnect(self, timeout_s: float = 60.0) -> None:
        """Wait until the pipeline is there again; at once where the connection was not lost.

        Raises:
            Unavailable: it has stopped for good, or is not ready within `timeout_s` seconds.
        """
        end = time.monotonic() + timeout_s
        while self._lost is not None:
            left = end - time.monotonic()
            if left <= 0:
                raise Unavailable(f"the pipeline in {self._run_dir} was not ready within {timeout_s:g} s")
            self._say_hello(min(_ALIVE_CHECK_MS, int(left * 1000) + 1))

    def _say_hello(self, wait_ms: int) -> None:
        """Ask to be let in, unless that was done a moment ago, and take in a welcome that has come."""
        now = time.monotonic()
        if now - self._asked_at > _ASK_AGAIN_S:
            self._asked_at = now
            self._scheduler.send(Hello(self._number, self._name))
        for message in self._inbox.receive(wait_ms):
            if isinstance(message, Welcome):
                self._join(message)
            elif self._lost is None:
                self._take(message)
        if self._lost is not None and not isinstance(probe(self._run_dir / LOCK), Alive):
            raise Unavailable(f"the pipeline in {self._run_dir} has stopped")

    def _join(self, welcome: Welcome) -> None:
        self.plan = Plan.from_json(welcome.plan)
        self._epoch = welcome.epoch
        # Another table, not the old one emptied: results of before still refer to it.
        self._table = SegmentTable()
        self._pools = []
        for address in welcome.pools:
            segment = segments.attach((address.kind, address.name))
            self._table.add(segment)
            if address.pool.startswith(f"{INGRESS}/"):
                self._pools.append((segment.layout.slot_bytes, segment.number, segment.layout.slots))
                map_pages(segment)
        self._pools.sort()
        self._specs: dict[str, TensorSpec] = {spec.name: spec for spec in self.plan.inputs}
        self._output_names = tuple(name for name, _ in self.plan.outputs)
        self._stage_names = tuple(stage.name for stage in self.plan.stages)
        self._granted = {number: [] for _, number, _ in self._pools}
        self._levels = dict.fromkeys(self._granted, 0)
        # The results of before return into the old deque, where nobody looks any more.
        self._returns = deque()
        self._borrowed = 0
        self._lost = None

    def close(self) -> None:
        """Leave. Whatever this client still holds comes back to the pipeline."""
        if self._closed:
            return
        self._closed = True
        # What is said to nobody would be kept for those 200 ms, and this process with it where it ends.
        there = isinstance(probe(self._run_dir / SCHEDULER_LOCK), Alive)
        if there and self._lost is None:
            self.flush()
            self._scheduler.send(Bye(self._number))
        self._scheduler.close(linger_ms=200 if there else 0)
        self._inbox.close()
        self._table.close()
        # Last: the lock says that this client may still touch its slots.
        self._lock.release()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- requests -------------------------------------------------------------------------------

    def draft(self, *, timeout_s: float | None = None, **shapes: tuple[int, ...]) -> Draft:
        """A slot to write a request's inputs into, by the shape of each.

        Waits for a free slot, at most `timeout_s` seconds.

        Raises:
            InvalidRequest: a shape does not fit the pipeline's inputs.
            TimeoutError: no slot became free in time.
            Overloaded: none will: this client itself keeps too many results, and waits for nothing else.
            Unavailable: the pipeline has stopped or died.
        """
        began = time.monotonic()
        while (draft := self.draft_nowait(**shapes)) is None:
            waited = time.monotonic() - began
            if timeout_s is not None and waited >= timeout_s:
                raise TimeoutError(f"no slot became free within {timeout_s} s")
            if waited > _OWN_FAULT_S and self._borrowed and not self._futures:
                raise Overloaded(
                    f"no slot will become free: this client keeps {self._borrowed} slots of earlier results. "
                    f"Release results when they are read (`with future.get() as result`), or copy what is needed"
                )
            self.pump(1.0 if timeout_s is None else min(1.0, timeout_s - waited))
        return draft

    def draft_nowait(self, **shapes: tuple[int, ...]) -> Draft | None:
        """As `draft`, but None where no slot is free now; one is asked for."""
        if self._lost is not None:
            # The scheduler may be back by now; whoever asks again and again gets through.
            self._say_hello(0)
            if self._lost is not None:
                raise self._lost
        offset = 0
        layout: list[tuple[int, str, tuple[int, ...]]] = []
        if shapes.keys() != self._specs.keys():
            raise InvalidRequest(f"expected the inputs {', '.join(self._specs)}; found {', '.join(shapes) or 'none'}")
        for name, spec in self._specs.items():
            try:
                shape = extents_of(shapes[name])
            except SpecMismatch as error:
                raise InvalidRequest(f"input {name!r}: {error}") from None
            if (why := spec.misfit(spec.dtype, shape)) is not None:
                raise InvalidRequest(f"input {name!r}: {why}")
            layout.append((offset, spec.dtype, shape))
            nbytes = itemsize(spec.dtype)
            for extent in shape:
                nbytes *= extent
            offset += -(-nbytes // ALIGNMENT) * ALIGNMENT
        fitting = next((pool for pool in self._pools if offset <= pool[0]), None)
        if fitting is None:
            raise InvalidRequest(f"the inputs take {offset} bytes; the largest slot has {self._pools[-1][0]}")
        _, number, slots = fitting
        granted = self._granted[number]
        if not granted:
            level = self._levels[number]
            if level < slots:
                self._levels[number] = min(slots, max(4, 2 * level))
                self._scheduler.send(Loan(self._number, number, self._levels[number]))
            return None
        slot = granted.pop()
        handles = tuple([TensorHandle(*slot, *where) for where in layout])
        views = {name: self._table.view(handle, writable=True) for name, handle in zip(self._specs, handles)}
        return Draft(self, slot, handles, views)

    def submit(
        self,
        *,
        deadline_ms: float | None = None,
        priority: int = 0,
        timeout_s: float | None = None,
        flush: bool = True,
        **inputs: Any,
    ) -> Future:
        """Send one request: arrays or bytes by input name, a JSON value for a "json" input.

        Args:
            deadline_ms: milliseconds from now after which the answer is not wanted any more.
            priority: 0 is the highest, 9 the lowest.
            timeout_s: seconds to wait for a free slot.
            flush: False keeps it back until `flush`, `pump` or the next submit that flushes, so that
                many requests share one message.

        Raises:
            InvalidRequest: an input is missing, unknown, or does not fit its spec.
            TimeoutError: no slot became free in time.
            Unavailable: the pipeline has stopped or died.
        """
        arrays: dict[str, Array] = {}
        for name, value in inputs.items():
            spec = self._specs.get(name)
            if spec is not None and spec.dtype == JSON:
                try:
                    arrays[name] = np.frombuffer(json.dumps(value).encode(), np.uint8)
                except (TypeError, ValueError) as error:
                    raise InvalidRequest(f"input {name!r}: no JSON value: {error}") from error
            elif isinstance(value, (bytes, bytearray, memoryview)):
                arrays[name] = np.frombuffer(value, np.uint8)
            else:
                arrays[name] = np.asarray(value)
            if spec is not None and spec.dtype not in (JSON, arrays[name].dtype.name):
                raise InvalidRequest(f"input {name!r}: expected dtype {spec.dtype}, found {arrays[name].dtype.name}")
        draft = self.draft(timeout_s=timeout_s, **{name: array.shape for name, array in arrays.items()})
        for name, array in arrays.items():
            draft.inputs[name][...] = array
        return draft.submit(deadline_ms=deadline_ms, priority=priority, flush=flush)

    def _submit(
        self, slot: SlotRef, handles: tuple[TensorHandle, ...], deadline_ms: float | None, priority: int, flush: bool
    ) -> Future:
        if self._lost is not None:
            raise self._lost
        if slot.segment not in self._granted:
            raise Unavailable("this draft's slot went with the scheduler that has died; make another draft")
        if deadline_ms is not None and not 0 < deadline_ms <= _LONGEST_DEADLINE_MS:
            self._keep(slot)
            raise InvalidRequest(
                f"deadline_ms: expected above 0 and at most {_LONGEST_DEADLINE_MS:g}, found {deadline_ms}"
            )
        now = time.monotonic_ns()
        tag = self._next_tag
        self._next_tag += 1
        deadline = 0 if deadline_ms is None else now + int(deadline_ms * 1e6)
        future = self._futures[tag] = Future(tag, self.pump, self._result, self._table, now)
        self._submissions.append(Submission(tag, slot, handles, deadline, priority))
        if flush:
            self.flush()
        return future

    def _keep(self, slot: SlotRef) -> None:
        # Else it went with a scheduler that has died.
        if slot.segment in self._granted:
            self._granted[slot.segment].append(slot)

    def flush(self) -> None:
        """Send what was kept back: submissions, and slots that are not needed any more."""
        if not self._submissions and not self._returns:
            return
        submissions, self._submissions = tuple(self._submissions), []
        releases = []
        while self._returns:
            releases.append(self._returns.popleft())
        self._borrowed -= len(releases)
        if self._lost is None:
            self._scheduler.send(Submit(self._number, submissions, tuple(releases)))

    # -- answers --------------------------------------------------------------------------------

    def pump(self, timeout_s: float = 0.0) -> int:
        """Take in what has come, waiting up to `timeout_s` seconds for something; how many answers came.

        Raises:
            Unavailable: the pipeline has died; every request under way has failed with the same.
        """
        if self._lost is not None:
            raise self._lost
        self.flush()
        waited = 0.0
        while True:
            step = min(_ALIVE_CHECK_MS, int((timeout_s - waited) * 1000) + 1) if timeout_s > waited else 0
            messages = self._inbox.receive(step)
            if messages:
                return sum(self._take(message) for message in messages)
            waited += step / 1000
            answers = self._look_after_scheduler()
            if answers or waited >= timeout_s:
                return answers

    def _look_after_scheduler(self) -> int:
        """Nothing comes: see whether somebody is there who knows this client; how many answers came meanwhile."""
        now = time.monotonic()
        if now - self._looked_at < _ALIVE_CHECK_MS / 1000:
            return 0
        self._looked_at = now
        if not isinstance(probe(self._run_dir / SCHEDULER_LOCK), Alive):
            # What it sent before it ended, at the end of a drain say, may still be on its way.
            if answers := sum(self._take(message) for message in self._inbox.receive(_LAST_WORDS_MS)):
                self._looked_at = 0.0
                return answers
            self._lose()
        if now - self._asked_at > _ASK_AGAIN_S:
            # The lock may be the next scheduler's by now, which does not know this client, and says so.
            self._asked_at = now
            self._scheduler.send(Submit(self._number, (), ()))
        return 0

    def _take(self, message: object) -> int:
        if isinstance(message, Answers):
            now = time.monotonic_ns()
            for slot in message.grants:
                self._granted[slot.segment].append(slot)
            for answer in message.answers:
                future = self._futures.pop(answer.tag, None)
                if future is None:
                    continue
                for handle in answer.outputs:
                    if isinstance(handle, int):
                        continue  # MISSING: the stage that makes it was skipped
                    ref = SlotRef(handle.segment, handle.slot, handle.generation)
                    if ref not in future.leases:
                        future.leases[ref] = Lease(ref, self._returns)
                        self._borrowed += 1
                future.answer = answer
                future.answered_ns = now
            return len(message.answers)
        if isinstance(message, Status):
            self._statuses.append(message.document)
        elif isinstance(message, Gone) and message.epoch != self._epoch:
            # One of the epoch that has welcomed this client was sent before, and came on another way.
            self._lose()
        return 0

    def _lose(self) -> None:
        """The scheduler that knew this client is dead: nothing that it held will be answered."""
        self._lost = Unavailable(f"the scheduler of pipeline {self.plan.name} has died; ask again in a moment")
        self._submissions.clear()
        # Let go of its memory, so that there is room for that of the next; what is still read keeps its own.
        self._table = SegmentTable()
        # Hello is said at the next request, and again after a while.
        self._asked_at = 0.0
        now = time.monotonic_ns()
        for future in self._futures.values():
            future.fail(self._lost, now)
        self._futures.clear()
        raise self._lost

    def _result(self, future: Future) -> Result:
        answer = future.answer
        assert answer is not None
        assert answer.code == OK
        stages = by_stage(answer.trace, self._stage_names)
        return Result(self._output_names, answer.outputs, future.leases, future.table.view, stages)

    @property
    def outstanding(self) -> int:
        """Requests that have no answer yet."""
        return len(self._futures)

    def status(self, timeout_s: float = 5.0) -> dict[str, Any]:
        """How the pipeline is: the scheduler's view, as plain values.

        Raises:
            TimeoutError: it does not answer.
            Unavailable: the pipeline has died.
        """
        self._statuses.clear()
        self._scheduler.send(AskStatus(self._number))
        end = time.monotonic() + timeout_s
        while not self._statuses:
            if (left := end - time.monotonic()) <= 0:
                raise TimeoutError(f"the scheduler did not answer within {timeout_s} s")
            self.pump(left)
        document: dict[str, Any] = json.loads(self._statuses.pop())
        return document
