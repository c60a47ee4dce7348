from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from stages.video.cameras import Camera, Rule
from stages.video.event import Report
from stages.video.events import Events
from stages.video.kalman import begun
from stages.video.tracker import Track
from stages.video.zones import Zone

PORCH = Zone("porch", ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)))
IN, OUT = 0.2, 0.8


def track(x: float, number: int = 1, label: str = "person", score: float = 0.8, began: float = 0.0, size: float = 0.1) -> Track:
    box = (0.5 - size, x - size / 2, 0.5 + size, x + size / 2)
    return Track(number, label, score, begun(box), began, began, confirmed=True)


def rules(*rules: Rule) -> Events:
    return Events("door", Camera(zones=(PORCH,), rules=rules))


def step(events: Events, tracks: Sequence[Track], time: float, ended: Sequence[Track] = ()) -> list[Report]:
    return events.step([replace(one, seen=time) for one in tracks], ended, time, int(time))


def told(reports: Sequence[Report]) -> list[tuple[str, str]]:
    return [(report.state, report.event.rule) for report in reports]


def test_a_thing_is_an_event_from_its_beginning_to_when_it_was_last_seen() -> None:
    events = rules()
    (begin,) = step(events, [track(OUT, began=1.0)], 3.0)
    assert (begin.state, begin.event.rule, begin.event.start, begin.event.label) == ("begin", "object", 1.0, "person")
    assert step(events, [track(OUT, began=1.0)], 4.0) == []
    (end,) = step(events, [], 7.0, ended=[replace(track(OUT, began=1.0), seen=4.0)])
    assert (end.state, end.event.end, end.event.reason) == ("end", 4.0, "gone")
    assert end.event.id == begin.event.id
    assert step(events, [], 8.0) == []


def test_a_zone_that_a_thing_comes_to_is_an_update() -> None:
    events = rules()
    step(events, [track(OUT)], 1.0)
    assert step(events, [track(IN)], 2.0) == []
    (update,) = step(events, [track(IN)], 3.0)
    assert (update.state, update.event.zones) == ("update", ("porch",))
    assert events.zones_of(1) == ["porch"]
    # It has been there also after it has left.
    step(events, [track(OUT)], 4.0)
    step(events, [track(OUT)], 5.0)
    assert events.zones_of(1) == []
    (end,) = step(events, [], 9.0, ended=[track(OUT)])
    assert end.event.zones == ("porch",)


def test_only_a_picture_that_is_clearly_better_is_an_update() -> None:
    events = rules()
    (begin,) = step(events, [track(OUT, score=0.6)], 1.0)
    assert step(events, [track(OUT, score=0.64)], 2.0) == []
    (update,) = step(events, [track(OUT, score=0.7)], 3.0)
    assert begin.event.best is not None
    assert update.event.best is not None
    assert (begin.event.best.sequence, update.event.best.sequence) == (1, 3)
    assert step(events, [track(OUT, score=0.3)], 4.0) == []
    (end,) = step(events, [], 9.0, ended=[track(OUT)])
    assert (end.event.best, end.event.score) == (update.event.best, 0.7)


def test_a_thing_that_is_unseen_is_in_no_best_picture() -> None:
    events = rules()
    step(events, [track(OUT, score=0.5)], 1.0)
    assert events.step([replace(track(OUT, score=0.9), unseen_s=1.0)], [], 2.0, 2) == []


def test_enter_lasts_from_when_a_thing_came_in_until_it_leaves() -> None:
    events = rules(Rule("enter", "porch"))
    assert told(step(events, [track(IN)], 1.0)) == [("begin", "object")]
    reports = step(events, [track(IN)], 2.0)
    assert told(reports) == [("update", "object"), ("begin", "enter")]
    assert (reports[1].event.start, reports[1].event.zone) == (1.0, "porch")
    step(events, [track(OUT)], 3.0)
    (end,) = step(events, [track(OUT)], 4.0)
    assert (end.state, end.event.rule, end.event.end, end.event.reason) == ("end", "enter", 4.0, "over")


def test_enter_ends_when_the_thing_was_last_seen_if_it_is_gone() -> None:
    events = rules(Rule("enter", "porch"))
    step(events, [track(IN)], 1.0)
    step(events, [track(IN)], 2.0)
    ends = step(events, [], 9.0, ended=[replace(track(IN), seen=2.0)])
    assert told(ends) == [("end", "object"), ("end", "enter")]
    assert {(end.event.end, end.event.reason) for end in ends} == {(2.0, "gone")}


def test_leave_is_told_once_with_how_long_the_thing_was_there() -> None:
    events = rules(Rule("leave", "porch"))
    for second, x in enumerate((IN, IN, IN, OUT)):
        assert "leave" not in [rule for _, rule in told(step(events, [track(x)], second))]
    (left,) = step(events, [track(OUT)], 4.0)
    assert (left.state, left.event.rule, left.event.start, left.event.end) == ("end", "leave", 0.0, 4.0)
    assert told(step(events, [], 9.0, ended=[track(OUT)])) == [("end", "object")]


