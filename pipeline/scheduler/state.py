"""State: all that the scheduler knows. Data, and the few verbs that all of its parts share.

`scheduler` composes the parts that act on it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from pipeline.graph.compiled import CompiledPlan, CompiledStage
from pipeline.graph.plan import Plan
from pipeline.metrics.counts import Counts
from pipeline.scheduler.backlog import Backlog
from pipeline.scheduler.cameras import Cameras
from pipeline.scheduler.failures import Failures
from pipeline.scheduler.ingress import Client, Ingress
from pipeline.scheduler.instructions import Instructions
from pipeline.scheduler.ledger import Request, Worker
from pipeline.scheduler.observation import Observation
from pipeline.scheduler.sizes import Sizes
from pipeline.scheduler.story import Stories, line
from pipeline.scheduler.streams import Streams
from pipeline.scheduler.tally import Tally
from pipeline.scheduler.timings import Timings
from pipeline.wire.messages import SlotRef
from pipeline.wire.status import ReloadsStatus, UnfinishedStatus
from shm.pool import SlotPool

__all__ = ["NO_CLIENT", "NO_WORKER", "State"]

NO_CLIENT = -1
"""In place of a client's number."""

NO_WORKER = -1
"""In place of a worker's number."""


class State:
    """The ledger, the pools, the workers and the clients.

    Args:
        plan: what runs.
        pools: one for each of `plan.pools`, in that order.
        segments: the segment number of each pool.
        epoch: which life of the scheduler this is; workers and clients drop messages of an older one.
    """

    def __init__(self, plan: Plan, pools: Sequence[SlotPool], segments: Sequence[int], epoch: int) -> None:
        self.plan = plan
        self.compiled = CompiledPlan.of(plan)
        self.epoch = epoch
        self.pools = pools
        self.segments = segments
        self._pool_of_segment = dict(zip(segments, pools))
        ingress = {segments[index]: pools[index] for index in self.compiled.ingress_pools}
        several = [segments[index] for index in self.compiled.several_pools]
        self.ingress = Ingress(ingress, self.compiled.slots_of_answer, several)
        #: What stages with several classes of slots need.
        self.sizes = Sizes(len(plan.stages), pools)
        self.requests: dict[int, Request] = {}
        self.workers: dict[int, Worker] = {}
        #: Numbers of the dead, so that a Ready that comes after the news of a death brings no dead worker back.
        self.gone: set[int] = set()
        #: Workers that still finish what they have, and those that have finished and were told to leave.
        self.retiring: set[int] = set()
        self.retired: set[int] = set()
        #: By stage, the number of the worker that is on trial there (see `Trial`).
        self.trials: dict[int, int] = {}
        #: The living workers of each stage, without all of those.
        self.stage_workers: list[list[Worker]] = [[] for _ in plan.stages]
        #: The requests that wait for each stage.
        self.backlogs = [Backlog(current.quantum) for current in self.compiled.stages]
        self.streams = Streams(plan, epoch)
        #: What the sources tell of their cameras.
        self.cameras = Cameras([camera.name for camera in plan.cameras], [stage.name for stage in plan.stages])
        # Numbers of an earlier epoch never come again, so that a late message cannot hit a new request.
        self._next_request = (epoch << 40) + 1
        #: Stages whose dead workers are not started again, and why.
        self.given_up: dict[int, str] = {}
        #: When each stage last finished a request; 0: never.
        self.last_ok = [0] * len(plan.stages)
        #: By stage, when a request failed there last since what the stage asks is not there, and the message. No entry:
        #: one has passed it since.
        self.unreachable: dict[int, tuple[int, str]] = {}
        #: As the supervisor has told it; None: it has not yet.
        self.reloads: ReloadsStatus | None = None
        #: Whether new requests are refused, since the run ends.
        self.draining = False
        #: The folder to which clients are sent, since the run has been replaced; empty: it has not.
        self.successor = ""
        #: Names of the clients that died last, until they are told.
        self.dead_clients: deque[str] = deque(maxlen=16)
        #: What a drain did not wait for any longer.
        self.left_over: list[UnfinishedStatus] = []
        self.counts = Counts()
        #: The last requests that stages have failed by an unexpected error.
        self.failures = Failures(len(plan.stages))
        #: What happened to the last requests that have ended.
        self.stories = Stories([stage.name for stage in plan.stages])
        #: What the workers have reported.
        self.tally = Tally(len(plan.stages))
        #: How long requests took.
        self.timings = Timings()
        #: What observers are told.
        self.observation = Observation()
        #: What has been decided and was not handed out yet.
        self.out = Instructions()
        #: Monotonic nanoseconds of the event that is being handled.
        self.now = 0

    def pool_of(self, lease: SlotRef) -> SlotPool:
        """The pool of a slot that was loaned here."""
        return self._pool_of_segment[lease.segment]

    def number_request(self) -> int:
        """A number that no request has had before."""
        number = self._next_request
        self._next_request += 1
        return number

    def queue(self, request: Request, stage: CompiledStage, *, first: bool = False) -> None:
        """A request waits for a stage: in the stage's backlog, or, if it is of a stream, wherever the stream waits.

        Args:
            first: it is served before others of its priority.
        """
        backlog = self.backlogs[stage.index]
        if request.stream is not None:
            if self.streams.hold(request, stage):
                return
            line = self.streams.line(request, stage)
            # Not `line or backlog`: an empty line is false.
            backlog = backlog if line is None else line
        if first:
            backlog.push_front(request)
        else:
            backlog.push(request)

    def unqueue(self, request: Request, stage: CompiledStage) -> None:
        """A request waits for a stage no longer."""
        if request.stream is not None:
            self.streams.remove(request, stage)
        self.backlogs[stage.index].remove(request)

    def takers(self, stage: int) -> list[Worker]:
        """The workers of a stage that get orders: with the one on trial, which gets those that wait for it alone."""
        tried = self.workers.get(self.trials.get(stage, NO_WORKER))
        return self.stage_workers[stage] if tried is None else [*self.stage_workers[stage], tried]

    def waiting(self, stage: int) -> int:
        """How many requests wait for a stage."""
        return len(self.backlogs[stage]) + self.streams.waiting(stage)

    def unanswered(self) -> Iterator[Request]:
        """The requests that still wait for their answer."""
        return (r for r in self.requests.values() if r.parent is None and not r.answered)

    def unfinished(self) -> Iterator[Request]:
        """The requests that still wait for their answer, and their children that are not done."""
        return (request for request in self.requests.values() if not request.answered)

    def eldest(self, scope: int, passed: Callable[[Request], bool]) -> Request | None:
        """The first that came of the unfinished requests of a scope that have not `passed` something; None if all have.

        Requests that came later must leave it enough of the slots that are scarce. So it can always go on, and after it
        all the others: no two requests can hold what the other one waits for.
        """
        for request in self.requests.values():
            if request.scope.index == scope and not request.answered and not passed(request):
                return request
        return None

    def story(self, request: str) -> list[str] | None:
        """What has happened to a request by its id (see `wire.labels`), in lines; None if it is not known."""
        for known in self.requests.values():
            # Answered requests that wait for a fence have ended.
            if not known.answered and known.label.partition(" ")[0] == request:
                lines = self.stories.lines(known.submitted, known.events)
                stages = ", ".join(self.unfinished_stages(known))
                return [*lines, line(known.submitted, self.now, f"attempt {known.attempt} waits for {stages}")]
        return self.stories.of_ended(request)

    def unfinished_stages(self, request: Request) -> list[str]:
        """The names of the stages that a request has not passed."""
        return [stage.name for stage in self.compiled.stages if not stage.bit & request.done]

    def broken(self) -> tuple[CompiledStage, str] | None:
        """The first stage that has been given up and has no worker left, and why."""
        for index, reason in self.given_up.items():
            if not self.stage_workers[index]:
                return self.compiled.stages[index], reason
        return None

    def let_go(self, client: Client | None, lease: SlotRef) -> None:
        """One holder has let go of a slot; the last one frees it. `client` may get an ingress slot again."""
        pool = self._pool_of_segment[lease.segment]
        readers = pool.readers(lease.slot)
        if readers:
            pool.release(lease.slot, lease.generation)
        else:
            pool.abandon(lease.slot, lease.generation)
        if readers <= 1 and client is not None and lease.segment in client.out:
            self.ingress.came_back(client, lease)
