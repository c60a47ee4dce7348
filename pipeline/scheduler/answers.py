"""Answers: the end of a request, and the parts of an answer before it. Pure.

    finish ─▶ what is still ordered is cancelled, what was promised is for others
           ─▶ the slots of the outputs are the client's until it has read them; all others are given back
           ─▶ the client is told; what fails a child fails the request that it came of
"""

from __future__ import annotations

from pipeline.graph.compiled import CompiledStage
from pipeline.scheduler.fences import Fencing
from pipeline.scheduler.ingress import Client
from pipeline.scheduler.ledger import Request
from pipeline.scheduler.promises import Promises
from pipeline.scheduler.state import State
from pipeline.wire.messages import MISSING, OK, Answer, Notice, SlotRef
from shm.handle import TensorHandle

__all__ = ["LONGEST_MESSAGE", "Answering"]

LONGEST_MESSAGE = 3000
"""Characters; of a longer one the middle is left out. The report of a worker's death may be long, and many requests
get it at once: a message that does not fit a frame would never arrive."""


class Answering:
    """Answers clients."""

    def __init__(self, state: State, fencing: Fencing, promises: Promises) -> None:
        self._state = state
        self._fencing = fencing
        self._promises = promises
        # Asked for with every answer; a property takes as long as what is done with it.
        self._kept = state.compiled.kept

    def finish(self, request: Request, code: str, message: str, traceback: str = "") -> None:
        """Answer, and let go of every slot, as soon as no process can touch it any more.

        What fails a child fails the request that it came of. Requests of the same stream that only waited for this
        answer are answered too. So callers that end several requests may come to one that is answered by then: it
        stays as it is.
        """
        if request.answered:
            return
        if len(message) > LONGEST_MESSAGE:
            half = LONGEST_MESSAGE // 2
            message = f"{message[:half]} ... {message[-half:]}"
        state = self._state
        if request.parent is not None:
            source = state.compiled.stages[request.scope.source].name
            message = f"child {request.position} of {source}: {message}"
            request.parent.events += request.events
            self.finish(request.parent, code, message, traceback)
            return
        self._end(request, code, message, traceback)
        stream = request.stream
        # A loop: as many as the client has slots may wait.
        while stream is not None and (following := stream.next_through()) is not None:
            self._end(following, OK, "", "")

    def _end(self, request: Request, code: str, message: str, traceback: str) -> None:
        state = self._state
        client = state.ingress.clients.get(request.client)
        if state.observation.observers:
            state.observation.ended(request, "" if client is None else client.name, code, message, state.now)
        family = tuple(request.family()) if request.children else (request,)
        for member in family:
            member.answered = True
            if code != OK:
                self._fencing.cancel(member, member.scope.stages & ~member.done)
            if member.promises:
                self._promises.end_all(member)
        outputs = self._outputs(request) if code == OK else ()
        kept = self._kept if code == OK and client is not None else ()
        for member in family:
            self._let_go(member, client, kept if member is request else ())
        if request.stream is not None:
            state.streams.finished(request)
        state.stories.end(request.label, request.submitted, request.events, state.now, code, message)
        state.counts.finish(code)
        if code == OK:
            state.timings.answered(request, state.now)
        if client is not None:
            client.requests.discard(request.id)
            client.several.discard(request.id)
            if not client.requests:
                state.ingress.finished(client)
            traces = b"".join(request.traces.values())
            answer = Answer(request.tag, code, message, outputs, traces, traceback, last=True, part=request.parts)
            state.out.answers[client.number].append(answer)
        if not request.fences:
            self._fencing.forget(family)

    def part(self, request: Request, stage: CompiledStage, notice: Notice, lease: SlotRef) -> None:
        """Send the client one part of an answer.

        Args:
            notice: what `stage` says of the part.
            lease: the slot that the part lies in, which is committed.
        """
        state = self._state
        client = state.ingress.clients.get(request.client)
        if client is None:
            return
        if lease not in client.borrowed:
            # The request reads it too, until its last part: the client may let go of one part before the next comes.
            state.pool_of(lease).borrow(lease.slot, lease.generation)
            client.borrowed.add(lease)
        own = {stage.base + at: handle for at, handle in zip(stage.singles, notice.outputs)}
        outputs = tuple([own.get(tensor, MISSING) for tensor in state.compiled.outputs])
        part = Answer(request.tag, OK, "", outputs, b"", "", last=False, part=request.parts - 1)
        state.out.answers[client.number].append(part)

    def child(self, request: Request) -> None:
        """Send the client what a child, which is done, has made: one part of the answer. Its slots are the client's."""
        state, root = self._state, request.root
        client = state.ingress.clients.get(root.client)
        outputs = self._outputs(request)
        self._let_go(request, client, request.scope.kept if client is not None else ())
        root.parts += 1
        if client is not None:
            part = Answer(root.tag, OK, "", outputs, b"", "", last=False, part=request.position)
            state.out.answers[client.number].append(part)

    def _outputs(self, request: Request) -> tuple[TensorHandle | int, ...]:
        """The tensors of an answer, or of a child's part of it; MISSING in place of those that a skipped stage would
        have made, and of those that went out with the children."""
        compiled = self._state.compiled
        if request.scope.index != compiled.answered:
            return (MISSING,) * len(compiled.outputs)
        return tuple(
            [
                MISSING if request.skipped & source or (value := request.values[tensor]) is None else value  # type: ignore[misc]
                for tensor, source in zip(compiled.outputs, compiled.output_sources)
            ]
        )

    def _let_go(self, request: Request, client: Client | None, kept: tuple[bool, ...]) -> None:
        """A request, or a child, holds no slot any more.

        Args:
            kept: by producer (index + 1): whether its slot is the client's from now on. Empty: none is.
        """
        for producer, lease in _leases(request):
            if kept and kept[producer + 1] and producer != request.parted:
                assert client is not None
                client.borrowed.add(lease)
                if (root := request.root).fences:
                    # A cancelled order may still read it, also after the client has let go.
                    self._state.pool_of(lease).borrow(lease.slot, lease.generation)
                    root.fenced_slots.append(lease)
            else:
                self._fencing.give_back(request, lease)


def _leases(request: Request) -> list[tuple[int, SlotRef]]:
    """Every slot that a request holds, by producer; it holds none of them any more."""
    leases = []
    if request.ingress is not None:
        leases.append((-1, request.ingress))
        request.ingress = None
    for producer, step in enumerate(request.steps):
        if step is not None:
            request.steps[producer] = None
            if step.lease is not None:
                leases.append((producer, step.lease))
    return leases
