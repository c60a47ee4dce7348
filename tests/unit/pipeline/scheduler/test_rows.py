"""Requests of several rows: what is let in, what they cost, and which row is blamed for a death."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from msgspec.structs import replace

from pipeline.scheduler.ingress import Ingress
from pipeline.wire.messages import Keep, Kept, Loan, Notices, Order, Passed, SlotRef, Submission, Submit, WorkerGone
from shm import segments
from shm.handle import TensorHandle
from shm.pool import SlotPool
from shm.segment import Segment, SegmentSpec
from tests.unit.pipeline.scheduler.example import Example
from tests.unit.pipeline.scheduler.graphs import TENSOR_BYTES

Make = Callable[..., Example]


def several(scheduler: Example, tag: int, rows: int) -> Submission:
    """A request of so many rows, in a slot for such."""
    scheduler.handle(Loan(1, scheduler.scheduler.compiled.ingress_pools[-1] + 100, 50 + tag, False))
    scheduler.decide()
    slot = scheduler.granted[1].pop()
    handle = TensorHandle(*slot, 0, "uint8", (rows, TENSOR_BYTES))
    return Submission(tag, slot, (handle,), 0, 0, "", rows=rows)


def send(scheduler: Example, *submissions: Submission) -> list[str]:
    scheduler.handle(Submit(1, 0, submissions, ()))
    return scheduler.decide()


def order_of(scheduler: Example) -> Order:
    (order,) = [order for _, message in scheduler.decided if hasattr(message, "orders") for order in message.orders]
    return order


def test_a_request_of_several_rows_is_one_order_and_one_answer_whose_tensors_have_an_axis_for_them(
    example: Make,
) -> None:
    scheduler = example("rows", credits=8)
    assert send(scheduler, several(scheduler, 1, 3)) == ["worker 0: order 1 a>b>c"]
    order = order_of(scheduler)
    assert (order.rows, order.hop.inputs[0].shape) == (3, (3, TENSOR_BYTES))  # type: ignore[union-attr]
    # Its slots are all of the second pools.
    assert (scheduler.free("a/0"), scheduler.free("b/0")) == (scheduler.plan.pools[2].slots, scheduler.plan.pools[4].slots)
    assert scheduler.free("a/1") == scheduler.plan.pools[3].slots - 1
    for worker in (0, 1, 2):
        scheduler.handle(Notices(scheduler.epoch, worker, (), (Passed(1, 0, b""),)))
    assert scheduler.decide()[0] == "client 1: 1 OK"
    (output,) = scheduler.answers[1, 1].outputs
    assert (output.shape, output.offset) == ((3, TENSOR_BYTES), 0)  # type: ignore[union-attr]
    scheduler.scheduler.validate()


def test_each_row_takes_a_credit_and_an_order_goes_out_if_there_is_one(example: Make) -> None:
    scheduler = example("rows", credits=4)
    submissions = [several(scheduler, tag, 3) for tag in (1, 2, 3)]
    lines = send(scheduler, *submissions)
    # 3 of 4 credits; one is left for the second, and none for the third.
    assert [line.partition(" order ")[2][:1] for line in lines if "worker 0" in line] == ["1", "2"]
    assert scheduler.scheduler.status().stages[0].workers[0].credits == -2
    scheduler.scheduler.validate()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"rows": 4}, "expected 1 to 3 rows in a request, found 4"),
        ({"rows": 0}, "expected 1 to 3 rows in a request, found 0"),
        ({"rows": 1}, "several rows have slots of their own"),
        ({"rows": 2}, "expected 2 rows, found [3, 16]"),
        ({"stream": 5, "sequence": 1}, "expected one row in a request of a stream, found 3"),
    ],
)
def test_what_is_no_request_of_several_rows_is_refused(example: Make, change: dict[str, int], why: str) -> None:
    scheduler = example("rows")
    assert send(scheduler, replace(several(scheduler, 1, 3), **change))[0] == "client 1: 1 InvalidRequest"
    assert why in scheduler.answers[1, 1].message
    scheduler.scheduler.validate()


def test_rows_in_a_slot_for_one_are_refused_and_so_are_rows_where_a_request_carries_one(example: Make) -> None:
    scheduler = example("rows")
    slot = scheduler.granted[1].pop()
    handle = TensorHandle(*slot, 0, "uint8", (2, TENSOR_BYTES))
    assert send(scheduler, Submission(1, slot, (handle,), 0, 0, "", rows=2))[0] == "client 1: 1 InvalidRequest"
    other = example("chain")
    slot = other.granted[1].pop()
    handle = TensorHandle(*slot, 0, "uint8", (2, TENSOR_BYTES))
    assert send(other, Submission(1, slot, (handle,), 0, 0, "", rows=2))[0] == "client 1: 1 InvalidRequest"
    assert "expected 1 to 1 rows" in other.answers[1, 1].message


def die(scheduler: Example, worker: int, row: int = -1) -> None:
    """The worker of `a` dies at a row of request 1, and another one comes."""
    scheduler.handle(WorkerGone(worker, "killed", (1,), False, False, row))
    scheduler.decide()
    scheduler.fenced()
    scheduler.ready(worker + 10, 0)
    scheduler.decide()


def test_a_row_that_kills_twice_fails_its_request_which_names_it_and_is_what_is_kept(example: Make) -> None:
    scheduler = example("rows", credits=8)
    send(scheduler, several(scheduler, 1, 3))
    before = order_of(scheduler).hop.inputs[0]
    assert isinstance(before, TensorHandle)
    die(scheduler, 0)
    # It runs alone from now on, so that its worker computes the rows one by one.
    assert order_of(scheduler).group > 0
    die(scheduler, 10, row=1)
    ((_, keep),) = [(receiver, m) for receiver, m in scheduler.decided if isinstance(m, Keep)]
    assert (keep.rows, keep.inputs) == (1, (before._replace(offset=TENSOR_BYTES, shape=(TENSOR_BYTES,)),))
    scheduler.handle(Kept(1, "a.cap"))
    scheduler.decide()
    assert scheduler.answers[1, 1].message == (
        "row 1 of 3: stage a: killed; its inputs are in a.cap: pipeline replay a.cap"
    )
    scheduler.scheduler.validate()


def test_if_it_is_not_known_which_row_has_killed_all_are_kept(example: Make) -> None:
    scheduler = example("rows", credits=8)
    send(scheduler, several(scheduler, 1, 3))
    before = order_of(scheduler).hop.inputs[0]
    die(scheduler, 0)
    die(scheduler, 10)
    (keep,) = [message for _, message in scheduler.decided if isinstance(message, Keep)]
    assert (keep.rows, keep.inputs) == (3, (before,))
    scheduler.handle(Kept(1, ""))
    scheduler.decide()
    assert scheduler.answers[1, 1].message == "stage a: killed"


@pytest.fixture
def ingress() -> Iterator[Ingress]:
    """8 slots for requests of one row, and 4 for those of several."""
    made: list[Segment] = []
    for number, slots in ((7, 8), (8, 4)):
        made.append(segments.create("local", SegmentSpec("run", f"ingress{number}", 64, slots)))
    pools = {number: SlotPool(segment) for number, segment in zip((7, 8), made)}
    yield Ingress(pools, 1, several=[8, 20])
    for segment in made:
        segment.close()
        segment.unlink()


def test_answers_of_several_rows_that_a_client_keeps_take_from_its_share_of_their_slots_alone(ingress: Ingress) -> None:
    client = ingress.join(1, "one")

    def may_have(segment: int) -> bool:
        ingress.ask(client, segment, 1, False)
        granted = ingress.grants(0, ingress.clients)
        for _, lease in granted:
            client.granted.discard(lease)
            client.out[lease.segment] -= 1
        return bool(granted)

    # It has answers in three slots of the pool of some stage: all that it may, of four.
    client.borrowed |= {SlotRef(20, slot, 1) for slot in range(3)}
    assert not may_have(8)
    assert may_have(7)
    client.borrowed.clear()
    client.several |= {1, 2, 3}
    client.requests |= {1, 2, 3}
    assert not may_have(8)
    client.several.discard(3)
    assert may_have(8)
