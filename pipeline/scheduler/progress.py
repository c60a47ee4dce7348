"""Progress: what a finished stage makes possible. Pure.

    a stage is done ─▶ its followers whose needs are met: into their backlogs, or skipped
                    ─▶ scopes whose needs are met: opened, one child for each of the many tensors
                    ─▶ the slots that nobody else is going to read: given back
                    ─▶ nothing left to do: the request is answered; a child has come home

A scope is over when its last child has come home; then its stages count as done for the request around
it, and what the children gave lies there as lists, in the children's order, for whoever joins them.

What children give to a stage that joins stays in its slots until all of them are there. If two
requests began with half of the slots each, neither would ever end: so a scope is opened only when
there are slots for what all its children give, promised to it until they come back; where there are
branches, besides for what the children of the eldest request may give that has not opened it yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pipeline.graph.compiled import CompiledStage, Scope
from pipeline.scheduler.ledger import Request
from pipeline.scheduler.state import State
from pipeline.wire.messages import MISSING, OK, SlotRef

__all__ = ["Progress"]


class Progress:
    """Moves requests, and their children, from stage to stage.

    Args:
        finish: answers a request: (request, code, message).
        give_back: takes a slot that a request has no use for.
    """

    def __init__(
        self, state: State, finish: Callable[[Request, str, str], None], give_back: Callable[[Request, SlotRef], None]
    ) -> None:
        self._state = state
        self._finish = finish
        self._give_back = give_back
        #: Slots that are promised, by pool.
        self._promised = [0] * len(state.pools)
        #: Scopes that wait for promises.
        self._unopened: list[tuple[Request, Scope]] = []

    def stage_done(self, request: Request, stage: CompiledStage) -> None:
        """`stage` is in the request's `done`: go on from there."""
        if not request.scope.last & ~request.done:
            self._through(request)
            return
        self.inputs_read(request, stage)
        stages = self._state.compiled.stages
        self._go_on(request, stage.bit, [stages[index] for index in stage.followers])

    def inputs_read(self, request: Request, stage: CompiledStage) -> None:
        """`stage` has finished: give back every slot that nobody else is going to read."""
        for producer in stage.reads:
            self._read(request, producer)

    def keep_no_promise(self, request: Request) -> None:
        """The request is through: what was promised to its children is for others."""
        for producer, count in request.promises.items():
            self._promised[self._state.compiled.stages[producer].pools[0]] -= count
        request.promises.clear()

    def open_waiting(self) -> None:
        """Open the scopes that have waited for slots, as far as there are enough now."""
        if self._unopened:
            waiting, self._unopened = self._unopened, []
            # The eldest first; whoever cannot yet does not hold up those of other scopes.
            waiting.sort(key=lambda entry: entry[0].id)
            self._unopened += [
                (request, scope)
                for request, scope in waiting
                if not request.answered and not self._open(request, scope)
            ]

    # -- within one request -----------------------------------------------------------------------

    def _read(self, request: Request, producer: int) -> None:
        """One reader of a producer's slot less, among those of the request's scope."""
        scope, stages = request.scope, self._state.compiled.stages
        if scope.parent >= 0 and (producer < 0 or not stages[producer].bit & scope.inside):
            # It is around this scope: its slot is read until all children are through.
            return
        request.readers[producer + 1] -= 1
        if request.readers[producer + 1] or scope.kept[producer + 1]:
            return
        if producer >= 0 and stages[producer].scope != scope.index:
            # What the children have made, and whoever joins has read now.
            for child in request.children[stages[producer].scope]:
                self._give_back_step(child, producer)
            count = request.promises.pop(producer, 0)
            self._promised[stages[producer].pools[0]] -= count
        elif producer >= 0:
            self._give_back_step(request, producer)
        elif request.ingress is not None:
            lease, request.ingress = request.ingress, None
            self._give_back(request, lease)

    def _give_back_step(self, request: Request, producer: int) -> None:
        step = request.steps[producer]
        if step is not None and step.lease is not None:
            request.steps[producer] = step._replace(lease=None)
            self._give_back(request, step.lease)

    def _go_on(self, request: Request, done: int, followers: Iterable[CompiledStage]) -> None:
        """Everything that had to wait for one of the stages `done`, a mask."""
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
        """A stage whose needs are met: it waits for a worker, or is skipped."""
        if request.holds(stage):
            request.claimed |= stage.bit
            self._state.queue(request, stage)
        else:
            request.skipped |= stage.bit
            request.done |= stage.bit
            self.stage_done(request, stage)

    def _through(self, request: Request) -> None:
        """Nothing is left to do for a request, or for a child."""
        parent = request.parent
        if parent is None:
            if request.stream is None or request.stream.may_answer(request):
                self._finish(request, OK, "")
            return
        request.answered = True
        for member in request.family():
            self.keep_no_promise(member)
            for producer in range(len(member.steps)):
                if member is not request or not request.scope.kept[producer + 1]:
                    self._give_back_step(member, producer)
        scope = request.scope
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
        """Begin with the children; False where there are not slots enough for what they are going to give."""
        state, compiled = self._state, self._state.compiled
        source = compiled.stages[scope.source]
        lists = [request.values[source.base + at] for at in source.manies]
        count = len(lists[0] or ())
        exports = [index for index in scope.exports if compiled.stages[index].pools]
        spare = 0
        if exports and request.scope.guards_last_slot:
            eldest = state.eldest(scope.parent, lambda r: scope.index in r.running or not scope.inside & ~r.done)
            spare = 0 if eldest is request else scope.most
        for index in exports:
            # What is promised is of one size (see `pipeline.graph.pools`).
            pool = compiled.stages[index].pools[0]
            if (spare or self._promised[pool]) and self._promised[pool] + count + spare > state.pools[pool].slots:
                return False
        for index in exports:
            request.promises[index] = count
            self._promised[compiled.stages[index].pools[0]] += count
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
        """All children have come home: what they made is a list now."""
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
