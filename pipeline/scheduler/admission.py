"""Admission: what a client sends is checked before the scheduler does anything with it. Pure."""

from __future__ import annotations

import heapq

from pipeline.errors import InvalidRequest, Overloaded, StageUnavailable, Unavailable
from pipeline.scheduler.dispatch import Dispatch
from pipeline.scheduler.ingress import Client
from pipeline.scheduler.ledger import Request
from pipeline.scheduler.state import State
from pipeline.wire import traceparent
from pipeline.wire.labels import LONGEST_NAME, label_of
from pipeline.wire.limits import LOWEST_PRIORITY
from pipeline.wire.messages import Answer, SlotRef, Submission
from pipeline.wire.reloads import TRIAL
from shm.handle import TensorHandle, itemsize

__all__ = ["Admission"]

_KNOWN_FORMS = 4096
_FORGOTTEN_DEADLINES = 1024


class Admission:
    """Lets requests in, or refuses them.

    Args:
        dispatch: orders what waits; it is asked to before a request is refused because too many wait.
    """

    def __init__(self, state: State, dispatch: Dispatch) -> None:
        self._state = state
        self._dispatch = dispatch
        self._deadlines: list[tuple[int, int]] = []
        self._slot_bytes = {number: pool.slot_bytes for number, pool in zip(state.segments, state.plan.pools)}
        #: Why a handle of this form does not fit, None if it does, by (input, offset, dtype, shape, segment, rows).
        self._forms: dict[tuple[int, int, str, tuple[int, ...], int, int], str | None] = {}
        compiled = state.compiled
        self._scope = compiled.scopes[0]
        #: The stages that a request waits for at once.
        self._first = [compiled.stages[index] for index in compiled.first]
        #: The segment for requests of several rows; -1: they have one.
        self._several = state.segments[compiled.ingress_pools[-1]] if compiled.rows > 1 else -1

    def submit(self, client: Client, submission: Submission) -> None:
        """A client has sent a request: let it in, or answer why not."""
        if submission.tag <= client.last_tag:
            # The client was interrupted while it sent, and could not tell whether this had left.
            self._state.counts["repeated_submissions"] += 1
            return
        client.last_tag = submission.tag
        lease = submission.slot
        if lease not in client.granted:
            slot = tuple(submission.slot)
            why = f"slot {slot} was not granted to this client, or was submitted already"
            self._refuse(client, submission, InvalidRequest.code, why)
            return
        refusal = self._refusal(client, lease, submission)
        if refusal is None:
            self._admit(client, lease, submission)
        else:
            self._refuse(client, submission, *refusal)
            self._state.ingress.taken_back(client, lease)
            self._state.let_go(client, lease)

    def release(self, client: Client, ref: SlotRef) -> None:
        """A client has finished with a slot."""
        if ref in client.borrowed:
            client.borrowed.remove(ref)
        elif ref in client.granted:
            self._state.ingress.taken_back(client, ref)
        else:
            self._state.counts["refused_releases"] += 1
            return
        self._state.let_go(client, ref)

    def late(self) -> list[Request]:
        """The requests whose deadline has passed, each once."""
        requests = []
        while self._deadlines and self._deadlines[0][0] <= self._state.now:
            request = self._state.requests.get(heapq.heappop(self._deadlines)[1])
            if request is not None and not request.answered:
                requests.append(request)
        return requests

    def _admit(self, client: Client, lease: SlotRef, submission: Submission) -> None:
        state, compiled = self._state, self._state.compiled
        state.ingress.submitted(client, lease)
        state.pool_of(lease).commit(lease.slot, lease.generation, readers=1)
        number = state.number_request()
        deadline = submission.deadline
        if not deadline and state.plan.deadline_ms is not None:
            deadline = state.now + int(state.plan.deadline_ms * 1e6)
        request = Request(
            number,
            self._scope,
            client=client.number,
            tag=submission.tag,
            ingress=lease,
            values=[*submission.inputs, *[None] * (compiled.tensors - compiled.inputs)],
            stages=len(compiled.stages),
            deadline=deadline,
            priority=submission.priority,
            submitted=state.now,
            label=label_of(client.number, submission.tag, submission.name),
            rows=submission.rows,
        )
        state.requests[number] = request
        client.requests.add(number)
        if submission.rows > 1:
            client.several.add(number)
        if deadline:
            heapq.heappush(self._deadlines, (deadline, number))
            if len(self._deadlines) > 2 * len(state.requests) + _FORGOTTEN_DEADLINES:
                # Most requests are answered long before their deadline: their entries must not pile up.
                self._deadlines = [entry for entry in self._deadlines if entry[1] in state.requests]
                heapq.heapify(self._deadlines)
        request.started, request.traceparent = submission.started, submission.traceparent
        if submission.stream:
            state.streams.join(request, client.number, submission.stream, submission.sequence)
        elif state.trials and client.name == TRIAL and submission.rows == 1:
            # A stream has its worker in each stage: so the request reaches those on trial, and nothing else does.
            state.streams.join(request, client.number, submission.tag, 1)
            if (stream := request.stream) is not None:
                stream.workers.update(state.trials)
            state.streams.end(client.number, submission.tag)
        for stage in self._first:
            request.claimed |= stage.bit
            state.queue(request, stage)
        state.counts["requests"] += 1

    def _refusal(self, client: Client, lease: SlotRef, submission: Submission) -> tuple[str, str] | None:
        """(code, message) if the request is not let in, None otherwise."""
        state = self._state
        if (why := self._misfit(lease, submission)) is not None:
            return InvalidRequest.code, why
        if state.draining:
            return Unavailable.code, "the pipeline is stopping"
        stream = state.streams.refusal(client.number, submission.stream, submission.sequence)
        if stream is not None:
            return stream
        if (broken := state.broken()) is not None:
            return StageUnavailable.code, f"stage {broken[0].name}: {broken[1]}"
        most = state.plan.queue_max
        if most is not None and self._waiting() >= most:
            # Requests that came in the same message may still wait though there is credit for them.
            self._dispatch.orders()
            if (waiting := self._waiting()) >= most:
                return Overloaded.code, f"{waiting} requests wait already, queue.max is {most}; try again later"
        return None

    def _waiting(self) -> int:
        return max(self._state.waiting(stage) for stage in self._state.compiled.first)

    def _misfit(self, lease: SlotRef, submission: Submission) -> str | None:
        specs = self._state.plan.inputs
        if len(submission.inputs) != len(specs):
            return f"expected {len(specs)} inputs, found {len(submission.inputs)}"
        if not 0 <= submission.priority <= LOWEST_PRIORITY:
            return f"expected a priority 0..{LOWEST_PRIORITY}, found {submission.priority}"
        if len(submission.name) > LONGEST_NAME:
            return f"expected a name of at most {LONGEST_NAME} characters, found {len(submission.name)}"
        if submission.started < 0:
            return f"expected a start time of monotonic nanoseconds, found {submission.started}"
        if submission.traceparent and (why := traceparent.misfit(submission.traceparent)) is not None:
            return why
        if (why := self._misfit_of_rows(lease, submission)) is not None:
            return why
        rows = submission.rows
        for index, handle in enumerate(submission.inputs):
            if (handle.segment, handle.slot, handle.generation) != submission.slot:
                return f"input {specs[index].name!r} does not lie in the submitted slot"
            form = (index, handle.offset, handle.dtype, handle.shape, lease.segment, rows)
            if form in self._forms:
                why = self._forms[form]
            else:
                why = self._misfit_of(index, handle, self._slot_bytes[lease.segment], rows)
                if len(self._forms) > _KNOWN_FORMS:
                    self._forms.clear()
                self._forms[form] = why
            if why is not None:
                return why
        return None

    def _misfit_of_rows(self, lease: SlotRef, submission: Submission) -> str | None:
        rows, most = submission.rows, self._state.compiled.rows
        if not 1 <= rows <= most:
            return f"expected 1 to {most} rows in a request, found {rows}"
        if (rows > 1) is not (lease.segment == self._several):
            return f"a request of {rows} rows has no slot of this size: several rows have slots of their own"
        if rows > 1 and submission.stream:
            return f"expected one row in a request of a stream, found {rows}"
        return None

    def _misfit_of(self, index: int, handle: TensorHandle, slot_bytes: int, rows: int) -> str | None:
        spec = self._state.plan.inputs[index]
        shape = handle.shape
        if rows > 1:
            if shape[:1] != (rows,):
                return f"input {spec.name!r}: expected {rows} rows, found {list(shape)}"
            shape = shape[1:]
        why = spec.misfit(handle.dtype, shape)
        if why is not None:
            return f"input {spec.name!r}: {why}"
        if min(handle.shape, default=0) < 0 or handle.offset < 0 or handle.offset % itemsize(handle.dtype):
            return f"input {spec.name!r}: offset {handle.offset} or shape {list(handle.shape)} is no place for a tensor"
        if handle.offset + handle.nbytes > slot_bytes:
            return f"input {spec.name!r}: {handle.nbytes} bytes at {handle.offset} do not fit a slot of {slot_bytes}"
        return None

    def _refuse(self, client: Client, submission: Submission, code: str, message: str) -> None:
        state = self._state
        state.counts.refuse(code)
        if state.observation.observers:
            # A name that is too long is among the reasons.
            label = label_of(client.number, submission.tag, submission.name[:LONGEST_NAME])
            state.observation.refused(label, client.name, code, message, submission, state.now)
        state.out.answers[client.number].append(Answer(submission.tag, code, message, (), b"", ""))
