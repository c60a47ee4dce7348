"""The scheduler and the workers of a plan over memory of this process, for as many clients as there are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.graph.interface import interface_of
from pipeline.inprocess.workers import LocalWorkers
from pipeline.scheduler.door import Decided
from pipeline.wire.messages import OK, Answers, Hello, Loan, Submission, Submit, Welcome
from shm.handle import TensorHandle
from tests.unit.pipeline.inprocess.test_client import Louder, plan_of


@pytest.fixture
def workers() -> Iterator[LocalWorkers]:
    stage = Louder()
    workers = LocalWorkers(plan_of(stage), [stage], epoch=3)
    yield workers
    workers.close()


def told(workers: LocalWorkers, client: int) -> list[object]:
    """What a client is sent by now."""
    found: list[Decided] = []
    workers.work(found.append)
    return [message for receiver, message in found if receiver == ("client", client)]


def test_orders_are_computed_and_each_client_has_its_own_answers(workers: LocalWorkers) -> None:
    for client in (1, 2):
        workers.handle(Hello(client, "one of two"))
        (welcome,) = told(workers, client)
        assert isinstance(welcome, Welcome)
        assert (welcome.epoch, welcome.interface) == (3, interface_of(workers.plan))
        assert [address.pool for address in welcome.ingress] == ["ingress/0", "ingress/1"]
        assert [address.pool for address in welcome.answers] == ["louder"]
    for client in (1, 2):
        workers.handle(Loan(client, workers.numbers[0], 1, True))
        (granted,) = told(workers, client)
        assert isinstance(granted, Answers)
        slot = granted.grants[0]
        handle = TensorHandle(*slot, 0, "uint8", (1,))
        workers.table.view(handle, writable=True)[...] = 10 * client
        workers.handle(Submit(client, 1, (Submission(client, slot, (handle,), 0, 0, ""),), ()))
        (answered,) = told(workers, client)
        assert isinstance(answered, Answers)
        (answer,) = answered.answers
        assert (answer.tag, answer.code) == (client, OK)
        assert isinstance(answer.outputs[0], TensorHandle)
        assert workers.table.view(answer.outputs[0]).tolist() == [10 * client + 1]
    workers.report()
    (stage,) = workers.scheduler.status().stages
    assert (stage.rows, stage.sizes.buckets[0], sum(stage.queue_s.buckets), sum(stage.compute_s.buckets)) == (2, 2, 2, 2)


def test_a_stage_has_the_memory_of_its_inputs_and_of_its_outputs(workers: LocalWorkers) -> None:
    (stage,) = workers.plan.stages
    assert len(workers.buffers_of(stage)) == 3
