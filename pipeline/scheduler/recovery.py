"""Recovery: what happens to requests whose worker has died. Pure.

A request of a dead worker runs again, as the next attempt, on fresh slots; what its worker had been
computing when it died is suspect. Suspects are put into *groups*, which no other request shares a
batch with: the halves of the batch that killed, then their halves, until one runs alone. So one
deadly request among n costs at most ceil(log2 n) + 1 further deaths, and only it fails.

    a batch of 8 kills   -> two groups of 4 -> one kills -> two of 2 -> one kills -> 1 + 1 -> one kills
                                                            alone: it may try once more -> StageCrashed

A SIGKILL from outside says little about what was being computed: it counts for less.

A process of several workers dies as all of them, the last stage first. A suspect may have to run again from an
earlier stage than the one it was computed in, since the notice of that died with the process too. Having survived
the earlier stage once more acquits nobody: it stays suspect until it has survived the one that it is suspected in.
"""

from __future__ import annotations

from collections import deque

from pipeline.scheduler.completion import Completion
from pipeline.scheduler.ledger import Request
from pipeline.scheduler.routes import Route
from pipeline.scheduler.state import State
from pipeline.scheduler.story import note
from pipeline.wire.messages import Kept, Relic, StageBroken, WorkerGone

__all__ = ["Recovery"]

CONDEMNED = 6
"""A request that died alone for so much does not run any more: two crashes, or three kills from outside."""

_CRASH, _KILL = 3, 2

_KEEPER = -1
"""Stands for the supervisor among a request's fences, while it keeps the inputs."""


class Recovery:
    """Deaths, retries and quarantine."""

    def __init__(self, state: State, completion: Completion) -> None:
        self._state = state
        self._completion = completion
        self._next_group = 1
        #: The stage that each condemned request waits for, while its inputs are being kept.
        self._condemned: dict[int, Route] = {}

    def worker_gone(self, message: WorkerGone) -> None:
        """A worker is dead for certain."""
        state = self._state
        state.gone.add(message.worker)
        worker = state.workers.pop(message.worker, None)
        if worker is None:
            return
        state.counts["worker_deaths"] += 1
        state.crews[worker.stage].remove(worker)
        state.tally.retire(worker.number, worker.stage)
        state.out.gone.append(worker.number)
        route = state.routes.stages[worker.stage]
        running = set(message.running)
        suspects: list[Request] = []
        retried: deque[Request] = deque()
        for number, attempt in sorted(worker.orders):
            request = state.requests.get(number)
            if request is None:
                continue
            step = request.steps[route.index]
            if not request.answered and step is not None and (step.worker, step.attempt) == (worker.number, attempt):
                if number in running:
                    suspects.append(request)
                self._retry(request, route, worker.number)
                retried.append(request)
            # Dead: it can touch nothing any more, and will never answer a fence.
            self._completion.unfence(request, worker.number, attempt)
        for request in state.unfinished():
            # What it was to forward may have died with it, though its notice has come.
            for stage in state.routes.stages:
                step = request.steps[stage.index]
                if step is not None and step.sender == worker.number and not stage.bit & request.done:
                    self._retry(request, stage, worker.number)
                    retried.append(request)
        self._quarantine(suspects, route, message)
        for request in reversed(retried):
            self._completion.requeue(request)
        self._fail_if_broken()

    def condemn(self, request: Request, route: Route) -> bool:
        """Whether a request that waits for `route` must not run; its inputs are kept, then it fails."""
        if request.deaths < CONDEMNED or request.suspected != route.index:
            return False
        state = self._state
        request.claimed &= ~route.bit
        if request.id in self._condemned:
            # Two stages of it were waiting: it is being kept already.
            return True
        # Its slots stay until the supervisor has read them.
        request.root.fences.add((_KEEPER, request.id, 0))
        self._condemned[request.id] = route
        relic = Relic(request.id, request.label, route.index, request.how, *request.inputs_of(route))
        state.out.supervisor.append(relic)
        return True

    def kept(self, message: Kept) -> None:
        """The supervisor has kept the inputs of a condemned request: now it fails."""
        request = self._state.requests.get(message.request)
        route = self._condemned.pop(message.request, None)
        if request is None or route is None:
            return
        if not request.answered:
            where = f"; its inputs are in {message.path}: pipeline replay {message.path}" if message.path else ""
            why = f"stage {route.name}: {request.how}{where}"
            self._state.failures.add(route.index, why, "", request.label, self._state.now)
            self._completion.finish(request, "StageCrashed", why)
        self._completion.unfence(request, _KEEPER, 0)

    def stage_broken(self, message: StageBroken) -> None:
        """A stage's dead workers will not be started again."""
        self._state.given_up[message.stage] = message.reason
        self._fail_if_broken()

    def _fail_if_broken(self) -> None:
        """Fail what waits for a stage that has no worker left and gets none."""
        broken = self._state.broken()
        if broken is None:
            return
        route, reason = broken
        for request in tuple(self._state.unanswered()):
            if not request.done & route.bit:
                self._completion.finish(request, "StageUnavailable", f"stage {route.name}: {reason}")

    def _quarantine(self, suspects: list[Request], route: Route, message: WorkerGone) -> None:
        for request in suspects:
            request.how = message.how
            request.suspected = route.index
            note(request.events, self._state.now, f"suspected: {route.name} computed it and was {message.how}")
        # Not where it is the only one left of a batch of several: another one may be guilty.
        if len(suspects) == len(message.running) == 1 and not message.beside:
            suspects[0].deaths += _KILL if message.outside else _CRASH
        half = len(suspects) // 2
        for group in (suspects[:half], suspects[half:]):
            for request in group:
                request.group = self._next_group
            self._next_group += 1

    def _retry(self, request: Request, route: Route, worker: int) -> None:
        """A worker died with this request, in `route` or on its way there. It and what was to come after run again."""
        note(request.events, self._state.now, f"worker {worker} died: {route.name} runs again")
        self._completion.take_back(request, route)
        self._state.counts["retries"] += 1