def test_a_thing_that_is_gone_has_left_its_zone_and_the_picture() -> None:
    events = rules(Rule("leave", "porch"), Rule("leave"))
    step(events, [track(IN, began=0.5)], 1.0)
    step(events, [track(IN, began=0.5)], 2.0)
    reports = step(events, [], 9.0, ended=[replace(track(IN, began=0.5), seen=2.0)])
    left = [report.event for report in reports if report.event.rule == "leave"]
    assert [(one.zone, one.start, one.end, one.reason) for one in left] == [
        ("porch", 1.0, 2.0, "gone"), ("", 0.5, 2.0, "gone"),
    ]  # fmt: skip


def test_a_thing_loiters_once_it_has_been_there_long_enough() -> None:
    events = rules(Rule("loiter", "porch", seconds=10))
    for second in range(10):
        assert "loiter" not in [rule for _, rule in told(step(events, [track(IN)], second))]
    (begin,) = step(events, [track(IN)], 10.0)
    assert (begin.state, begin.event.rule, begin.event.start) == ("begin", "loiter", 0.0)
    assert step(events, [track(IN)], 11.0) == []


def test_a_thing_that_is_out_of_sight_does_not_begin_to_loiter() -> None:
    events = rules(Rule("loiter", "porch", seconds=3))
    for second in range(3):
        step(events, [track(IN)], second)
    assert events.step([replace(track(IN), seen=2.0, unseen_s=2.0)], [], 4.0, 4) == []
    assert told(step(events, [track(IN)], 5.0)) == [("begin", "loiter")]


def test_a_thing_that_comes_back_has_not_been_there_in_between() -> None:
    events = rules(Rule("loiter", "porch", seconds=10))
    for second, x in enumerate([IN] * 6 + [OUT] * 2 + [IN] * 10):
        assert "loiter" not in [rule for _, rule in told(step(events, [track(x)], second))]


def test_count_lasts_while_there_are_more_than_so_many() -> None:
    events = rules(Rule("count", "porch", over=1))
    three = [track(IN, number=number) for number in (1, 2, 3)]
    step(events, three[:1], 0.0)
    assert "count" not in [rule for _, rule in told(step(events, three[:1], 1.0))]
    step(events, three[:2], 2.0)
    begin = step(events, three[:2], 3.0)[-1]
    assert (begin.state, begin.event.rule, begin.event.count, begin.event.track) == ("begin", "count", 2, None)
    step(events, three, 4.0)
    update = next(report for report in step(events, three, 5.0) if report.event.rule == "count")
    assert (update.state, update.event.count, update.event.id) == ("update", 3, begin.event.id)
    end = next(report for report in step(events, three[:1], 6.0, ended=three[1:]) if report.event.rule == "count")
    assert (end.state, end.event.start, end.event.end, end.event.reason) == ("end", 3.0, 6.0, "over")


def test_rules_are_about_their_kinds_of_things() -> None:
    cars = frozenset({"car"})
    events = rules(Rule("enter", "porch", labels=cars), Rule("count", over=0, labels=cars), Rule("leave", labels=cars))
    for second in range(3):
        assert {rule for _, rule in told(step(events, [track(IN)], second))} <= {"object"}
    assert told(step(events, [], 9.0, ended=[track(IN)])) == [("end", "object")]


def test_a_rule_without_a_zone_is_about_the_whole_picture() -> None:
    events = rules(Rule("enter"), Rule("count", over=1))
    assert told(step(events, [track(OUT)], 1.0)) == [("begin", "object"), ("begin", "enter")]
    assert told(step(events, [track(OUT), track(IN, number=2)], 2.0))[-1] == ("begin", "count")


def test_of_a_stream_that_ends_all_events_end() -> None:
    events = rules(Rule("enter"))
    step(events, [track(OUT)], 1.0)
    ends = events.close(5.0)
    assert told(ends) == [("end", "object"), ("end", "enter")]
    assert {(end.event.end, end.event.reason) for end in ends} == {(5.0, "stream")}
    assert events.close(6.0) == []


def test_ids_are_of_one_event_each() -> None:
    events = rules(Rule("enter"), Rule("leave"))
    ids = [report.event.id for report in step(events, [track(OUT, number=n) for n in range(1, 5)], 1.5)]
    ids += [report.event.id for report in step(events, [], 9.0, ended=[track(OUT)]) if report.event.rule == "leave"]
    assert len(ids) == len(set(ids)) == 9
    assert ids[0] == "0.000-door-1"


@pytest.mark.parametrize("number", [1, 7])
def test_what_has_ended_leaves_nothing_behind(number: int) -> None:
    events = rules(Rule("enter", "porch"), Rule("leave", "porch"))
    for second in range(3):
        step(events, [track(IN, number=number)], second)
    step(events, [], 9.0, ended=[track(IN, number=number)])
    assert events._open == events._best == events._zones == {}
