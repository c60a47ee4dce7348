"""Progress: what a finished stage makes possible. Pure.

    a stage is done ─▶ its followers whose needs are met: into their backlogs, or skipped
                    ─▶ scopes whose needs are met: opened, one child for each of the many tensors
                    ─▶ the slots that no other stage will read: given back
                    ─▶ nothing left to do: the request is answered, or the child is done

A scope is over when its last child is done. Then its stages count as done for the request around it, and what the
children gave lies there as lists, in the children's order, for the stages that join them. A scope whose children need
more slots than can be promised to them (see `promises`) waits.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.graph.compiled import CompiledStage, Scope
from pipeline.scheduler.answers import Answering
from pipeline.scheduler.fences import Fencing
from pipeline.scheduler.ledger import Request
from pipeline.scheduler.promises import Promises
from pipeline.scheduler.state import State
from pipeline.wire.messages import MISSING, OK

__all__ = ["Progress"]


class Progress:
    """Moves requests, and their children, from stage to stage."""

    def __init__(self, state: State, fencing: Fencing, promises: Promises, answering: Answering) -> None:
        self._state = state
        self._fencing = fencing
        self._promises = promises
        self._answering = answering
        #: No stage fans out.
        self._is_flat = len(state.compiled.scopes) == 1
        #: Scopes that wait for promises.
        self._unopened: list[tuple[Request, Scope]] = []

    def stage_done(self, request: Request, stage: CompiledStage) -> None:
        """`stage` is in the request's `done`: go on from there."""
        if not request.scope.last & ~request.done:
            self._through(request)
            return
        self.inputs_read(request, stage)
        if request.plain and self._is_flat and not stage.following & ~request.claimed:
            # All that follows was ordered with it.
            return
        stages = self._state.compiled.stages
        self._go_on(request, stage.bit, [stages[index] for index in stage.followers])

    def inputs_read(self, request: Request, stage: CompiledStage) -> None:
        """`stage` has finished: give back every slot that no other stage will read."""
        for producer in stage.reads:
            self._read(request, producer)

    def requeue(self, request: Request) -> None:
        """Queue a request for all that it waits for, before its equals: it has waited its turn already."""
        for stage in self._state.compiled.stages:
            if not stage.needs & ~request.done and request.is_open(stage):
                request.claimed |= stage.bit
                self._state.queue(request, stage, first=True)

    def open_waiting(self) -> None:
        """Open the scopes that have waited for slots, as far as there are enough now."""
        if self._unopened:
            waiting, self._unopened = self._unopened, []
            # The eldest first. One that still cannot be opened does not hold up the others.
            waiting.sort(key=lambda entry: entry[0].id)
            self._unopened += [
                (request, scope)
                for request, scope in waiting
                if not request.answered and not self._open(request, scope)
            ]

    # -- within one request -----------------------------------------------------------------------

    def _read(self, request: Request, producer: int) -> None:
        """Of the stages of the request's scope, one more has read a producer's slot."""
        scope, stages = request.scope, self._state.compiled.stages
        if scope.parent >= 0 and (producer < 0 or not stages[producer].bit & scope.inside):
            # The producer is outside this scope: its slot is read until all children are done.
            return
        request.readers[producer + 1] -= 1
        if request.readers[producer + 1] or scope.kept[producer + 1]:
            return
        if producer >= 0 and stages[producer].scope != scope.index:
            # The children have made it, and every stage that joins them has read it now.
            for child in request.children[stages[producer].scope]:
                self._give_back_step(child, producer)
            self._promises.end(request, producer)
        elif producer >= 0:
            self._give_back_step(request, producer)
        elif request.ingress is not None:
            lease, request.ingress = request.ingress, None
            self._fencing.give_back(request, lease)

    def _give_back_step(self, request: Request, producer: int) -> None:
        step = request.steps[producer]
        if step is not None and step.lease is not None:
            request.steps[producer] = step._replace(lease=None)
            self._fencing.give_back(request, step.lease)

    def _go_on(self, request: Request, done: int, followers: Iterable[CompiledStage]) -> None:
        """Enter all that had to wait for one of the stages `done`, a mask."""
        for stage in followers:
            if not stage.needs & ~request.done and request.is_open(stage):
                self.enter(request, stage)
                if request.answered:
                    return
        for scope in self._state.compiled.scopes[1:]:
            if (
                scope.parent == request.scope.index
                and scope.needs & done
                and not scope.needs & ~request.done
                and scope.index not in request.children
            ):
                self._enter_scope(request, scope)
                if request.answered:
                    return

    def enter(self, request: Request, stage: CompiledStage) -> None:
        """The needs of a stage are met: the request waits for one of its workers, or skips it."""
        if request.holds(stage):
            request.claimed |= stage.bit
            self._state.queue(request, stage)
        else:
            request.skipped |= stage.bit
            request.done |= stage.bit
            self.stage_done(request, stage)

    def _through(self, request: Request) -> None:
        """Nothing is left to do for a request, or for a child: it is answered, or counts as done."""
        parent = request.parent
        if parent is None:
            if request.stream is None or request.stream.may_answer(request):
                self._answering.finish(request, OK, "")
            return
        request.answered = True
        for member in request.family():
            self._promises.end_all(member)
            for producer in range(len(member.steps)):
                if member is not request or not request.scope.kept[producer + 1]:
                    self._give_back_step(member, producer)
        scope = request.scope
        if scope.index == self._state.compiled.answered:
            self._promises.end_one(request)
            self._answering.child(request)
        parent.running[scope.index] -= 1
        if not parent.running[scope.index]:
            self._close(parent, scope)

    # -- scopes -----------------------------------------------------------------------------------

    def _enter_scope(self, request: Request, scope: Scope) -> None:
        request.children[scope.index] = []
        if self._state.compiled.stages[scope.source].bit & request.skipped:
            request.skipped |= scope.inside
            self._over(request, scope)
        elif not self._open(request, scope):
            self._unopened.append((request, scope))

    def _open(self, request: Request, scope: Scope) -> bool:
        """Begin with the children; False if there are too few slots for what they will give."""
        state, compiled = self._state, self._state.compiled
        source = compiled.stages[scope.source]
        lists = [request.values[source.base + at] for at in source.manies]
        count = len(lists[0] or ())
        if not self._promises.make(request, scope, count):
            return False
        state.counts["children"] += count
        children = request.children[scope.index]
        for position in range(count):
            values = request.values.copy()
            for at, many in zip(source.manies, lists):
                assert type(many) is tuple
                values[source.base + at] = many[position]  # type: ignore[assignment]
            child = request.child(state.number_request(), scope, position, values)
            state.requests[child.id] = child
            children.append(child)
        request.running[scope.index] = count
        if not count:
            self._close(request, scope)
        for child in children:
            for first in scope.first:
                if request.answered or child.answered:
                    break
                self.enter(child, compiled.stages[first])
        return True

    def _close(self, request: Request, scope: Scope) -> None:
        """All children are done: what they made is a list now."""
        for index in scope.exports:
            stage = self._state.compiled.stages[index]
            for tensor in range(stage.base, stage.base + stage.fields):
                request.values[tensor] = tuple(
                    [
                        MISSING if (value := child.values[tensor]) is None else value  # type: ignore[misc]
                        for child in request.children[scope.index]
                    ]
                )
        self._over(request, scope)

    def _over(self, request: Request, scope: Scope) -> None:
        request.done |= scope.inside
        if not request.scope.last & ~request.done:
            self._through(request)
            return
        for producer in scope.reads:
            self._read(request, producer)
        self._go_on(request, scope.inside, self._state.compiled.stages)
