"""What processes that watch are told of the requests that have ended."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.scheduler import observation
from pipeline.scheduler.door import stranger
from pipeline.scheduler.observation import MOST_OBSERVERS, PATIENCE_NS
from pipeline.wire.messages import Observe, Observed, Stop
from tests.unit.pipeline.scheduler.actors import MS
from tests.unit.pipeline.scheduler.example import Example

Make = Callable[..., Example]


def observed(scheduler: Example, seen: int = 0, number: int = 9, after_ms: float = 0) -> Observed:
    scheduler.handle(Observe(number, seen))
    scheduler.decide(after_ms)
    (found,) = [message for receiver, message in scheduler.decided if receiver == stranger(number)]
    assert isinstance(found, Observed)
    return found


def answer(scheduler: Example, request: int) -> None:
    """All three stages finish it."""
    scheduler.decide(after_ms=1)
    for worker in range(3):
        scheduler.finish(worker, request)
        scheduler.decide(after_ms=1)


def test_what_ends_is_kept_from_the_first_question_on_and_told_once(example: Make) -> None:
    scheduler = example()
    scheduler.submit(7)
    answer(scheduler, 1)
    assert observed(scheduler) == Observed(1, (), 0)
    scheduler.submit(8)
    answer(scheduler, 2)
    (ended,) = observed(scheduler, seen=1).ended
    assert (ended.label, ended.client, ended.code, ended.message) == ("00001-8", "client 1", "", "")
    assert (ended.ended - ended.submitted) / MS == pytest.approx(3)
    assert [(step.stage, step.worker, step.child) for step in ended.steps] == [(0, 0, -1), (1, 1, -1), (2, 2, -1)]
    assert observed(scheduler, seen=2).ended == ()


def test_a_worker_that_has_not_told_yet_when_the_one_behind_it_has_is_known_all_the_same(example: Make) -> None:
    scheduler = example()
    observed(scheduler)
    scheduler.submit(7)
    scheduler.decide()
    scheduler.finish(2, 1)
    (ended,) = observed(scheduler, seen=1).ended
    steps = {(step.stage, step.worker, bool(step.at)) for step in ended.steps}
    assert steps == {(0, 0, False), (1, 1, False), (2, 2, True)}


def test_an_answer_that_was_lost_comes_again_as_it_was(example: Make) -> None:
    scheduler = example()
    observed(scheduler)
    scheduler.submit(7)
    answer(scheduler, 1)
    first = observed(scheduler, seen=1)
    scheduler.submit(8)
    answer(scheduler, 2)
    assert observed(scheduler, seen=1) == first
    assert [ended.label for ended in observed(scheduler, seen=2).ended] == ["00001-8"]


def test_a_request_that_failed_has_its_code_and_one_that_was_not_let_in_as_well(example: Make) -> None:
    scheduler = example()
    observed(scheduler)
    scheduler.submit(7)
    scheduler.decide()
    scheduler.finish(0, 1, "BadInput")
    scheduler.submit(8, priority=12)
    failed, refused = observed(scheduler, seen=1).ended
    assert (failed.code, failed.message) == ("BadInput", "why")
    assert (refused.label, refused.code, refused.traces) == ("00001-8", "InvalidRequest", b"")
    assert refused.message.startswith("expected a priority")


def test_one_that_asks_no_more_is_forgotten(example: Make) -> None:
    scheduler = example()
    observed(scheduler)
    scheduler.decide(after_ms=PATIENCE_NS / MS + 1)
    scheduler.submit(7)
    answer(scheduler, 1)
    assert not scheduler.scheduler._state.observation.observers
    assert observed(scheduler, seen=1) == Observed(1, (), 0)


def test_a_slow_one_is_told_how_many_it_has_missed(example: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observation, "MOST_KEPT", 1)
    scheduler = example()
    observed(scheduler)
    for number in range(1, 4):
        scheduler.submit(number)
        answer(scheduler, number)
    found = observed(scheduler, seen=1)
    assert ([ended.label for ended in found.ended], found.lost) == (["00001-1"], 2)
    assert observed(scheduler, seen=2).lost == 0


def test_what_does_not_fit_a_message_comes_with_the_next(example: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observation, "_MOST_BYTES", 1)
    scheduler = example()
    observed(scheduler)
    for number in (1, 2):
        scheduler.submit(number)
        answer(scheduler, number)
    assert [ended.label for ended in observed(scheduler, seen=1).ended] == ["00001-1"]
    assert [ended.label for ended in observed(scheduler, seen=2).ended] == ["00001-2"]


def test_of_too_many_the_last_is_refused(example: Make) -> None:
    scheduler = example()
    for number in range(MOST_OBSERVERS):
        assert observed(scheduler, number=100 + number) == Observed(1, (), 0)
    assert "watch already" in observed(scheduler, number=200).refused
    assert observed(scheduler, seen=1, number=100) == Observed(2, (), 0)


def test_a_scheduler_that_ends_tells_the_rest(example: Make) -> None:
    scheduler = example()
    observed(scheduler)
    scheduler.submit(7)
    answer(scheduler, 1)
    scheduler.handle(Stop())
    scheduler.decide()
    *_, last = [message for receiver, message in scheduler.decided if receiver == stranger(9)]
    assert isinstance(last, Observed)
    assert ([ended.label for ended in last.ended], last.last, last.number) == (["00001-7"], True, 2)


def test_a_process_of_the_run_is_told_what_ended_before_it_asked_and_a_stranger_is_not(example: Make) -> None:
    scheduler = example()
    scheduler.scheduler.expect_observers(1)
    scheduler.submit(7)
    answer(scheduler, 1)
    assert observed(scheduler, number=9).ended == ()
    scheduler.handle(Observe(10, 0, expected=True))
    scheduler.decide()
    (found,) = [message for receiver, message in scheduler.decided if receiver == stranger(10)]
    assert isinstance(found, Observed)
    assert [ended.label for ended in found.ended] == ["00001-7"]
    # The place was its own: the next process of the run begins anew.
    scheduler.handle(Observe(11, 0, expected=True))
    scheduler.decide()
    assert (stranger(11), Observed(1, (), 0)) in scheduler.decided


def test_the_end_waits_for_a_process_of_the_run_that_has_not_asked_yet_but_not_for_ever(example: Make) -> None:
    scheduler = example()
    scheduler.scheduler.expect_observers(1)
    scheduler.submit(7)
    answer(scheduler, 1)
    scheduler.handle(Stop())
    scheduler.decide(after_ms=1000)
    assert not scheduler.scheduler.stopped
    scheduler.handle(Observe(10, 0, expected=True))
    scheduler.decide()
    assert scheduler.scheduler.stopped
    *_, last = [message for receiver, message in scheduler.decided if receiver == stranger(10)]
    assert isinstance(last, Observed)
    assert last.last
    other = example()
    other.scheduler.expect_observers(1)
    other.handle(Stop())
    other.decide(after_ms=2999)
    assert not other.scheduler.stopped
    other.decide(after_ms=2)
    assert other.scheduler.stopped


def test_what_an_observer_has_exported_is_counted_once_whatever_it_repeats(example: Make) -> None:
    scheduler = example()
    for seen, spans in ((0, (0, 0, 0, 0)), (1, (5, 1, 0, 2)), (2, (5, 1, 0, 2)), (3, (9, 1, 0, 2)), (4, ())):
        scheduler.handle(Observe(9, seen, spans))
    # The next process begins at 0.
    scheduler.handle(Observe(10, 0, (3, 0, 0, 0)))
    counts = scheduler.scheduler._state.counts
    assert {name: counts[name] for name in counts if name.startswith("spans_")} == {
        "spans_exported": 12, "spans_dropped": 1, "spans_failed": 0, "spans_missed": 2,
    }  # fmt: skip


def test_an_observer_that_exports_nothing_counts_nothing(example: Make) -> None:
    scheduler = example()
    observed(scheduler)
    assert not [name for name in scheduler.scheduler._state.counts if name.startswith("spans_")]
