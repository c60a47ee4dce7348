from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.video.packets import Packet
from pipeline.video.recording import Begin, Close, Instruction, Recording, RecordOptions, Stored, Write, expired


def event(id: str, state: str, rule: str = "object", start: float = 0.0) -> dict[str, Any]:
    return {"id": id, "state": state, "rule": rule, "start": start}


class Camera:
    """A packet a second, each fifth a key frame; what the recording says is kept as a line."""

    def __init__(self, **options: Any) -> None:
        self.recording: Recording[int] = Recording(RecordOptions(**options))
        self.second = 0
        self.said: list[str] = []

    def _say(self, instructions: Sequence[Instruction[int]]) -> None:
        for one in instructions:
            if isinstance(one, Begin):
                self.said.append(f"begin {one.event} {one.packets[0].data}..{one.packets[-1].data}")
            elif isinstance(one, Close):
                self.said.append(f"close {' '.join(one.events)}: {one.reason}")
            elif isinstance(one, Write):
                self.said.append(f"{one.packet.data}")

    def runs(self, seconds: int) -> Camera:
        for _ in range(seconds):
            packet = Packet(float(self.second), self.second % 5 == 0, 10, self.second)
            self._say(self.recording.packet(packet))
            self.second += 1
        return self

    def tells(self, *events: dict[str, Any]) -> Camera:
        self._say(self.recording.events(events, float(self.second - 1)))
        return self

    def clips(self) -> list[str]:
        """The lines but those of single packets."""
        return [line for line in self.said if not line.isdigit()]


def test_a_clip_has_what_was_before_the_event_during_it_and_after() -> None:
    camera = Camera(before_s=5, after_s=3).runs(21)
    camera.tells(event("a", "begin", start=18)).runs(4).tells(event("a", "end")).runs(10)
    # From the key frame before 13 on; the end is told at 24.
    assert camera.said == ["begin a 10..20", "21", "22", "23", "24", "25", "26", "27", "close a: over"]


def test_events_that_overlap_share_a_clip_until_the_last_is_over() -> None:
    camera = Camera(after_s=3).runs(10).tells(event("a", "begin")).runs(2).tells(event("b", "begin", "enter"))
    camera.runs(1).tells(event("a", "end")).runs(20)
    assert camera.clips() == ["begin a 0..9"]
    camera.tells(event("b", "end", "enter")).runs(10)
    assert camera.clips() == ["begin a 0..9", "close a b: over"]
    assert camera.said[-2] == "35"


def test_an_event_within_the_seconds_after_another_one_goes_on_with_its_clip() -> None:
    camera = Camera(after_s=5).runs(10).tells(event("a", "begin")).runs(1).tells(event("a", "end"))
    camera.runs(4).tells(event("b", "begin")).runs(10)
    assert camera.clips() == ["begin a 0..9"]


def test_an_event_after_a_clip_has_another_one() -> None:
    camera = Camera(before_s=1, after_s=1)
    for id in ("a", "b"):
        camera.runs(10).tells(event(id, "begin", start=camera.second - 1), event(id, "end"))
    camera.runs(5)
    assert camera.clips() == ["begin a 5..9", "close a: over", "begin b 15..19", "close b: over"]


def test_what_has_left_is_recorded_around_its_leaving_and_not_its_coming() -> None:
    camera = Camera(before_s=2, after_s=2).runs(30).tells(event("a", "end", "leave", start=3)).runs(5)
    assert camera.said == ["begin a 25..29", "30", "31", "close a: over"]


def test_updates_and_ends_alone_begin_nothing() -> None:
    assert Camera().runs(10).tells(event("a", "update"), event("b", "end")).runs(3).said == []


def test_only_events_of_the_rules_to_record_begin_a_clip() -> None:
    camera = Camera(rules=frozenset({"enter"})).runs(10).tells(event("a", "begin")).runs(3)
    assert camera.said == []
    assert camera.tells(event("b", "begin", "enter")).clips() == ["begin b 0..12"]


