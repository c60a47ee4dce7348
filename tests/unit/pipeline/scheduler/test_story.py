"""What has happened to a request, in lines."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.scheduler.story import Event, Stories, note
from pipeline.wire.messages import TOO_SMALL, AskStory, Story
from tests.unit.pipeline.scheduler.actors import MS
from tests.unit.pipeline.scheduler.example import Example

Make = Callable[..., Example]


def test_the_story_of_a_request_is_what_was_decided_about_it(example: Make) -> None:
    scheduler = example()
    scheduler.submit(7)
    scheduler.decide(after_ms=1)
    scheduler.finish(0, 1)
    scheduler.decide(after_ms=2)
    scheduler.dies(1, 1)
    scheduler.decide()
    assert scheduler.scheduler.story("00001-7") == [
        "      0.0 ms  came",
        "      1.0 ms  ordered: a from worker 0, then b from worker 1, then c from worker 2",
        "      1.0 ms  a has finished",
        "      3.0 ms  worker 1 died: b runs again",
        "      3.0 ms  suspected: b computed it and was killed",
        "      3.0 ms  attempt 1 waits for b, c",
    ]
    scheduler.fenced()
    scheduler.ready(9, 1)
    scheduler.decide(after_ms=4)
    scheduler.finish(2, 1)
    story = scheduler.scheduler.story("00001-7")
    assert story is not None
    assert story[-3:] == [
        "      7.0 ms  ordered: b from worker 9, then c from worker 2",
        "      7.0 ms  c has finished",
        "      7.0 ms  answered",
    ]


def test_the_story_of_a_request_that_has_failed_says_why(example: Make) -> None:
    scheduler = example("fan out")
    scheduler.submit(7)
    scheduler.decide()
    scheduler.finish(0, 1)
    scheduler.decide()
    assert scheduler.scheduler.story("00001-7/1") == [
        "      0.0 ms  came", "      0.0 ms  ordered: b from worker 1", "      0.0 ms  attempt 0 waits for b, c",
    ]  # fmt: skip
    scheduler.finish(1, 3, "BadInput")
    assert scheduler.scheduler.story("00001-7") == [
        "      0.0 ms  came",
        "      0.0 ms  ordered: a from worker 0",
        "      0.0 ms  a has finished",
        "      0.0 ms  ordered: b from worker 1",
        "      0.0 ms  failed: BadInput: child 1 of a: why",
    ]


def test_a_slot_that_was_too_small_is_told_of(example: Make) -> None:
    scheduler = example("sizes")
    scheduler.submit(1)
    scheduler.decide()
    scheduler.finish(0, 1, TOO_SMALL, bytes_out=100)
    story = scheduler.scheduler.story("00001-1")
    assert story is not None
    assert story[2] == "      0.0 ms  a needs a slot of 100 bytes: it runs again"


def test_what_is_asked_for_by_a_message_is_answered_by_one(example: Make) -> None:
    scheduler = example()
    scheduler.dies(0)
    scheduler.submit(1)
    scheduler.decide()
    for request, story in (
        ("00001-1", ("      0.0 ms  came", "      0.0 ms  attempt 0 waits for a, b, c")),
        ("00001-2", None),
    ):
        scheduler.handle(AskStory(9, request))
        assert scheduler.decide() == ["stranger 9: Story"]
        assert scheduler.decided[0][1] == Story(request, story)


def test_stories_of_failures_are_not_displaced_by_those_of_answers() -> None:
    stories = Stories(["a"])
    stories.end("1-1 cat.jpg", 0, [], 2 * MS, "BadInput", "no")
    for tag in range(1000):
        stories.end(f"2-{tag}", 0, [(MS, 0)], 2 * MS, "", "")
    assert stories.of_ended("1-1") == ["      0.0 ms  came", "      2.0 ms  failed: BadInput: no"]
    assert stories.of_ended("2-999") == ["      0.0 ms  came", "      1.0 ms  a has finished", "      2.0 ms  answered"]
    # That many are kept, and no more.
    assert stories.of_ended("2-744") is not None
    assert stories.of_ended("2-743") is None


def test_however_often_a_request_runs_again_its_story_stays_short() -> None:
    events: list[Event] = [(0, "first")]
    for number in range(1000):
        note(events, number, str(number))
    assert len(events) <= 64
    assert (events[0], events[-1]) == ((0, "first"), (999, "999"))
