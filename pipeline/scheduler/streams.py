"""Streams: requests of one client that run one after the other, in each stage at one worker. Pure.

    a stage is done with request n ─▶ if request n + 1 of the stream waits for that stage, it may wait for a worker
    the first order for a stage    ─▶ its worker is the stream's for that stage from now on
    that worker is gone            ─▶ what the stage kept of the stream is gone too: the stream is broken

Requests of a stream are also answered in their order, whichever stages they skip. So a stage may keep something from
one request of a stream for the next, such as the last picture. A request that waits for its turn in its stream is
*held*: it is in no backlog. When its turn has come, it waits in the *line* of its stream's worker, or in the stage's
common backlog if the stream has no worker there yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.errors import InvalidRequest, StreamBroken
from pipeline.graph.plan import Plan
from pipeline.scheduler.backlog import Backlog

if TYPE_CHECKING:
    from pipeline.graph.compiled import CompiledStage
    from pipeline.scheduler.ledger import Request

__all__ = ["MOST_STREAMS", "Stream", "Streams"]

MOST_STREAMS = 1024
"""Streams that one client may have at a time: the scheduler remembers each until the client ends it."""


class Stream:
    """One stream."""

    __slots__ = ("broken", "client", "ended", "held", "last", "name", "number", "requests", "through", "workers")

    def __init__(self, number: int, client: int, name: int) -> None:
        #: Never used twice in a run; the stream's name towards workers.
        self.number = number
        self.client = client
        #: The client's own number for it.
        self.name = name
        #: The sequence number of the last request that was let in.
        self.last = 0
        #: The requests that are not answered yet, in the order in which they came.
        self.requests: list[Request] = []
        #: Its worker in each stage, by the stage's index.
        self.workers: dict[int, int] = {}
        #: Requests, or their children, that wait until the requests before them have passed a stage.
        self.held: list[tuple[Request, CompiledStage]] = []
        #: Requests for which nothing is left to do, and which wait until those before them are answered.
        self.through: set[int] = set()
        #: Why it cannot go on; empty if it can.
        self.broken = ""
        #: The client will send no more of it.
        self.ended = False

    def may_answer(self, request: Request) -> bool:
        """Nothing is left to do for a request: whether it is the first of the stream. If not, its answer waits."""
        if self.requests[0] is request:
            return True
        self.through.add(request.id)
        return False

    def next_through(self) -> Request | None:
        """The first request of the stream, if nothing is left to do for it."""
        return self.requests[0] if self.requests and self.requests[0].id in self.through else None

    def may_enter(self, request: Request, stage: CompiledStage) -> bool:
        """Whether a stage is done with every request of the stream that came before this one."""
        root = request.root
        for earlier in self.requests:
            if earlier is root:
                break
            if not earlier.done & stage.bit:
                return False
        return True


class Streams:
    """All streams of all clients, and the lines of their workers.

    Args:
        plan: what runs.
    """

    def __init__(self, plan: Plan, epoch: int) -> None:
        self._by_name: dict[tuple[int, int], Stream] = {}
        self._counts: dict[int, int] = {}
        #: The streams with requests that are held.
        self._holding: dict[int, Stream] = {}
        # As with requests: numbers of an earlier epoch never come again.
        self._next = (epoch << 40) + 1
        #: For each stage, the requests that wait for one particular worker, by its number.
        self.lines: list[dict[int, Backlog]] = [{} for _ in plan.stages]

    def __iter__(self) -> Iterator[Stream]:
        return iter(tuple(self._by_name.values()))

    # -- they come and go ---------------------------------------------------------------------------

    def find(self, client: int, name: int) -> Stream | None:
        """A client's stream by the client's own number, if it has begun."""
        return self._by_name.get((client, name))

    def refusal(self, client: int, name: int, sequence: int) -> tuple[str, str] | None:
        """(code, message) if a request with this stream and sequence number cannot be let in, None otherwise."""
        if not name and not sequence:
            return None
        if name < 1 or sequence < 1:
            why = f"expected a stream and a sequence number from 1 on, found {name} and {sequence}"
            return InvalidRequest.code, why
        stream = self.find(client, name)
        if stream is None:
            if self._counts.get(client, 0) >= MOST_STREAMS:
                why = f"this client has {MOST_STREAMS} streams already, which is the most: end some"
                return InvalidRequest.code, why
        elif stream.broken:
            return StreamBroken.code, stream.broken
        elif stream.ended:
            return InvalidRequest.code, f"stream {name} was ended, and waits for its last answers: begin another stream"
        elif sequence <= stream.last:
            why = f"stream {name}: expected a sequence number above {stream.last}, found {sequence}"
            return InvalidRequest.code, why
        return None

    def join(self, request: Request, client: int, name: int, sequence: int) -> None:
        """A request was let in as the last of its stream."""
        stream = self.find(client, name)
        if stream is None:
            stream = self._by_name[client, name] = Stream(self._next, client, name)
            self._next += 1
            self._counts[client] = self._counts.get(client, 0) + 1
        stream.last = sequence
        stream.requests.append(request)
        request.stream, request.sequence = stream, sequence
        request.plain = False

    def end(self, client: int, name: int) -> None:
        """The client sends no more of a stream, which is forgotten when its last request is answered."""
        stream = self.find(client, name)
        if stream is not None:
            stream.ended = True
            self._forget_if_over(stream)

    def client_gone(self, client: int) -> None:
        """A client has gone: its streams end."""
        if client in self._counts:
            for stream in self:
                if stream.client == client:
                    self.end(client, stream.name)

    def finished(self, request: Request) -> None:
        """A request of a stream is answered."""
        stream = request.stream
        assert stream is not None
        stream.requests.remove(request)
        stream.through.discard(request.id)
        self._forget_if_over(stream)

    def _forget_if_over(self, stream: Stream) -> None:
        # By its number: the client may have begun another stream of that name since.
        known = self._by_name.get((stream.client, stream.name))
        if stream.ended and not stream.requests and known is stream:
            del self._by_name[stream.client, stream.name]
            self._counts[stream.client] -= 1
            if not self._counts[stream.client]:
                del self._counts[stream.client]

    # -- where they wait ----------------------------------------------------------------------------

    def hold(self, request: Request, stage: CompiledStage) -> bool:
        """Keep a request back from a stage if its turn there has not come; False: it has come."""
        stream = request.stream
        assert stream is not None
        if stream.may_enter(request, stage):
            return False
        stream.held.append((request, stage))
        self._holding[stream.number] = stream
        return True

    def released(self) -> list[tuple[Request, CompiledStage]]:
        """The held requests that may enter their stage now, in the order in which they were held."""
        found: list[tuple[Request, CompiledStage]] = []
        for stream in tuple(self._holding.values()):
            held, stream.held = stream.held, []
            for request, stage in held:
                if stream.may_enter(request, stage):
                    found.append((request, stage))
                else:
                    stream.held.append((request, stage))
            if not stream.held:
                del self._holding[stream.number]
        return found

    def line(self, request: Request, stage: CompiledStage) -> Backlog | None:
        """The line in which a request of a stream waits for its worker; None: any worker of the stage may have it."""
        stream = request.stream
        worker = None if stream is None else stream.workers.get(stage.index)
        if worker is None:
            return None
        lines = self.lines[stage.index]
        if worker not in lines:
            lines[worker] = Backlog(stage.quantum)
        return lines[worker]

    def remove(self, request: Request, stage: CompiledStage) -> None:
        """Take a request out, wherever it waits for that stage."""
        stream = request.stream
        assert stream is not None
        stream.held = [entry for entry in stream.held if entry[0] is not request or entry[1] is not stage]
        if not stream.held:
            self._holding.pop(stream.number, None)
        line = self.line(request, stage)
        if line is not None:
            line.remove(request)

    def waiting(self, stage: int) -> int:
        """How many requests of streams wait for a stage, with those that are held."""
        held = [1 for stream in self._holding.values() for _, current in stream.held if current.index == stage]
        return len(held) + sum([len(line) for line in self.lines[stage].values()])

    def of_worker(self, worker: int, stage: int) -> list[Stream]:
        """The streams that have this worker in a stage, broken ones too."""
        return [stream for stream in self if stream.workers.get(stage) == worker]