def test_a_clip_is_no_longer_than_allowed_and_its_event_begins_no_other_one() -> None:
    camera = Camera(before_s=1, longest_s=10).runs(10).tells(event("a", "begin", start=9)).runs(30)
    assert camera.clips() == ["begin a 5..9", "close a: longest"]
    assert camera.said[-2] == "15"
    assert camera.tells(event("a", "end")).clips()[2:] == []


def test_a_clip_is_no_larger_than_allowed() -> None:
    camera = Camera(before_s=1, most_bytes=85).runs(10).tells(event("a", "begin", start=9)).runs(30)
    # Five packets to begin with and three more: 80 bytes.
    assert camera.said == ["begin a 5..9", "10", "11", "12", "close a: size"]


def test_a_stream_that_ends_ends_its_clip_and_nothing_of_it_comes_into_another_one() -> None:
    camera = Camera(before_s=100).runs(12).tells(event("a", "begin"))
    assert camera.recording.ended() == [Close(("a",), "stream")]
    assert camera.recording.ended() == []
    camera.runs(8).tells(event("b", "begin"))
    assert camera.clips()[-1] == "begin b 15..19"


def test_before_the_first_key_frame_no_clip_begins() -> None:
    recording: Recording[int] = Recording(RecordOptions())
    recording.packet(Packet(0.0, False, 10, 0))
    assert recording.events([event("a", "begin")], 0.0) == []
    assert recording.packet(Packet(1.0, True, 10, 1)) == []


def test_a_clip_ends_in_time_although_no_packet_comes() -> None:
    camera = Camera(after_s=3).runs(10).tells(event("a", "begin"), event("a", "end"))
    assert camera.recording.tick(12.0) == []
    assert camera.recording.tick(12.5) == [Close(("a",), "over")]


STORED = [Stored("b", 30, 200.0), Stored("a", 20, 100.0), Stored("c", 40, 300.0)]


@pytest.mark.parametrize(
    ("now", "keep_s", "most_bytes", "gone"),
    [
        (300.0, 1000.0, 1000, []),
        (300.0, 150.0, 1000, ["a"]),
        (300.0, 200.0, 1000, []),
        (1000.0, 1.0, 1000, ["a", "b", "c"]),
        (300.0, 1000.0, 89, ["a"]),
        (300.0, 1000.0, 70, ["a"]),
        (300.0, 1000.0, 69, ["a", "b"]),
        (300.0, 1000.0, 39, ["a", "b", "c"]),
    ],
)
def test_what_is_too_old_goes_and_then_the_oldest_until_the_rest_has_room(
    now: float, keep_s: float, most_bytes: int, gone: list[str]
) -> None:
    assert expired(STORED, now, keep_s, most_bytes) == gone


@pytest.mark.parametrize("told_at", [99.5, 20.0])
def test_a_clip_does_not_last_until_a_clock_that_was_set_back_has_caught_up(told_at: float) -> None:
    """Whether what tells of the end has the old time or the new one."""
    recording: Recording[int] = Recording(RecordOptions(before_s=2, after_s=3))
    for second in range(100):
        recording.packet(Packet(float(second), True, 10, second))
    (begun,) = recording.events([event("a", "begin", start=99.0)], 99.0)
    assert isinstance(begun, Begin)
    said: list[Instruction[int]] = []
    for second in range(20, 40):
        said += recording.packet(Packet(float(second), True, 10, second))
        if second == 20:
            said += recording.events([event("a", "end")], told_at)
    # What was kept is of as many seconds as before.
    (other,) = recording.events([event("b", "begin", start=39.0)], 39.0)
    assert [one.packet.data for one in said if isinstance(one, Write)] == [20, 21, 22, 23]
    assert Close(("a",), "over") in said
    assert isinstance(other, Begin)
    assert [packet.data for packet in other.packets] == [37, 38, 39]
