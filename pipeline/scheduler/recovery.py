"""Recovery: what happens to requests whose worker has died. Pure.

A request of a dead worker runs again, as the next attempt, on fresh slots; what its worker had been
computing when it died is suspect. Suspects are put into *groups*, and no other request shares a batch
with a group: the halves of the batch that killed, then their halves, until one runs alone. So one
deadly request among n costs at most ceil(log2 n) + 1 further deaths, and only it fails.

    a batch of 8 kills   -> two groups of 4 -> one kills -> two of 2 -> one kills -> 1 + 1 -> one kills
                                                            alone: it may try once more -> StageCrashed

The rows of a request of several lie in one slot, and share its answer: so it fails if one of them kills. But people
want to know which one, so a suspect that is alone has its rows computed one by one. The flight record names the row,
and one death finds what halves would need several for. If a row kills only in company, the request is answered.

A SIGKILL from outside says little about what was being computed: it counts for less.

If a process of several workers dies, all of them are gone, the worker of the last stage first. A suspect may then have
to run again from an earlier stage than the one that was computing it, since the notice of the earlier stage died with
the process too. To survive the earlier stage once more does not acquit a request: it stays suspect until it has
survived the stage that it is suspected in.
"""

from __future__ import annotations

from pipeline.errors import StageCrashed, StageUnavailable, StreamBroken
from pipeline.graph.compiled import CompiledStage
from pipeline.scheduler.answers import Answering
from pipeline.scheduler.fences import Fencing
from pipeline.scheduler.ledger import Request, Worker
from pipeline.scheduler.progress import Progress
from pipeline.scheduler.state import State
from pipeline.scheduler.story import note
from pipeline.wire.messages import Keep, Kept, Retire, StageBroken, WorkerGone
from shm.handle import TensorHandle, nbytes_of

__all__ = ["Recovery"]

CONDEMNED = 6
"""A request whose deaths alone weigh this much does not run any more: two crashes, or three kills from outside."""

_CRASH, _KILL = 3, 2

_KEEPER = -1
"""Stands for the supervisor among a request's fences, while it keeps the inputs."""


