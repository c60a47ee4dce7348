"""How requests end, and what a client has of them; parts of an answer before its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.scheduler.answers import LONGEST_MESSAGE
from pipeline.scheduler.door import ClientGone
from pipeline.wire.messages import MISSING, Answer, Answers, Cancel, Fenced, Fences, SlotRef, Submit, Trace
from pipeline.wire.traces import packed, traces_in
from shm.handle import TensorHandle
from tests.unit.pipeline.scheduler.actors import MS
from tests.unit.pipeline.scheduler.example import Example

Make = Callable[..., Example]

LAST = 2
"""The worker of the last stage of a chain."""


def test_the_answer_refers_to_the_slots_of_its_outputs_which_the_client_holds_until_it_has_read_them(
    example: Make,
) -> None:
    scheduler = example()
    scheduler.submit(1)
    scheduler.decide()
    for worker in range(3):
        scheduler.finish(worker, 1)
    assert scheduler.decide() == ["client 1: 1 OK"]
    outputs = (TensorHandle(103, 0, 1, 0, "uint8", (16,)),)
    traces = b"".join(packed(Trace(stage, 1, 2, 1, 0)) for stage in range(3))
    number = scheduler.decided[0][1].number  # type: ignore[union-attr]
    assert scheduler.decided == [(("client", 1), Answers(number, (Answer(1, "", "", outputs, traces, ""),), (), 3))]
    assert scheduler.free("c") == scheduler.plan.pools[3].slots - 1
    scheduler.release(1)
    assert scheduler.free("c") == scheduler.plan.pools[3].slots


def test_what_fails_a_child_fails_its_request_and_says_which_child(example: Make) -> None:
    scheduler = example("fan out", credits=4)
    scheduler.submit(1)
    scheduler.decide()
    scheduler.finish(0, 1)
    assert scheduler.decide() == ["worker 1: order 2 b", "worker 1: order 3 b"]
    scheduler.finish(1, 3, "BadInput")
    assert scheduler.decide() == ["worker 1: fence 2", "client 1: 1 BadInput"]
    assert scheduler.answers[1, 1].message == "child 1 of a: why"


def test_the_story_of_a_request_that_a_child_failed_has_what_happened_to_the_child(example: Make) -> None:
    scheduler = example("fan out", credits=4)
    scheduler.submit(1)
    scheduler.decide()
    scheduler.finish(0, 1)
    scheduler.decide()
    scheduler.finish(1, 3, "BadInput")
    story = scheduler.scheduler.story("00001-1")
    assert story is not None
    assert [line.rpartition("ms  ")[2] for line in story] == [
        "came",
        "ordered: a from worker 0",
        "a has finished",
        "ordered: b from worker 1",
        "failed: BadInput: child 1 of a: why",
    ]


def test_the_slot_of_an_answer_comes_back_when_the_client_has_read_it_and_no_fence_is_left(example: Make) -> None:
    scheduler = example()
    whole = scheduler.free("c")
    scheduler.submit(1)
    scheduler.decide()
    scheduler.dies(1)
    scheduler.ready(9, 1)
    scheduler.finish(0, 1)
    scheduler.decide()
    (fences,) = [message for _, message in scheduler.decided if isinstance(message, Fences)]
    scheduler.finish(9, 1)
    scheduler.finish(2, 1)
    assert scheduler.decide() == ["client 1: 1 OK"]
    scheduler.release(1)
    # The slots of both attempts.
    assert scheduler.free("c") == whole - 2
    scheduler.handle(Fenced(0, 2, fences.fences))
    assert scheduler.free("c") == whole


def test_of_a_long_message_the_middle_is_left_out(example: Make) -> None:
    scheduler = example()
    scheduler.submit(1)
    scheduler.decide()
    scheduler.finish(0, 1, "BadInput", message="a" * LONGEST_MESSAGE + "bc")
    scheduler.decide()
    half = LONGEST_MESSAGE // 2
    assert scheduler.answers[1, 1].message == "a" * half + " ... " + "a" * (half - 2) + "bc"


# -- answers in parts -------------------------------------------------------------------------------


def part(scheduler: Example, request: int, **more: Any) -> None:
    """The last stage gives a part of an answer."""
    scheduler.finish(LAST, request, last=False, parted=True, trace=(), **more)


def ends(scheduler: Example, request: int) -> None:
    """The last stage has given the last part."""
    scheduler.finish(LAST, request, parted=True, outputs=())


def begun(scheduler: Example) -> None:
    """A request is with the last stage, which has all that it needs."""
    scheduler.submit(1)
    scheduler.decide()
    scheduler.finish(0, 1)
    scheduler.finish(1, 1)
    scheduler.decide()


def release(scheduler: Example, tag: int) -> None:
    """The client lets go of the slot of a part."""
    (handle,) = scheduler.answers[1, tag].outputs
    assert isinstance(handle, TensorHandle)
    scheduler.handle(Submit(1, 0, (), (SlotRef(*handle[:3]),)))


def test_each_part_is_an_answer_and_the_last_answer_says_how_many_there_were(example: Make) -> None:
    scheduler = example()
    begun(scheduler)
    part(scheduler, 1)
    assert scheduler.decide() == ["client 1: 1 part 0"]
    first = scheduler.answers[1, 1]
    part(scheduler, 1)
    part(scheduler, 1)
    assert scheduler.decide() == ["client 1: 1 part 1", "client 1: 1 part 2"]
    ends(scheduler, 1)
    assert scheduler.decide() == ["client 1: 1 OK"]
    last = scheduler.answers[1, 1]
    assert (first.last, first.part, last.last, last.part) == (False, 0, True, 3)
    assert isinstance(first.outputs[0], TensorHandle)
    assert last.outputs == (MISSING,)
    assert len(traces_in(last.trace)) == 3


def test_an_answer_may_have_no_part_at_all(example: Make) -> None:
    scheduler = example()
    whole = scheduler.free("c")
    begun(scheduler)
    ends(scheduler, 1)
    assert scheduler.decide() == ["client 1: 1 OK"]
    assert (scheduler.answers[1, 1].outputs, scheduler.answers[1, 1].part) == ((MISSING,), 0)
    assert scheduler.free("c") == whole


def test_the_slot_of_the_parts_comes_back_when_the_client_has_read_them_and_the_last_is_made(example: Make) -> None:
    scheduler = example()
    whole = scheduler.free("c")
    begun(scheduler)
    part(scheduler, 1)
    scheduler.decide()
    release(scheduler, 1)
    scheduler.decide()
    # The stage still writes into it.
    assert scheduler.free("c") == whole - 1
    part(scheduler, 1)
    scheduler.decide()
    second = scheduler.answers[1, 1]
    ends(scheduler, 1)
    scheduler.decide()
    assert scheduler.free("c") == whole - 1
    scheduler.answers[1, 1] = second
    release(scheduler, 1)
    scheduler.decide()
    assert scheduler.free("c") == whole


def test_a_client_that_lets_go_of_the_slot_of_several_parts_has_let_go_of_all_of_them(example: Make) -> None:
    scheduler = example()
    whole = scheduler.free("c")
    begun(scheduler)
    part(scheduler, 1)
    part(scheduler, 1)
    scheduler.decide()
    release(scheduler, 1)
    ends(scheduler, 1)
    assert scheduler.free("c") == whole


def test_a_request_fails_that_had_parts_with_its_error_and_the_number_of_its_parts(example: Make) -> None:
    scheduler = example()
    begun(scheduler)
    part(scheduler, 1)
    scheduler.finish(LAST, 1, "BadInput")
    assert scheduler.decide() == ["client 1: 1 part 0", "client 1: 1 BadInput"]
    assert (scheduler.answers[1, 1].last, scheduler.answers[1, 1].part) == (True, 1)


def test_a_request_that_had_parts_does_not_run_again_when_its_worker_dies(example: Make) -> None:
    scheduler = example()
    begun(scheduler)
    part(scheduler, 1)
    scheduler.decide()
    scheduler.dies(LAST, 1)
    assert "client 1: 1 StreamBroken" in scheduler.decide()
    why = "stage c: worker 2 died (killed) after 1 part of the answer; send it again"
    assert scheduler.answers[1, 1].message == why
    scheduler.ready(3, 2)
    assert scheduler.decide() == []


def test_a_request_without_a_part_runs_again_when_its_worker_dies(example: Make) -> None:
    scheduler = example()
    begun(scheduler)
    scheduler.dies(LAST, 1)
    scheduler.ready(3, 2)
    assert "worker 3: order 1.1 c group 2" in scheduler.decide()


def test_the_death_of_a_worker_before_it_takes_nothing_from_a_request_that_gives_parts(example: Make) -> None:
    scheduler = example()
    scheduler.submit(1)
    assert scheduler.decide() == ["worker 0: order 1 a>b>c"]
    # The notices of the first two are still on their way, and die with their workers.
    part(scheduler, 1)
    scheduler.dies(0)
    scheduler.dies(1)
    assert not any("fence" in line or "order" in line for line in scheduler.decide())
    ends(scheduler, 1)
    assert scheduler.decide() == ["client 1: 1 OK"]


def test_parts_that_come_after_the_request_was_cancelled_or_late_are_dropped(example: Make) -> None:
    scheduler = example()
    scheduler.submit(1, deadline=scheduler.now + 5 * MS)
    scheduler.decide()
    part(scheduler, 1)
    assert scheduler.decide() == ["client 1: 1 part 0"]
    assert "client 1: 1 DeadlineExceeded" in scheduler.decide(after_ms=10)
    part(scheduler, 1)
    assert scheduler.decide() == []
    assert scheduler.scheduler.counts["late_notices"] == 1


def test_a_stage_whose_outputs_go_on_may_not_give_parts(example: Make) -> None:
    scheduler = example()
    scheduler.submit(1)
    scheduler.decide()
    scheduler.finish(0, 1, last=False, parted=True)
    assert "client 1: 1 StageFailed" in scheduler.decide()
    assert scheduler.answers[1, 1].message == "stage a gave a part of an answer, which it may not give"
    scheduler.fenced()
    scheduler.submit(2)
    scheduler.decide()
    scheduler.finish(0, 2, parted=True, outputs=())
    assert "client 1: 2 StageFailed" in scheduler.decide()
    assert scheduler.answers[1, 2].message == "stage a gave its outputs in parts, which it may not"


def test_the_slot_of_a_cancelled_request_comes_back_when_its_worker_has_left_it_and_the_client_has_read(example: Make) -> None:
    scheduler = example()
    whole = scheduler.free("c")
    begun(scheduler)
    part(scheduler, 1)
    scheduler.decide()
    given = scheduler.answers[1, 1]
    scheduler.handle(Cancel(1, (1,)))
    assert scheduler.decide() == ["worker 2: fence 1", "client 1: 1 Cancelled"]
    scheduler.fenced()
    assert scheduler.free("c") == whole - 1
    scheduler.answers[1, 1] = given
    release(scheduler, 1)
    assert scheduler.free("c") == whole


# -- children answered by themselves ------------------------------------------------------------------


def with_children(make: Make, **more: Any) -> Example:
    """A request whose two children, 2 and 3, are at the worker of their last stage."""
    scheduler = make("each child", credits=4, **more)
    scheduler.submit(1)
    scheduler.decide()
    scheduler.finish(0, 1)
    assert scheduler.decide() == ["worker 1: order 2 b>c", "worker 1: order 3 b>c"]
    return scheduler


def test_a_child_that_is_done_is_answered_at_once_with_its_place_among_the_others(example: Make) -> None:
    scheduler = with_children(example)
    scheduler.finish(2, 3)
    assert scheduler.decide() == ["client 1: 1 part 1"]
    part = scheduler.answers[1, 1]
    hop = scheduler.hop(2, 3)
    assert part.outputs == (TensorHandle(hop.segment, hop.slot, hop.generation, 0, "uint8", (16,)),)
    scheduler.finish(2, 2)
    assert scheduler.decide() == ["client 1: 1 part 0", "client 1: 1 OK"]
    assert (scheduler.answers[1, 1].part, scheduler.answers[1, 1].outputs) == (2, (MISSING,))


def test_the_slot_of_a_child_is_the_clients_from_its_part_on(example: Make) -> None:
    scheduler = with_children(example)
    whole = scheduler.free("c") + 2
    scheduler.finish(2, 3)
    scheduler.decide()
    scheduler.release(1)
    # The client may let go of it before the other child is done.
    assert scheduler.free("c") == whole - 1
    scheduler.finish(2, 2)
    scheduler.decide()
    assert scheduler.free("c") == whole - 1
    scheduler.scheduler.validate()


def test_a_request_without_children_has_an_answer_without_parts(example: Make) -> None:
    scheduler = example("each child")
    scheduler.submit(1)
    scheduler.decide()
    scheduler.finish(0, 1, children=((),))
    assert scheduler.decide() == ["client 1: 1 OK"]
    assert scheduler.answers[1, 1].part == 0


def test_a_child_that_fails_ends_an_answer_of_which_parts_have_gone_out(example: Make) -> None:
    scheduler = with_children(example)
    scheduler.finish(2, 2)
    scheduler.decide()
    scheduler.finish(2, 3, "BadInput")
    assert scheduler.decide() == ["worker 1: fence 3", "client 1: 1 BadInput"]
    answer = scheduler.answers[1, 1]
    assert (answer.message, answer.part, answer.outputs) == ("child 1 of a: why", 1, ())
    scheduler.scheduler.validate()


def test_the_client_does_not_notice_that_a_child_runs_again(example: Make) -> None:
    scheduler = with_children(example)
    scheduler.finish(2, 2)
    scheduler.finish(1, 3)
    scheduler.decide()
    scheduler.dies(2, 3)
    scheduler.decide()
    scheduler.ready(9, 2)
    assert "worker 9: order 3.1 c" in [line.partition(" group")[0] for line in scheduler.decide()]
    scheduler.finish(9, 3)
    assert scheduler.decide() == ["client 1: 1 part 1", "client 1: 1 OK"]


def test_the_slot_of_a_child_that_a_fence_holds_comes_back_after_the_client_and_the_fence(example: Make) -> None:
    scheduler = example("each child", credits=4)
    whole = scheduler.free("c")
    scheduler.ready(9, 1)
    scheduler.submit(1)
    scheduler.decide()
    scheduler.finish(0, 1)
    assert scheduler.decide() == ["worker 1: order 2 b>c", "worker 9: order 3 b>c"]
    # Child 3 is ordered again, and its old order at the worker of the last stage is fenced.
    scheduler.dies(9)
    scheduler.finish(2, 2)
    lines = scheduler.decide()
    assert {"client 1: 1 part 0", "worker 2: fence 3", "worker 1: order 3.1 b>c"} <= set(lines)
    scheduler.release(1)
    assert scheduler.free("c") == whole - 3
    scheduler.fenced()
    assert scheduler.free("c") == whole - 1


def test_a_part_has_no_output_of_a_stage_that_was_skipped_for_its_child(example: Make) -> None:
    scheduler = example("each child perhaps", credits=4)
    scheduler.submit(1)
    scheduler.decide()
    scheduler.finish(0, 1)
    assert scheduler.decide() == ["worker 1: order 2 b", "worker 1: order 3 b"]
    first, second = scheduler.notice(1, 2).outputs
    scheduler.finish(1, 2)
    assert scheduler.decide() == ["client 1: 1 part 0"]
    assert scheduler.answers[1, 1].outputs == (first, MISSING)
    assert second != first


def test_a_client_that_is_gone_gets_no_part_and_keeps_no_slot(example: Make) -> None:
    scheduler = with_children(example)
    whole = scheduler.free("c") + 2
    scheduler.finish(2, 2)
    scheduler.decide()
    scheduler.handle(ClientGone(1))
    assert scheduler.free("c") == whole - 1
    scheduler.finish(2, 3)
    assert not [line for line in scheduler.decide() if "part" in line]
    assert scheduler.free("c") == whole


def test_the_children_of_one_request_that_a_client_holds_count_as_one_answer(example: Make) -> None:
    scheduler = example("each child", credits=4, slots=2, ready=False)
    for stage in range(3):
        scheduler.ready(stage, stage)
    scheduler.joins(1, 1)
    scheduler.submit(1)
    scheduler.decide()
    scheduler.finish(0, 1)
    scheduler.decide()
    scheduler.finish(2, 2)
    scheduler.finish(2, 3)
    scheduler.asks(1)
    assert scheduler.decide() == ["client 1: 1 part 0", "client 1: 1 part 1", "client 1: 1 OK", "client 1: a slot"]
