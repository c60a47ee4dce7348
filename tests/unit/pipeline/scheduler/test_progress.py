"""What a finished stage makes possible: the next stages, children, joins, and the end."""

from __future__ import annotations

from collections.abc import Callable

from tests.unit.pipeline.scheduler.example import Example

Make = Callable[..., Example]


def passed(scheduler: Example, worker: int, *requests: int, **more: int) -> list[str]:
    """A worker has finished with requests; what is decided then."""
    for request in requests:
        scheduler.finish(worker, request, **more)
    return scheduler.decide()


def test_there_is_a_child_for_each_of_many_tensors_and_the_join_has_them_in_order(example: Make) -> None:
    scheduler = example("fan out", credits=4)
    scheduler.submit(1)
    assert scheduler.decide() == ["worker 0: order 1 a"]
    assert passed(scheduler, 0, 1) == ["worker 1: order 2 b", "worker 1: order 3 b"]
    first, second = (scheduler.notice(1, child).outputs[0] for child in (2, 3))
    assert passed(scheduler, 1, 3) == []
    assert passed(scheduler, 1, 2) == ["worker 2: order 1 c"]
    hop = scheduler.hop(2, 1)
    assert hop.inputs[:2] == (first, second)
    assert hop.lengths == (2, -1)
    assert passed(scheduler, 2, 1) == ["client 1: 1 OK"]
    scheduler.release(1)
    assert [pool.in_use for pool in scheduler.pools] == [2, 0, 0, 0]
    assert list(scheduler.scheduler.requests) == []


def test_without_children_the_join_runs_at_once(example: Make) -> None:
    scheduler = example("fan out")
    scheduler.submit(1)
    scheduler.decide()
    assert passed(scheduler, 0, 1, children=((),)) == ["worker 2: order 1 c"]


def test_a_stage_whose_condition_does_not_hold_is_skipped(example: Make) -> None:
    scheduler = example("either or")
    for tag, truths, branch in ((1, 0b10, "b"), (2, 0b00, "d")):
        scheduler.submit(tag)
        assert scheduler.decide() == [f"worker 0: order {tag} a"]
        worker = {"b": 1, "d": 2}[branch]
        assert passed(scheduler, 0, tag, truths=truths) == [f"worker {worker}: order {tag} {branch}>e"]
        assert passed(scheduler, 3, tag) == [f"client 1: {tag} OK"]


def test_what_needs_a_skipped_stage_is_skipped_and_its_output_is_missing(example: Make) -> None:
    scheduler = example("perhaps an answer")
    scheduler.submit(1)
    scheduler.decide()
    assert passed(scheduler, 0, 1, truths=0) == ["client 1: 1 OK"]
    assert scheduler.answers[1, 1].outputs[1] == -1


def test_a_fan_out_that_is_skipped_has_no_children(example: Make) -> None:
    scheduler = example("perhaps a fan out")
    scheduler.submit(1)
    scheduler.decide()
    assert passed(scheduler, 0, 1, truths=0) == ["worker 3: order 1 h"]
    assert scheduler.scheduler.counts["children"] == 0


def test_children_may_have_children(example: Make) -> None:
    scheduler = example("fan out within", credits=8)
    scheduler.submit(1)
    scheduler.decide()
    assert passed(scheduler, 0, 1) == ["worker 1: order 2 b", "worker 1: order 3 b"]
    assert passed(scheduler, 1, 2, 3) == [f"worker 2: order {child} c" for child in (4, 5, 6, 7)]
    assert passed(scheduler, 2, 4, 5) == ["worker 3: order 2 d"]
    assert passed(scheduler, 2, 6, 7) == ["worker 3: order 3 d"]
    assert passed(scheduler, 3, 2, 3) == ["worker 4: order 1 e"]
    assert passed(scheduler, 4, 1) == ["client 1: 1 OK"]
