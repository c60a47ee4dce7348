"""Requests of a stream run one after the other, in each stage at one worker."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from pipeline.scheduler.streams import MOST_STREAMS
from pipeline.wire.messages import Bye, Cancel, Drain, Orders, Retire, Submit
from tests.unit.pipeline.scheduler.actors import MS
from tests.unit.pipeline.scheduler.example import Example

Make = Callable[..., Example]

STREAM = 5


def send(scheduler: Example, tag: int, sequence: int, *, stream: int = STREAM, client: int = 1, priority: int = 0) -> None:
    """A client sends a request of a stream."""
    plain = scheduler.submission(tag, scheduler.granted[client].pop(0), priority=priority)
    scheduler.handle(Submit(client, 0, (replace(plain, stream=stream, sequence=sequence),), ()))


def end(scheduler: Example, *streams: int) -> None:
    scheduler.handle(Submit(1, 0, (), (), streams))


def message_of(scheduler: Example, tag: int, client: int = 1) -> str:
    return scheduler.answers[client, tag].message


# -- in order, at one worker ------------------------------------------------------------------------


def test_a_request_waits_in_each_stage_until_those_of_its_stream_before_it_have_passed(example: Make) -> None:
    scheduler = example()
    send(scheduler, 1, 1)
    send(scheduler, 2, 2)
    assert scheduler.decide() == ["worker 0: order 1 a>b>c"]
    scheduler.finish(0, 1)
    # Not further than `a`, since `b` has not finished with the first.
    assert scheduler.decide() == ["worker 0: order 2 a"]
    scheduler.finish(0, 2)
    assert scheduler.decide() == []
    scheduler.finish(1, 1)
    assert scheduler.decide() == ["worker 1: order 2 b"]
    scheduler.finish(2, 1)
    assert scheduler.decide() == ["client 1: 1 OK"]
    scheduler.finish(1, 2)
    assert scheduler.decide() == ["worker 2: order 2 c"]


def test_requests_of_other_streams_and_of_none_do_not_wait_for_it(example: Make) -> None:
    scheduler = example()
    send(scheduler, 1, 1)
    send(scheduler, 2, 1, stream=6)
    scheduler.submit(3)
    assert scheduler.decide() == ["worker 0: order 1 a>b>c", "worker 0: order 2 a>b>c"]
    scheduler.finish(0, 2)
    assert scheduler.decide() == ["worker 0: order 3 a"]


def test_a_stream_stays_at_its_worker_in_each_stage_though_another_has_more_credit(example: Make) -> None:
    scheduler = example()
    scheduler.ready(3, 0)
    send(scheduler, 1, 1)
    (first,) = scheduler.decide()
    assert first == "worker 0: order 1 a>b>c"
    scheduler.submit(2)
    assert scheduler.decide() == ["worker 3: order 2 a>b>c"]
    send(scheduler, 3, 2)
    scheduler.finish(0, 1)
    scheduler.finish(3, 2)
    assert scheduler.decide() == ["worker 0: order 3 a"]


def test_a_request_waits_for_its_worker_while_others_of_the_stage_take_what_comes_behind_it(example: Make) -> None:
    scheduler = example(credits=1)
    send(scheduler, 1, 1)
    assert scheduler.decide() == ["worker 0: order 1 a>b>c"]
    for worker in range(3):
        scheduler.finish(worker, 1)
    # The worker of the stream gets other work; then comes the stream's next request, and one more behind it.
    scheduler.submit(2)
    assert scheduler.decide() == ["client 1: 1 OK", "worker 0: order 2 a>b>c"][::-1]
    scheduler.ready(3, 0)
    send(scheduler, 3, 2)
    scheduler.asks()
    scheduler.release(1)
    assert scheduler.decide() == ["client 1: a slot"]
    scheduler.submit(4)
    assert scheduler.decide() == ["worker 3: order 4 a"]
    for worker in range(3):
        scheduler.finish(worker, 2)
    assert "worker 0: order 3 a" in scheduler.decide()[0]


def test_the_children_of_a_request_of_a_stream_stay_at_one_worker(example: Make) -> None:
    scheduler = example("fan out", credits=2)
    scheduler.ready(4, 1)
    send(scheduler, 1, 1)
    assert scheduler.decide() == ["worker 0: order 1 a"]
    scheduler.finish(0, 1)
    ordered = scheduler.decide()
    assert [line.split(":")[0] for line in ordered] == ["worker 1", "worker 1"]


def test_an_order_tells_its_worker_the_stream_the_sequence_and_the_trace(example: Make) -> None:
    scheduler = example()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    plain = scheduler.submission(1, scheduler.granted[1].pop(0))
    scheduler.handle(Submit(1, 0, (replace(plain, stream=STREAM, sequence=9, started=77, traceparent=trace),), ()))
    scheduler.decide()
    ((_, orders),) = scheduler.decided
    assert isinstance(orders, Orders)
    (order,) = orders.orders
    assert (order.stream, order.sequence, order.started, order.traceparent) == (1, 9, 77, trace)


def test_the_number_of_a_stream_is_none_of_an_earlier_scheduler(example: Make) -> None:
    scheduler = example(epoch=4)
    send(scheduler, 1, 1)
    scheduler.decide()
    ((_, orders),) = scheduler.decided
    assert isinstance(orders, Orders)
    assert orders.orders[0].stream == (4 << 40) + 1


def test_what_has_waited_longer_goes_before_a_stream(example: Make) -> None:
    scheduler = example(credits=1)
    send(scheduler, 1, 1)
    assert scheduler.decide() == ["worker 0: order 1 a>b>c"]
    scheduler.submit(2)
    scheduler.decide(after_ms=1)
    send(scheduler, 3, 2)
    scheduler.finish(0, 1)
    assert scheduler.decide() == ["worker 0: order 2 a"]
    scheduler.finish(1, 1)
    scheduler.finish(0, 2)
    assert "worker 0: order 3 a" in scheduler.decide()


def test_a_request_of_a_stream_that_is_cancelled_lets_the_next_one_pass(example: Make) -> None:
    scheduler = example()
    send(scheduler, 1, 1)
    send(scheduler, 2, 2)
    scheduler.decide()
    scheduler.handle(Cancel(1, (1,)))
    assert scheduler.decide() == [
        "worker 0: order 2 a>b>c", "worker 0: fence 1", "worker 1: fence 1", "worker 2: fence 1", "client 1: 1 Cancelled",
    ]  # fmt: skip


def test_a_held_request_that_is_cancelled_is_not_ordered_later(example: Make) -> None:
    scheduler = example()
    send(scheduler, 1, 1)
    send(scheduler, 2, 2)
    scheduler.decide()
    scheduler.handle(Cancel(1, (2,)))
    assert scheduler.decide() == ["client 1: 2 Cancelled"]
    for worker in range(3):
        scheduler.finish(worker, 1)
    assert scheduler.decide() == ["client 1: 1 OK"]


def test_what_is_held_counts_as_waiting(example: Make) -> None:
    scheduler = example(changed={"queue_max": 1})
    send(scheduler, 1, 1)
    scheduler.decide()
    send(scheduler, 2, 2)
    assert scheduler.scheduler.status().stages[0].waiting == 1
    scheduler.submit(3)
    assert scheduler.decide() == ["client 1: 3 Overloaded"]


# -- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "sequence", "why"),
    [
        (STREAM, 1, "stream 5: expected a sequence number above 1, found 1"),
        (STREAM, 0, "expected a stream and a sequence number from 1 on, found 5 and 0"),
        (0, 2, "expected a stream and a sequence number from 1 on, found 0 and 2"),
        (-1, 2, "expected a stream and a sequence number from 1 on, found -1 and 2"),
    ],
)
def test_a_sequence_number_that_does_not_rise_is_refused(example: Make, stream: int, sequence: int, why: str) -> None:
    scheduler = example()
    send(scheduler, 1, 1)
    scheduler.decide()
    send(scheduler, 2, sequence, stream=stream)
    assert scheduler.decide() == ["client 1: 2 InvalidRequest"]
    assert message_of(scheduler, 2) == why


def test_sequence_numbers_may_be_left_out_and_streams_of_two_clients_may_have_one_name(example: Make) -> None:
    scheduler = example(slots=6)
    scheduler.joins(2, slots=1)
    send(scheduler, 1, 1)
    send(scheduler, 2, 7)
    send(scheduler, 1, 1, client=2)
    assert scheduler.decide() == ["worker 0: order 1 a>b>c", "worker 0: order 3 a>b>c"]


def test_a_stream_that_was_ended_is_forgotten_with_its_last_answer_and_its_name_may_be_used_again(example: Make) -> None:
    scheduler = example()
    send(scheduler, 1, 4)
    scheduler.decide()
    end(scheduler, STREAM, 99)
    send(scheduler, 2, 5)
    assert scheduler.decide() == ["client 1: 2 InvalidRequest"]
    assert message_of(scheduler, 2) == "stream 5 was ended, and waits for its last answers: begin another stream"
    for worker in range(3):
        scheduler.finish(worker, 1)
    scheduler.decide()
    send(scheduler, 3, 1)
    assert scheduler.decide() == ["worker 0: order 2 a>b>c"]


def test_a_client_has_so_many_streams_at_most_and_says_when_one_ends(example: Make) -> None:
    scheduler = example()
    streams = scheduler.scheduler._state.streams
    request = scheduler.scheduler.requests
    send(scheduler, 1, 1)
    scheduler.decide()
    for name in range(100, 99 + MOST_STREAMS):
        streams.join(request[1], 1, name, 1)
    assert streams.refusal(1, 7, 1) == ("InvalidRequest", "this client has 1024 streams already, which is the most: end some")
    assert streams.refusal(1, 100, 2) is None
    assert streams.refusal(2, 7, 1) is None


def test_the_streams_of_a_client_end_with_it(example: Make) -> None:
    scheduler = example()
    send(scheduler, 1, 4)
    send(scheduler, 2, 5)
    scheduler.decide()
    scheduler.handle(Bye(1, ()))
    scheduler.decide()
    streams = scheduler.scheduler._state.streams
    assert [(stream.ended, [request.tag for request in stream.requests]) for stream in streams] == [(True, [1])]
    for worker in range(3):
        scheduler.finish(worker, 1)
    scheduler.decide()
    assert list(streams) == []
    assert not streams._counts


# -- they break -------------------------------------------------------------------------------------


def test_the_streams_of_a_dead_worker_fail_and_say_which_worker_of_which_stage_it_was(example: Make) -> None:
    scheduler = example()
    scheduler.ready(3, 0)
    send(scheduler, 1, 1)
    send(scheduler, 2, 2)
    scheduler.decide()
    scheduler.submit(3)
    assert scheduler.decide() == ["worker 3: order 3 a>b>c"]
    scheduler.dies(0, 1)
    decided = scheduler.decide()
    assert [line for line in decided if line.startswith("client")] == ["client 1: 1 StreamBroken", "client 1: 2 StreamBroken"]
    assert not any("order" in line for line in decided)
    why = "stream 5 cannot go on: its worker in stage a, w0, killed; begin another stream"
    assert {message_of(scheduler, tag) for tag in (1, 2)} == {why}
    scheduler.fenced()
    scheduler.asks()
    scheduler.decide()
    send(scheduler, 4, 3)
    assert scheduler.decide() == ["client 1: 4 StreamBroken"]
    assert message_of(scheduler, 4) == why


def test_requests_of_a_broken_stream_that_have_passed_the_stage_are_answered(example: Make) -> None:
    scheduler = example()
    send(scheduler, 1, 1)
    send(scheduler, 2, 2)
    scheduler.decide()
    scheduler.finish(0, 1)
    scheduler.decide()
    scheduler.dies(0, 2)
    assert [line for line in scheduler.decide() if line.startswith("client")] == ["client 1: 2 StreamBroken"]


def test_what_is_of_no_stream_runs_again_when_its_worker_dies_with_a_stream(example: Make) -> None:
    scheduler = example()
    send(scheduler, 1, 1)
    scheduler.submit(2)
    scheduler.decide()
    scheduler.dies(0)
    scheduler.decide()
    scheduler.ready(3, 0)
    assert scheduler.decide() == ["worker 3: order 2.1 a"]


# -- retirement -------------------------------------------------------------------------------------


def test_a_worker_that_retires_finishes_what_it_has_is_ordered_nothing_more_and_is_told_to_leave(example: Make) -> None:
    scheduler = example()
    scheduler.ready(3, 0)
    scheduler.submit(1)
    assert scheduler.decide() == ["worker 0: order 1 a>b>c"]
    scheduler.handle(Retire(0))
    scheduler.submit(2)
    assert scheduler.decide() == ["worker 3: order 2 a>b>c"]
    scheduler.finish(0, 1)
    assert scheduler.decide() == ["worker 0: Retire"]
    assert scheduler.decided[0][1] == Retire(0)
    assert scheduler.decide() == []
    scheduler.dies(0)
    scheduler.decide()
    counts = scheduler.scheduler.counts
    assert (counts["retired_workers"], counts["worker_deaths"], counts["retries"]) == (1, 0, 0)
    assert scheduler.scheduler.status().stages[0].deaths == 0


def test_a_worker_may_be_retired_before_it_is_ready(example: Make) -> None:
    scheduler = example()
    scheduler.handle(Retire(3))
    scheduler.ready(3, 0)
    assert scheduler.decide() == ["worker 3: Retire"]


def test_a_retiring_worker_that_dies_is_a_death_like_any_other(example: Make) -> None:
    scheduler = example()
    scheduler.ready(3, 0)
    scheduler.submit(1)
    scheduler.decide()
    scheduler.handle(Retire(0))
    scheduler.dies(0, 1)
    scheduler.decide()
    scheduler.fenced()
    assert scheduler.scheduler.counts["worker_deaths"] == 1
    assert scheduler.scheduler.counts["retries"] == 1


def test_the_streams_of_a_retiring_worker_end_with_what_it_was_ordered(example: Make) -> None:
    scheduler = example()
    send(scheduler, 1, 1)
    send(scheduler, 2, 2)
    scheduler.decide()
    scheduler.handle(Retire(0))
    assert scheduler.decide() == ["client 1: 2 StreamBroken"]
    assert message_of(scheduler, 2) == "stream 5 cannot go on: its worker in stage a, w0, was retired; begin another stream"
    for worker in range(3):
        scheduler.finish(worker, 1)
    assert scheduler.decide() == ["worker 0: Retire", "client 1: 1 OK"]


def test_answers_come_in_the_streams_order_whatever_stages_are_skipped(example: Make) -> None:
    scheduler = example("perhaps an answer")
    send(scheduler, 1, 1)
    send(scheduler, 2, 2)
    scheduler.decide()
    # Bit 1 is the condition of `b`: it holds for the first request only.
    scheduler.finish(0, 1, conditions=0b10)
    scheduler.decide()
    scheduler.finish(0, 2, conditions=0)
    assert scheduler.decide() == []
    scheduler.finish(1, 1)
    scheduler.finish(2, 1)
    assert scheduler.decide() == ["client 1: 1 OK", "client 1: 2 OK"]


# -- one that only waits for the one before it ------------------------------------------------------


def nothing_left_for_the_second(example: Make, **changed: object) -> Example:
    """Of two requests of a stream the first is at `b`, which the second skips."""
    scheduler = example("perhaps an answer", changed=changed)
    send(scheduler, 1, 1)
    send(scheduler, 2, 2)
    scheduler.decide()
    scheduler.finish(0, 1, conditions=0b10)
    scheduler.decide()
    scheduler.finish(0, 2, conditions=0)
    assert scheduler.decide() == []
    return scheduler


def answered(scheduler: Example, after_ms: float = 0) -> list[str]:
    lines = [line for line in scheduler.decide(after_ms) if line.startswith("client")]
    scheduler.scheduler.validate()
    return lines


def test_if_both_are_cancelled_at_once_the_second_is_answered(example: Make) -> None:
    scheduler = nothing_left_for_the_second(example)
    scheduler.handle(Cancel(1, (1, 2)))
    assert answered(scheduler) == ["client 1: 1 Cancelled", "client 1: 2 OK"]
    # And nothing of them is kept, however long the stream goes on.
    assert [(stream.requests, stream.through) for stream in scheduler.scheduler._state.streams] == [([], set())]


def test_if_both_are_late_at_once_the_second_is_answered(example: Make) -> None:
    scheduler = nothing_left_for_the_second(example, deadline_ms=5)
    assert answered(scheduler, after_ms=10) == ["client 1: 1 DeadlineExceeded", "client 1: 2 OK"]


def test_if_a_drain_is_over_before_the_first_is_the_second_is_answered(example: Make) -> None:
    scheduler = nothing_left_for_the_second(example)
    scheduler.handle(Drain(scheduler.now + 5 * MS))
    assert answered(scheduler, after_ms=10) == ["client 1: 1 Unavailable", "client 1: 2 OK"]
    assert [left.request for left in scheduler.scheduler._state.left_over] == [1]
