"""Notices: what workers say of their orders. Pure.

    finished                  what the stage made is the request's, and the request goes on
    failed                    the request is answered with the error
    the slot was too small    the stage runs again, with a larger one
    a part of an answer       the client has it at once; the stage is still at work

The notice of an order that was cancelled, or of a worker that was declared dead, is dropped: the step runs elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import StageFailed, Unavailable
from pipeline.graph.compiled import CompiledStage, Scope
from pipeline.scheduler.answers import Answering
from pipeline.scheduler.fences import Fencing
from pipeline.scheduler.ledger import Request, Step, Worker
from pipeline.scheduler.progress import Progress
from pipeline.scheduler.state import State
from pipeline.scheduler.story import note
from pipeline.wire.columns import PassedColumns, integers, longs, trace_of
from pipeline.wire.messages import OK, TOO_SMALL, Notice, SlotRef
from pipeline.wire.traces import TRACE_BYTES, parts_of
from shm.handle import TensorHandle

__all__ = ["Noticing"]

#: The bound is for graphs with very many branches, whose requests may have done any of them.
_KNOWN_SETTLED = 4096


class Noticing:
    """Takes notices in."""

    def __init__(self, state: State, fencing: Fencing, answering: Answering, progress: Progress) -> None:
        self._state = state
        self._fencing = fencing
        self._answering = answering
        self._progress = progress
        #: What was found by `_before`.
        self._settled: dict[tuple[int, int, int, int], tuple[CompiledStage, ...]] = {}

    def notice(self, number: int, notice: Notice) -> None:
        """A worker has finished a step, or a part of an answer."""
        if not notice.last:
            self._part(number, notice)
            return
        worker = self._state.workers.get(number)
        if worker is not None and (stage := self._state.compiled.stages[worker.stage]).sized:
            # Also from a notice that comes after those of later stages, when the step already counts as finished.
            self._state.sizes.learn(stage, notice)
        if worker is not None and notice.code == Unavailable.code:
            # Also from one that comes after the request's deadline, which has ended it.
            self._state.unreachable[worker.stage] = self._state.now, notice.message
        if (finished := self._finished(worker, notice.request, notice.attempt)) is None:
            return
        request, stage, step = finished
        if self._has_failed(request, stage, notice):
            return
        lease = step.lease
        if notice.parted:
            # The client has all parts already; there may have been none.
            request.parted = stage.index
        if lease is not None:
            if not request.parts:
                self._state.pool_of(lease).commit(lease.slot, lease.generation, readers=1)
            if request.parted != stage.index:
                self._take_values(request, stage, notice)
        self._note_traces(request, notice.trace)
        self._is_done(request, stage)

    def columns(self, number: int, columns: PassedColumns) -> None:
        """A worker has finished steps, side by side: as `passed` for each row.

        What is plain, and neither fenced nor suspected, is settled here, in one loop: what `passed` does for it,
        without what it does for others.
        """
        state, traces = self._state, columns.traces
        requests, attempts = longs(columns.requests), integers(columns.attempts)
        worker = state.workers.get(number)
        if worker is None:
            # As in `_finished`.
            state.counts["late_notices"] += len(requests)
            return
        stage = state.compiled.stages[worker.stage]
        if stage.made is None:
            for row, request_number in enumerate(requests):
                self.passed(number, request_number, attempts[row], _trace(traces, row))
            return
        ledger, orders, progress, now = state.requests, worker.orders, self._progress, state.now
        index, bit = stage.index, stage.bit
        last = state.compiled.scopes[0].last
        event = (now, index)
        settled = 0
        for row, request_number in enumerate(requests):
            attempt = attempts[row]
            key = (request_number, attempt)
            rows = orders.pop(key, 0)
            if not rows:
                # As in `_finished`.
                state.counts["late_notices"] += 1
                continue
            worker.credits += rows
            request = ledger.get(request_number)
            if request is None:
                continue
            if not request.plain or request.fences or request.suspected >= 0:
                self._pass(worker, request, attempt, _trace(traces, row))
                continue
            if request.answered:
                continue
            step = request.steps[index]
            if step is None or step.worker != number or step.attempt != attempt:
                state.counts["late_notices"] += 1
                continue
            if step.lease is not None:
                self._take_made(request, stage, step.lease)
            start, end = row * TRACE_BYTES, (row + 1) * TRACE_BYTES
            for column in traces:
                trace = column[start:end]
                request.traces[trace[0] | trace[1] << 8] = trace
            request.done |= bit
            request.events.append(event)
            settled += 1
            if stage.needs & ~request.done:
                self._settle_before(request, stage)
            if last & ~request.done:
                progress.stage_done(request, stage)
            else:
                self._answering.finish(request, OK, "")
        if settled:
            state.last_ok[index] = now
            state.unreachable.pop(index, None)

    def _take_made(self, request: Request, stage: CompiledStage, lease: SlotRef) -> None:
        """What a stage has made of a request of one row lies where the plan says."""
        segment, slot, generation = lease
        self._state.pool_of(lease).commit(slot, generation, readers=1)
        assert stage.made is not None
        for at, (offset, dtype, shape) in enumerate(stage.made, stage.base):
            request.values[at] = TensorHandle(segment, slot, generation, offset, dtype, shape)

    def passed(self, number: int, order: int, attempt: int, trace: bytes) -> None:
        """A worker has finished a step, and what the stage made lies where the plan says. As `notice`, and quicker.

        Args:
            number: of the worker.
            order: the number of the request.
            attempt: as in `Passed`.
            trace: as in `Passed`.
        """
        worker = self._state.workers.get(number)
        if worker is None or not worker.close(order, attempt):
            # As in `_finished`.
            self._state.counts["late_notices"] += 1
            return
        request = self._state.requests.get(order)
        if request is not None:
            self._pass(worker, request, attempt, trace)

    def _pass(self, worker: Worker, request: Request, attempt: int, trace: bytes) -> None:
        """As `passed`, once the order is closed."""
        state = self._state
        if (finished := self._of_request(worker, request, attempt)) is None:
            return
        stage, step = finished
        lease = step.lease
        if (made := stage.made_of(request.rows)) is None:
            why = f"stage {stage.name} does not say where its outputs lie"
            self._answering.finish(request, StageFailed.code, why)
            return
        if lease is not None:
            segment, slot, generation = lease
            state.pool_of(lease).commit(slot, generation, readers=1)
            request.values[stage.base : stage.base + stage.fields] = [
                TensorHandle(segment, slot, generation, offset, dtype, shape) for offset, dtype, shape in made
            ]
        self._note_traces(request, trace)
        self._is_done(request, stage)

    def _finished(
        self, worker: Worker | None, number: int, attempt: int
    ) -> tuple[Request, CompiledStage, Step] | None:
        """The step that a worker has finished, with its request and stage; None: no request waits for it.

        Args:
            number: of the request.
        """
        state = self._state
        if worker is None or not worker.close(number, attempt):
            # The order was fenced, or its worker was declared dead, or it never was ours: the step runs elsewhere.
            state.counts["late_notices"] += 1
            return None
        request = state.requests.get(number)
        if request is None or (found := self._of_request(worker, request, attempt)) is None:
            return None
        return request, *found

    def _of_request(self, worker: Worker, request: Request, attempt: int) -> tuple[CompiledStage, Step] | None:
        """As `_finished`, once the order is closed."""
        state = self._state
        if request.root.fences:
            # The order has run, so its notice stands for the answer to its fence: that never comes if the worker dies.
            self._fencing.lift(request, worker.number, attempt)
        if request.answered:
            return None
        stage = state.compiled.stages[worker.stage]
        step = request.step_of(stage, worker.number, attempt)
        if step is None:
            state.counts["late_notices"] += 1
            return None
        return stage, step

    def _is_done(self, request: Request, stage: CompiledStage) -> None:
        """A stage has made what it makes of a request."""
        request.done |= stage.bit
        request.events.append((self._state.now, stage.index))
        if request.suspected == stage.index:
            # It has survived this stage, so it was not this request that killed the worker before.
            request.deaths = request.group = 0
        self._state.last_ok[stage.index] = self._state.now
        self._state.unreachable.pop(stage.index, None)
        self._settle_before(request, stage)
        self._progress.stage_done(request, stage)

    def _note_traces(self, request: Request, traces: bytes) -> None:
        noted = request.root.traces
        if len(traces) == TRACE_BYTES and request.parent is None:
            noted[traces[0] | traces[1] << 8] = traces
            return
        for stage, trace in parts_of(traces):
            if request.parent is None:
                noted[stage] = trace
            else:
                noted[stage, request.id] = trace

    def _has_failed(self, request: Request, stage: CompiledStage, notice: Notice) -> bool:
        """Whether the stage failed to make its outputs. If so, the request fails, or runs again with a larger slot."""
        state = self._state
        if notice.code == TOO_SMALL:
            self._resize(request, stage, notice.bytes_out)
        elif notice.code != OK:
            if notice.code == StageFailed.code:
                state.failures.add(stage.index, notice.message, notice.traceback, request.label, state.now)
            self._answering.finish(request, notice.code, notice.message, notice.traceback)
        elif (why := _misfit(stage, notice)) is not None:
            message = f"stage {stage.name} gave {why}"
            state.failures.add(stage.index, message, "", request.label, state.now)
            self._answering.finish(request, StageFailed.code, message)
        else:
            return False
        return True

    def _part(self, number: int, notice: Notice) -> None:
        """A stage has made one more part of an answer, and is still at work."""
        state = self._state
        worker, request = state.workers.get(number), state.requests.get(notice.request)
        if worker is None or request is None or request.answered or (request.id, notice.attempt) not in worker.orders:
            state.counts["late_notices"] += 1
            return
        stage = state.compiled.stages[worker.stage]
        step = request.step_of(stage, number, notice.attempt)
        if step is None:
            state.counts["late_notices"] += 1
            return
        lease = step.lease
        if not stage.may_part or lease is None or len(notice.outputs) != len(stage.singles):
            why = f"stage {stage.name} gave a part of an answer, which it may not give"
            self._answering.finish(request, StageFailed.code, why)
            return
        pool = state.pool_of(lease)
        if not request.parts:
            pool.commit(lease.slot, lease.generation, readers=1)
            self._settle_before(request, stage, stage.bit)
        request.parted = stage.index
        request.parts += 1
        self._answering.part(request, stage, notice, lease)

    def _take_values(self, request: Request, stage: CompiledStage, notice: Notice) -> None:
        base = stage.base
        if not stage.ends_order:
            request.values[base : base + stage.fields] = notice.outputs
            return
        for at, handle in zip(stage.singles, notice.outputs):
            request.values[base + at] = handle
        for at, many in zip(stage.manies, notice.children):
            request.values[base + at] = many
        request.conditions |= notice.conditions << base

    def _settle_before(self, request: Request, current: CompiledStage, running: int = 0) -> None:
        """All stages that `current` needs have run, since otherwise `current` could not have run: they count as done.

        If all followers of a stage have finished, its notice is not needed any more. The notice may come much later, or
        die with its worker. If the scheduler waited for it, the stage could run again without need, and read and write
        slots while the request is answered.

        Args:
            running: mask of the stages that count as finished, since they have begun and never run again.
        """
        if not current.needs & request.scope.stages & ~request.done:
            return
        state = self._state
        for stage in self._before(request.scope, current, request.done, running):
            request.done |= stage.bit
            state.last_ok[stage.index] = state.now
            step = request.steps[stage.index]
            if step is not None and (worker := state.workers.get(step.worker)) is not None:
                worker.close(request.id, step.attempt)
            self._progress.inputs_read(request, stage)

    def _before(self, scope: Scope, current: CompiledStage, done: int, running: int) -> Sequence[CompiledStage]:
        """The stages that `_settle_before` settles: the same for all requests of a scope that are as far as this one.

        Args:
            done: mask of the stages that the request has done.
        """
        key = (scope.index, current.index, done, running)
        found = self._settled.get(key)
        if found is None:
            if len(self._settled) >= _KNOWN_SETTLED:
                self._settled.clear()
            settled: list[CompiledStage] = []
            self._find_before(scope, current, done, running, settled)
            found = self._settled[key] = tuple(settled)
        return found

    def _find_before(
        self, scope: Scope, current: CompiledStage, done: int, running: int, settled: list[CompiledStage]
    ) -> int:
        """Add those stages to `settled`, in their order; the mask of what is done then."""
        stages = self._state.compiled.stages
        past = done | running
        open_ = current.needs & scope.stages & ~done
        if not open_:
            return done
        for stage in stages:
            if not stage.bit & open_ & ~done or stage.must_notify:
                continue
            # Followers stand behind the stage, so no stage that is settled here changes this for another one.
            if stage.following & ~past:
                continue
            settled.append(stage)
            done = self._find_before(scope, stage, done | stage.bit, running, settled)
        return done

    def _resize(self, request: Request, stage: CompiledStage, nbytes: int) -> None:
        """The slot was too small for what `stage` has found: it runs again, with a slot that is large enough."""
        self._state.sizes.need(request, stage, nbytes)
        self._state.counts["resized"] += 1
        note(request.events, self._state.now, f"{stage.name} needs a slot of {nbytes} bytes: it runs again")
        self._fencing.take_back(request, stage)
        self._progress.requeue(request)


def _trace(traces: tuple[bytes, ...], row: int) -> bytes:
    return trace_of(traces, row) if traces else b""


def _misfit(stage: CompiledStage, notice: Notice) -> str | None:
    """What is wrong with the outputs in a notice without an error; None if nothing is."""
    if notice.parted:
        return None if stage.may_part and not notice.outputs else "its outputs in parts, which it may not"
    if len(notice.outputs) != len(stage.singles) or len(notice.children) != len(stage.manies):
        return f"{len(notice.outputs)} tensors and {len(notice.children)} of many"
    if len({len(many) for many in notice.children}) > 1:
        counts = " and ".join(str(len(many)) for many in notice.children)
        return f"{counts} tensors in its outputs of many; expected equal numbers, one of each for every child"
    return None
