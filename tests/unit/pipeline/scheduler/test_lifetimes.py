"""Nothing is left of what is over: no request for the collector, and no debt for a client that comes back."""

from __future__ import annotations

import gc
from collections import Counter

import pytest

from pipeline.scheduler.ledger import Request
from pipeline.wire.messages import Answers, Fenced, Fences, Hello, Loan, Orders, SlotRef, Submission, Submit
from shm.handle import TensorHandle
from tests.unit.pipeline.scheduler.actors import EPOCH, MS
from tests.unit.pipeline.scheduler.graphs import TENSOR_BYTES, make_plan
from tests.unit.pipeline.scheduler.simulation import Simulation
from tests.unit.pipeline.scheduler.test_simulation import walk


@pytest.mark.usefixtures("collector_is_off")
def test_no_request_waits_for_the_collector() -> None:
    counts: Counter[str] = Counter()
    # Walks with children of children, deaths, and fences that outlive their request.
    for seed in range(10):
        counts += walk(seed).scheduler.counts
        assert [known for known in gc.get_objects() if type(known) is Request] == [], f"seed {seed}"
    assert counts["answered"] > 80
    assert counts["worker_deaths"] > 8


def test_a_client_that_comes_back_under_its_number_owes_nothing_of_its_last_life() -> None:
    simulation = Simulation(make_plan("chain"), lambda count: 0)
    scheduler, now = simulation.scheduler, simulation.now
    segment = simulation.ingress_segments[0]

    def greet() -> SlotRef:
        scheduler.handle(Hello(666, "again"), now)
        scheduler.handle(Loan(666, segment, 1, True), now)
        (answers,) = [message for _, message in scheduler.decide(now) if isinstance(message, Answers)]
        (slot,) = answers.grants
        return slot

    slot = greet()
    inputs = (TensorHandle(*slot, 0, "uint8", (TENSOR_BYTES,)),)
    scheduler.handle(Submit(666, 0, (Submission(1, slot, inputs, now + 5 * MS, 0, ""),), ()), now)
    assert [type(message) for _, message in scheduler.decide(now)] == [Orders]
    # It is late, so it is answered; its slots come back when the workers have answered the fences.
    fences = [message for _, message in scheduler.decide(now + 10 * MS) if isinstance(message, Fences)]
    assert fences
    greet()
    out = dict(scheduler.ingress.clients[666].out)
    for message in fences:
        scheduler.handle(Fenced(EPOCH, message.worker, message.fences), now)
    assert scheduler.ingress.clients[666].out == out == {segment: 1}
    simulation.close()
