"""Completion: what workers say of their orders, and the end of a request. Pure.

When a slot may be given to somebody else: when nobody is left who could still read or write it. For
a finished step that is at once. For a step that was cancelled it is when its worker has answered the
fence, or is dead; until then every slot of its request waits in `fenced_slots`.
"""

from __future__ import annotations

from pipeline.errors import StageFailed
from pipeline.graph.compiled import CompiledStage
from pipeline.scheduler.ledger import Request
from pipeline.scheduler.progress import Progress
from pipeline.scheduler.state import State
from pipeline.scheduler.story import note
from pipeline.wire.messages import MISSING, OK, TOO_SMALL, Answer, Fence, Fenced, Notice, SlotRef
from shm.handle import TensorHandle

__all__ = ["LONGEST_MESSAGE", "Completion"]

LONGEST_MESSAGE = 3000
"""Characters; of a longer one the middle is left out. How a worker has died may be a long story, which many requests
are told at once: what does not fit a frame would never arrive."""


class Completion:
    """Notices, answers, cancellations and fences."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._progress = Progress(state, self.finish, self.give_back)
        #: Called when slots may have come back: scopes that wait for them open.
        self.open_waiting = self._progress.open_waiting

    def notice(self, number: int, notice: Notice) -> None:
        if not notice.last:
            self._part(number, notice)
            return
        worker = self._state.workers.get(number)
        if worker is not None and len((stage := self._state.compiled.stages[worker.stage]).pools) > 1:
            # Also from a notice that comes after those of later stages, when the step is taken for finished.
            self._state.sizes.learn(stage, notice)
        if worker is None or not worker.close(notice.request, notice.attempt):
            # Fenced, from a worker that was declared dead, or not ours: the step runs elsewhere by now.
            self._state.counts["late_notices"] += 1
            return
        request = self._state.requests.get(notice.request)
        if request is None:
            return
        if request.root.fences:
            # It has run: as good as the answer to its fence, which may never come if the worker dies now.
            self.unfence(request, number, notice.attempt)
        if request.answered:
            return
        stage = self._state.compiled.stages[worker.stage]
        step = request.steps[stage.index]
        if step is None or step.worker != number or step.attempt != notice.attempt:
            self._state.counts["late_notices"] += 1
            return
        if self._has_failed(request, stage, notice):
            return
        lease = step.lease
        if notice.parted:
            # Its parts have been answered, perhaps none.
            request.parted = stage.index
        if lease is not None:
            if not request.parts:
                self._state.pool_of(lease).commit(lease.slot, lease.generation, readers=1)
            if request.parted != stage.index:
                self._take_values(request, stage, notice)
        for trace in notice.trace:
            request.root.traces[trace.stage if request.parent is None else (trace.stage, request.id)] = trace
        request.done |= stage.bit
        request.events.append((self._state.now, stage.index))
        if request.suspected == stage.index:
            # It has survived this stage: whatever killed its worker before, it was not this request.
            request.deaths = request.group = 0
        self._state.last_ok[stage.index] = self._state.now
        self._settle_before(request, stage)
        self._progress.stage_done(request, stage)

    def _has_failed(self, request: Request, stage: CompiledStage, notice: Notice) -> bool:
        """Whether the stage has not made its outputs: the request fails, or runs again with a larger slot."""
        state = self._state
        if notice.code == TOO_SMALL:
            self._resize(request, stage, notice.bytes_out)
        elif notice.code != OK:
            if notice.code == StageFailed.code:
                state.failures.add(stage.index, notice.message, notice.traceback, request.label, state.now)
            self.finish(request, notice.code, notice.message, notice.traceback)
        elif (why := _misfit(stage, notice)) is not None:
            message = f"stage {stage.name} gave {why}"
            state.failures.add(stage.index, message, "", request.label, state.now)
            self.finish(request, StageFailed.code, message)
        else:
            return False
        return True

    def _part(self, number: int, notice: Notice) -> None:
        """A stage has made one more part of an answer, and is still at it."""
        state = self._state
        worker, request = state.workers.get(number), state.requests.get(notice.request)
        if worker is None or request is None or request.answered or (request.id, notice.attempt) not in worker.orders:
            state.counts["late_notices"] += 1
            return
        stage = state.compiled.stages[worker.stage]
        step = request.steps[stage.index]
        if step is None or step.worker != number or step.attempt != notice.attempt:
            state.counts["late_notices"] += 1
            return
        lease = step.lease
        if not stage.may_part or lease is None or len(notice.outputs) != len(stage.singles):
            self.finish(request, "StageFailed", f"stage {stage.name} gave a part of an answer, which it may not give")
            return
        pool = state.pool_of(lease)
        if not request.parts:
            pool.commit(lease.slot, lease.generation, readers=1)
            self._settle_before(request, stage, stage.bit)
        request.parted = stage.index
        request.parts += 1
        client = state.ingress.clients.get(request.client)
        if client is None:
            return
        if lease not in client.borrowed:
            # The request reads it too, until its last part: the client may let go of one part before the next comes.
            pool.borrow(lease.slot, lease.generation)
            client.borrowed.add(lease)
        own = {stage.base + at: handle for at, handle in zip(stage.singles, notice.outputs)}
        outputs = tuple([own.get(tensor, MISSING) for tensor in state.compiled.outputs])
        part = Answer(request.tag, OK, "", outputs, (), "", last=False, part=request.parts - 1)
        state.out.answers[client.number].append(part)

    def _take_values(self, request: Request, stage: CompiledStage, notice: Notice) -> None:
        base = stage.base
        if not stage.ends_order:
            request.values[base : base + stage.fields] = notice.outputs
            return
        for at, handle in zip(stage.singles, notice.outputs):
            request.values[base + at] = handle
        for at, many in zip(stage.manies, notice.children):
            request.values[base + at] = many
        request.truths |= notice.truths << base

    def _settle_before(self, request: Request, current: CompiledStage, running: int = 0) -> None:
        """What had to run before `current` has run, or `current` could not have.

        Where all that follow a stage have finished, nothing is missed of its notice, which may come much
        later or die with its worker: it is taken for said. Else a stage could run again, for nobody, and
        read and write while the request is answered.

        Args:
            running: mask of the stages that count as finished, since they have begun and never run again.
        """
        past = request.done | running
        for stage in self._state.compiled.stages:
            if not stage.bit & current.needs & request.scope.stages & ~request.done or stage.must_notify:
                continue
            if any(not self._state.compiled.stages[index].bit & past for index in stage.followers):
                continue
            request.done |= stage.bit
            self._state.last_ok[stage.index] = self._state.now
            step = request.steps[stage.index]
            worker = None if step is None else self._state.workers.get(step.worker)
            if step is not None and worker is not None:
                worker.close(request.id, step.attempt)
            self._progress.inputs_read(request, stage)
            self._settle_before(request, stage, running)
            past |= request.done

    def _resize(self, request: Request, stage: CompiledStage, nbytes: int) -> None:
        """Its slot was too small for what `stage` has found: it runs again, with one that is large enough."""
        self._state.sizes.need(request, stage, nbytes)
        self._state.counts["resized"] += 1
        note(request.events, self._state.now, f"{stage.name} needs a slot of {nbytes} bytes: it runs again")
        self.take_back(request, stage)
        self.requeue(request)

    def take_back(self, request: Request, current: CompiledStage) -> None:
        """A stage has not come to an end with this request: it, and what was ordered after it, is open again.

        What it had is given back, and whatever comes of that attempt is dropped.
        """
        reopened = current.bit
        for stage in self._state.compiled.stages[current.index + 1 :]:
            step = request.steps[stage.index]
            if stage.needs & reopened and step is not None and not stage.bit & request.done:
                reopened |= stage.bit
        # Cancel first: `give_back` keeps slots back while a fence is out.
        self.cancel(request, reopened)
        for stage in self._state.compiled.stages[current.index :]:
            if stage.bit & reopened:
                step = request.steps[stage.index]
                request.steps[stage.index] = None
                if step is not None and step.lease is not None:
                    self.give_back(request, step.lease)
        request.attempt += 1

    def requeue(self, request: Request) -> None:
        """Everything that a request waits for, before its equals: it has waited its turn already."""
        for stage in self._state.compiled.stages:
            if not stage.needs & ~request.done and request.is_open(stage):
                request.claimed |= stage.bit
                self._state.queue(request, stage, first=True)

    def finish(self, request: Request, code: str, message: str, traceback: str = "") -> None:
        """Answer, and let go of every slot, as soon as nobody can touch it any more.

        What fails a child fails the request that it came of.
        """
        if len(message) > LONGEST_MESSAGE:
            half = LONGEST_MESSAGE // 2
            message = f"{message[:half]} ... {message[-half:]}"
        if request.parent is not None:
            source = self._state.compiled.stages[request.scope.source].name
            message = f"child {request.position} of {source}: {message}"
            request.parent.events += request.events
            self.finish(request.parent, code, message, traceback)
            return
        compiled = self._state.compiled
        client = self._state.ingress.clients.get(request.client)
        family = tuple(request.family()) if request.children else (request,)
        for member in family:
            member.answered = True
            if code != OK:
                self.cancel(member, member.scope.stages & ~member.done)
            if member.promises:
                self._progress.keep_no_promise(member)
        outputs: tuple[TensorHandle | int, ...] = ()
        if code == OK:
            outputs = tuple(
                [
                    MISSING if request.skipped & source or (value := request.values[tensor]) is None else value  # type: ignore[misc]
                    for tensor, source in zip(compiled.outputs, compiled.output_sources)
                ]
            )
        for member in family:
            kept = compiled.kept if code == OK and client is not None and member is request else ()
            for producer, lease in _leases(member):
                if kept and kept[producer + 1] and producer != request.parted:
                    assert client is not None
                    client.borrowed.add(lease)
                    if request.fences:
                        # A cancelled order may still read it, also after the client has let go.
                        self._state.pool_of(lease).borrow(lease.slot, lease.generation)
                        request.fenced_slots.append(lease)
                else:
                    self.give_back(request, lease)
        if request.stream is not None:
            self._state.streams.finished(request)
        self._state.stories.end(request.label, request.submitted, request.events, self._state.now, code, message)
        self._state.counts.finish(code)
        if client is not None:
            client.requests.discard(request.id)
            if not client.requests:
                self._state.ingress.finished(client)
            traces = tuple(request.traces.values())
            answer = Answer(request.tag, code, message, outputs, traces, traceback, last=True, part=request.parts)
            self._state.out.answers[client.number].append(answer)
        if not request.fences:
            self._forget(family)
        if request.stream is not None and (following := request.stream.next_through()) is not None:
            self.finish(following, OK, "")

    def _forget(self, family: tuple[Request, ...]) -> None:
        for member in family:
            self._state.requests.pop(member.id, None)
            # Child and parent refer to each other: let go of here, or only the collector would free them.
            member.children.clear()

    def give_back(self, request: Request, lease: SlotRef) -> None:
        root = request.root
        if root.fences:
            root.fenced_slots.append(lease)
        else:
            self._state.let_go(self._state.ingress.clients.get(root.client), lease)

    def cancel(self, request: Request, stages: int) -> None:
        """Take back what was ordered of `stages`, a mask of unfinished ones."""
        for stage in self._state.compiled.stages:
            if not stage.bit & stages & request.claimed:
                continue
            request.claimed &= ~stage.bit
            step = request.steps[stage.index]
            if step is None:
                self._state.unqueue(request, stage)
                continue
            key = (request.id, step.attempt)
            worker = self._state.workers.get(step.worker)
            if worker is not None and key in worker.orders:
                request.root.fences.add((step.worker, *key))
                self._state.out.fences[step.worker].append(Fence(*key))

    def fenced(self, message: Fenced) -> None:
        if message.epoch != self._state.epoch:
            return
        worker = self._state.workers.get(message.worker)
        for fence in message.fences:
            if worker is not None:
                worker.close(fence.request, fence.attempt)
            request = self._state.requests.get(fence.request)
            if request is not None:
                self.unfence(request, message.worker, fence.attempt)

    def unfence(self, request: Request, worker: int, attempt: int) -> None:
        root = request.root
        root.fences.discard((worker, request.id, attempt))
        if root.fences:
            return
        fenced_slots, root.fenced_slots = root.fenced_slots, []
        for lease in fenced_slots:
            self.give_back(root, lease)
        if root.answered:
            self._forget(tuple(root.family()))


def _misfit(stage: CompiledStage, notice: Notice) -> str | None:
    """What a notice without an error lacks; None where it tells all."""
    if notice.parted:
        return None if stage.may_part and not notice.outputs else "its outputs in parts, which it may not"
    if len(notice.outputs) != len(stage.singles) or len(notice.children) != len(stage.manies):
        return f"{len(notice.outputs)} tensors and {len(notice.children)} of many"
    if len({len(many) for many in notice.children}) > 1:
        counts = " and ".join(str(len(many)) for many in notice.children)
        return f"{counts} tensors in its outputs of many; expected equal numbers, one of each for every child"
    return None


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
