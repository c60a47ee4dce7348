"""A state machine of a client: requests, cancellations, messages in any interleaving, deaths and restarts."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.client.request import Request
from pipeline.errors import Cancelled, Unavailable
from tests.unit.pipeline.client.direct import Direct, x_of
from tests.unit.pipeline.scheduler.evaluation import expected_answer
from tests.unit.pipeline.scheduler.graphs import make_plan

__all__ = ["Clientele"]


class Clientele(RuleBasedStateMachine):
    """Requests, cancellations, messages in any interleaving, deaths and restarts. Each request is over exactly once:
    with its own answer, or with an error that something has caused."""

    @initialize(graph=st.sampled_from(["chain", "relays", "early outputs", "parts"]), tight=st.booleans())
    def begin(self, graph: str, tight: bool) -> None:
        self.direct = Direct(make_plan(graph, slots=8, credits=2, tight=tight), pending=20)
        self.direct.start()
        self.direct.connect()
        self.live: dict[int, Request] = {}
        self.cancelled: set[int] = set()
        self.number = 0

    def teardown(self) -> None:
        if not hasattr(self, "direct"):
            return
        direct = self.direct
        if direct.workers is None:
            self.restart()
        for _ in range(300):
            direct.after(0.06)
            self.over(direct.step())
            if not self.live:
                break
        assert self.live == {}
        assert (len(direct.queue), direct.queue.under_way) == (0, {})
        for _ in range(5):
            direct.step()
        # At most the one that an idle client may keep.
        assert sum(direct.in_use) <= 1
        direct.close()

    def over(self, done: list[Request]) -> None:
        for request in done:
            assert self.live.pop(request.owner) is request
            error = request.error()
            pending = request.pending
            if error is not None:
                caused = (Unavailable, Cancelled) if request.retries == 0 else ()
                assert isinstance(error, caused), request
                if isinstance(error, Cancelled):
                    assert request.owner in self.cancelled
            elif pending is not None and not pending.received:
                wanted = expected_answer(self.direct.plan, dict.fromkeys(self.direct.session.specs, x_of(request.owner)))
                if not any(isinstance(value, list) for value in wanted.values()):
                    assert self.direct.outputs(request) == wanted
            if pending is not None:
                pending.leases = {}

    @rule(retries=st.integers(0, 2), in_parts=st.booleans())
    def infer(self, retries: int, in_parts: bool) -> None:
        if not self.direct.queue.room:
            return
        self.number += 1
        request = self.direct.request(self.number, retries=retries, in_parts=in_parts)
        self.live[self.number] = request
        if self.direct.queue.reserve(request):
            assert request.draft is not None
            for name, view in request.draft.inputs.items():
                view[...] = request.inputs[name]
            if self.direct.queue.submit(request, self.direct.now):
                return
        self.direct.queue.put(request, self.direct.now)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        number = data.draw(st.sampled_from(sorted(self.live)))
        request = self.live[number]
        self.cancelled.add(number)
        self.direct.queue.cancel(request, self.direct.now)
        if request.pending is None and request.done:
            del self.live[number]

    @rule()
    def reserve_and_drop(self) -> None:
        """As a caller that was interrupted before it had written its slot."""
        self.direct.queue.reserve(self.direct.request(0))

    @rule()
    def go_on(self) -> None:
        self.over(self.direct.queue.go_on(self.direct.now))

    @rule()
    def send(self) -> None:
        self.direct.send()

    @rule()
    def work(self) -> None:
        self.direct.work()

    @rule(most=st.integers(1, 5))
    def receive(self, most: int) -> None:
        self.over(self.direct.receive(most))
        self.direct.queue.parted()

    @rule(seconds=st.sampled_from([0.01, 0.1, 0.6]))
    def pass_time(self, seconds: float) -> None:
        self.direct.after(seconds)

    @precondition(lambda self: self.direct.workers is not None)
    @rule()
    def die(self) -> None:
        self.direct.die()

    @precondition(lambda self: self.direct.workers is None)
    @rule()
    def restart(self) -> None:
        self.direct.start()
        while self.direct.session.lost is not None:
            self.direct.after(1)
            self.direct.send()
            self.direct.work()
            self.over(self.direct.receive())

    @rule()
    def mend(self) -> None:
        """As after a call that was interrupted."""
        self.direct.session.mend()
        self.direct.queue.mend()
        self.direct.send()

    @invariant()
    def each_is_known_once(self) -> None:
        if not hasattr(self, "direct"):
            return
        queue = self.direct.queue
        known = sorted(request.owner for request in (*queue._waiters(), *queue.under_way.values()))
        assert known == sorted(self.live)
        assert len(queue) == len(queue._waiters())
