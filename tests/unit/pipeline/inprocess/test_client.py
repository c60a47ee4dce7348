"""What the feeder needs of a client, over a pipeline in this process."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.errors import InvalidRequest, StageFailed
from pipeline.graph.plan import BatchPlan, Edge, Plan, PoolPlan, StagePlan, WorkerPlan
from pipeline.graph.slots import fields_of
from pipeline.inprocess.client import LocalClient
from pipeline.inprocess.pipeline import LocalPipeline
from stages.spec import TensorSpec
from stages.stage import Batch

DATA = TensorSpec("data", "uint8", ("n",), {"n": 128})


class Louder:
    """Each byte plus one; 9 is an accident."""

    inputs = outputs = (DATA,)

    def process(self, batch: Batch) -> None:
        data = batch.rows("data")[0]
        if 9 in data:
            raise ValueError("nine")
        batch.out(0, "data", data.shape)[...] = data + 1


def plan_of(stage: Louder) -> Plan:
    mine = StagePlan(
        "louder", "m:C", {}, (DATA,), (Edge("ingress", "data"),), (), (DATA,), fields_of(stage.outputs), BatchPlan(), 4,
        (WorkerPlan("louder", 0),), host="louder",
    )  # fmt: skip
    pools = (PoolPlan("ingress/0", 64, 2), PoolPlan("ingress/1", 128, 2), PoolPlan("louder", 128, 2))
    return Plan("demo", "demo.yaml", ".", (DATA,), (mine,), (("data", Edge("louder", "data")),), pools)


@pytest.fixture
def raised() -> list[tuple[str, Exception]]:
    return []


@pytest.fixture
def client(raised: list[tuple[str, Exception]]) -> Iterator[LocalClient]:
    stage = Louder()
    pipeline = LocalPipeline(plan_of(stage), [stage], lambda name, error: raised.append((name, error)))
    yield LocalClient(pipeline)
    pipeline.close()


def send(client: LocalClient, *values: int) -> list[int]:
    draft = client.draft_nowait(data=(len(values),))
    assert draft is not None
    draft.inputs["data"][...] = values
    future = draft.submit()
    assert not future.done()
    assert client.pump() == 1
    with future.get() as result:
        assert list(result) == ["data"]
        return [int(value) for value in result["data"]]


def test_a_request_is_computed_when_the_client_is_pumped_and_its_slots_come_back(client: LocalClient) -> None:
    # More than there are slots.
    for value in range(8):
        assert send(client, value, 100) == [value + 1, 101]
    assert send(client, *range(10, 110)) == list(range(11, 111))
    assert client.pump() == 0


def test_the_next_slot_is_there_when_the_request_before_is_answered(client: LocalClient) -> None:
    draft = client.draft_nowait(data=(1,))
    assert draft is not None
    draft.inputs["data"][...] = 1
    future = draft.submit()
    assert client.draft_nowait(data=(1,)) is None
    client.pump()
    assert client.draft_nowait(data=(1,)) is not None
    with future.get():
        pass


def test_a_draft_that_is_discarded_leaves_its_slot(client: LocalClient) -> None:
    for _ in range(5):
        draft = client.draft_nowait(data=(100,))
        assert draft is not None
        draft.discard()
    assert send(client, 4) == [5]


@pytest.mark.parametrize(
    ("shapes", "complaint"),
    [
        ({"other": (1,)}, "expected the inputs data; found other"),
        ({"data": (129,)}, "expected at most 128 for 'n'"),
        ({"data": (1, 1)}, "expected 1 dimensions"),
        ({"data": (-1,)}, "expected a shape of whole numbers"),
    ],
)
def test_what_does_not_fit_is_refused(client: LocalClient, shapes: dict[str, tuple[int, ...]], complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        client.draft_nowait(**shapes)
    assert send(client, 4) == [5]


def test_inputs_may_come_in_a_mapping_and_not_both_ways(client: LocalClient) -> None:
    for draft in (client.draft_nowait({"data": (1,)}), client.draft({"data": (2,)}, timeout_s=1)):
        assert draft is not None
        draft.discard()
    with pytest.raises(InvalidRequest, match="input 'data' was given twice"):
        client.draft_nowait({"data": (1,)}, data=(1,))


def test_an_exception_is_told_and_fails_its_request_alone(
    client: LocalClient, raised: list[tuple[str, Exception]]
) -> None:
    with pytest.raises(StageFailed, match="stage louder: ValueError: nine"):
        send(client, 9)
    assert [(name, str(error)) for name, error in raised] == [("louder", "nine")]
    assert send(client, 8) == [9]


def test_status_counts_what_was_computed(client: LocalClient) -> None:
    send(client, 1)
    send(client, 2)
    (stage,) = client.status()["stages"]
    assert (stage["rows"], stage["closed"]["full"]) == (2, 2)


def test_arrays_are_those_of_the_slots(client: LocalClient) -> None:
    draft = client.draft_nowait(data=(3,))
    assert draft is not None
    draft.inputs["data"][...] = (1, 2, 3)
    future = draft.submit()
    client.pump()
    with future.get() as result:
        assert isinstance(result["data"], np.ndarray)
        assert not result["data"].flags.writeable
        assert result.stages["louder"]["runs"] == 1