class Recovery:
    """Deaths, retries and quarantine."""

    def __init__(self, state: State, fencing: Fencing, answering: Answering, progress: Progress) -> None:
        self._state = state
        self._fencing = fencing
        self._answering = answering
        self._progress = progress
        self._next_group = 1
        #: The stage that each condemned request waits for, while its inputs are being kept.
        self._condemned: dict[int, CompiledStage] = {}

    def worker_gone(self, message: WorkerGone) -> None:
        """The supervisor says that a worker is dead: it touches no slot any more."""
        state = self._state
        state.gone.add(message.worker)
        # It may have died before it was ready.
        state.trials = {stage: number for stage, number in state.trials.items() if number != message.worker}
        worker = state.workers.pop(message.worker, None)
        if worker is None:
            return
        retired = worker.number in state.retired
        state.counts["retired_workers" if retired else "worker_deaths"] += 1
        if worker in state.stage_workers[worker.stage]:
            state.stage_workers[worker.stage].remove(worker)
        state.retiring.discard(worker.number)
        state.retired.discard(worker.number)
        state.tally.retire(worker.number, worker.stage, died=not retired)
        state.out.gone.append(worker.number)
        stage = state.compiled.stages[worker.stage]
        if not retired:
            self._break_streams(worker, stage, message.how)
        state.streams.lines[worker.stage].pop(worker.number, None)
        suspects, retried = self._take_orders(worker, stage, message)
        if not retired:
            retried += self._take_forwarded(worker)
        self._quarantine(suspects, stage, message)
        for request in reversed(retried):
            self._progress.requeue(request)
        self._fail_if_broken()

    def _take_orders(
        self, worker: Worker, stage: CompiledStage, message: WorkerGone
    ) -> tuple[list[Request], list[Request]]:
        """What a dead worker had been ordered runs again. Returns the suspects among it, and all of it."""
        state, running = self._state, set(message.running)
        suspects: list[Request] = []
        retried: list[Request] = []
        for number, attempt in sorted(worker.orders):
            request = state.requests.get(number)
            if request is None:
                continue
            if not request.answered and request.step_of(stage, worker.number, attempt) is not None:
                if request.parted is not None and stage.bit & state.compiled.until(request.parted):
                    self._break_off(request, worker, stage, message.how)
                else:
                    if number in running:
                        suspects.append(request)
                    self._retry(request, stage, worker.number)
                    retried.append(request)
            # A dead worker touches nothing any more, and will never answer a fence.
            self._fencing.lift(request, worker.number, attempt)
        return suspects, retried

    def _take_forwarded(self, worker: Worker) -> list[Request]:
        """What a dead worker had to forward runs again: it may be lost, even if the worker's notice has come."""
        state = self._state
        retried: list[Request] = []
        for request in state.unfinished():
            # A stage that gives parts of an answer was reached, so all before it was forwarded.
            past = request.done | (0 if request.parted is None else state.compiled.until(request.parted))
            for stage in state.compiled.stages:
                step = request.steps[stage.index]
                if step is not None and step.sender == worker.number and not stage.bit & past:
                    self._retry(request, stage, worker.number)
                    retried.append(request)
        return retried

    def condemn(self, request: Request, stage: CompiledStage) -> bool:
        """Whether a request that waits for `stage` must not run. If so, its inputs are kept, and then it fails."""
        if request.deaths < CONDEMNED or request.suspected != stage.index:
            return False
        state = self._state
        request.claimed &= ~stage.bit
        if request.id in self._condemned:
            # It waits for two stages: the supervisor was asked to keep its inputs already.
            return True
        # Its slots stay until the supervisor has read them.
        request.root.fences.add((_KEEPER, request.id, 0))
        self._condemned[request.id] = stage
        inputs, lengths = request.inputs_of(stage)
        rows = request.rows
        if rows > 1 and request.bad_row >= 0:
            inputs, rows = tuple([_row_of(handle, request.bad_row) for handle in inputs]), 1
        keep = Keep(request.id, request.label, stage.index, request.how, inputs, lengths, rows)
        state.out.supervisor.append(keep)
        return True

    def kept(self, message: Kept) -> None:
        """The supervisor has kept the inputs of a condemned request: now it fails."""
        request = self._state.requests.get(message.request)
        stage = self._condemned.pop(message.request, None)
        if request is None or stage is None:
            return
        if not request.answered:
            where = f"; its inputs are in {message.path}: pipeline replay {message.path}" if message.path else ""
            row = f"row {request.bad_row} of {request.rows}: " if request.bad_row >= 0 else ""
            why = f"{row}stage {stage.name}: {request.how}{where}"
            self._state.failures.add(stage.index, why, "", request.label, self._state.now)
            self._answering.finish(request, StageCrashed.code, why)
        self._fencing.lift(request, _KEEPER, 0)

    def stage_broken(self, message: StageBroken) -> None:
        """The supervisor will not start a stage's dead workers again."""
        if not 0 <= message.stage < len(self._state.compiled.stages):
            # Not the supervisor's: any process that reaches the inbox can send one.
            self._state.counts["unexpected_messages"] += 1
            return
        self._state.given_up[message.stage] = message.reason
        self._fail_if_broken()

    def _fail_if_broken(self) -> None:
        """Fail the requests that wait for a stage without workers, if the supervisor will start none."""
        broken = self._state.broken()
        if broken is None:
            return
        stage, reason = broken
        for request in tuple(self._state.unanswered()):
            if not request.done & stage.bit:
                self._answering.finish(request, StageUnavailable.code, f"stage {stage.name}: {reason}")

    def retire(self, message: Retire) -> None:
        """A worker must finish what it has, and is ordered nothing more. Its `Ready` may still be on its way."""
        state, number = self._state, message.worker
        if number in state.gone or number in state.retired:
            return
        state.retiring.add(number)
        worker = state.workers.get(number)
        if worker is not None and state.trials.get(worker.stage) == number:
            del state.trials[worker.stage]
        if worker is not None and worker in state.stage_workers[worker.stage]:
            state.stage_workers[worker.stage].remove(worker)
            stage = state.compiled.stages[worker.stage]
            self._break_streams(worker, stage, "was retired", but_ordered=True)

    def _break_streams(self, worker: Worker, stage: CompiledStage, how: str, *, but_ordered: bool = False) -> None:
        """Streams whose worker in a stage is gone end with an error. Their requests that have passed that stage go on.

        Args:
            but_ordered: requests that the worker has been ordered go on too.
        """
        for stream in self._state.streams.of_worker(worker.number, stage.index):
            if not stream.broken:
                stream.broken = (
                    f"stream {stream.name} cannot go on: its worker in stage {stage.name}, w{worker.number}, {how}; "
                    f"begin another stream"
                )
            for request in tuple(stream.requests):
                ordered = but_ordered and request.steps[stage.index] is not None
                if not (ordered or stage.bit & request.done):
                    self._answering.finish(request, StreamBroken.code, stream.broken)

    def _break_off(self, request: Request, worker: Worker, stage: CompiledStage, how: str) -> None:
        """A worker has died in the middle of an answer. Another worker might give other parts, so the request fails.

        The dead worker need not be the one that gives the parts: other stages may need what it made, too.
        """
        parts = "1 part" if request.parts == 1 else f"{request.parts} parts"
        died = f"worker {worker.number} died ({how})"
        why = f"stage {stage.name}: {died} after {parts} of the answer; send it again"
        self._answering.finish(request, StreamBroken.code, why)

    def _quarantine(self, suspects: list[Request], stage: CompiledStage, message: WorkerGone) -> None:
        for request in suspects:
            request.how = message.how
            if request.rows > 1:
                request.bad_row = message.row if 0 <= message.row < request.rows and len(suspects) == 1 else -1
            request.suspected = stage.index
            note(request.events, self._state.now, f"suspected: {stage.name} computed it and was {message.how}")
        # Only if it was the whole batch: of a batch of several, a request that is over by now may be guilty.
        if len(suspects) == len(message.running) == 1 and not message.beside:
            suspects[0].deaths += _KILL if message.outside else _CRASH
        half = len(suspects) // 2
        for group in (suspects[:half], suspects[half:]):
            for request in group:
                request.group = self._next_group
            self._next_group += 1

    def _retry(self, request: Request, stage: CompiledStage, worker: int) -> None:
        """A worker died with this request, in `stage` or on its way there. That stage and those after it run again."""
        note(request.events, self._state.now, f"worker {worker} died: {stage.name} runs again")
        self._fencing.take_back(request, stage)
        self._state.counts["retries"] += 1


def _row_of(handle: TensorHandle | int, row: int) -> TensorHandle | int:
    """One row of a tensor of several."""
    if isinstance(handle, int):
        return handle
    shape = handle.shape[1:]
    return handle._replace(offset=handle.offset + row * nbytes_of(handle.dtype, shape), shape=shape)
