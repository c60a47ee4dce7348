from __future__ import annotations

from collections.abc import Sequence

import pytest

from stages.video.tracker import Detection, Track, Tracker, TrackerOptions

FRAME_S = 0.2


def thing(x: float, y: float = 0.5, label: str = "person", score: float = 0.8, size: float = 0.1) -> Detection:
    return Detection(label, score, (y - size, x - size / 2, y + size, x + size / 2))


def follow(tracker: Tracker, frames: Sequence[Sequence[Detection] | None], start: float = 0.0) -> list[Track]:
    """Take frames; all tracks that have ended."""
    ended = []
    for number, detections in enumerate(frames):
        ended += tracker.step(detections, start + number * FRAME_S)
    return ended


def numbers(tracker: Tracker) -> list[int]:
    return [track.number for track in tracker.tracks if track.confirmed]


def x_of(track: Track) -> float:
    return (track.box[1] + track.box[3]) / 2


@pytest.fixture
def tracker() -> Tracker:
    return Tracker(TrackerOptions())


def test_a_thing_counts_once_it_was_seen_in_three_frames(tracker: Tracker) -> None:
    follow(tracker, [[thing(0.5)], [thing(0.5)]])
    assert numbers(tracker) == []
    follow(tracker, [[thing(0.5)]], start=0.4)
    assert numbers(tracker) == [1]
    assert tracker.tracks[0].began == 0.0
    assert tracker.tracks[0].seen == 0.4


def test_what_flickers_never_counts(tracker: Tracker) -> None:
    assert follow(tracker, [[thing(0.5)], [thing(0.5)], []] * 5) == []
    assert numbers(tracker) == []


def test_with_confirm_of_one_it_counts_at_once() -> None:
    tracker = Tracker(TrackerOptions(confirm=1))
    follow(tracker, [[thing(0.5)]])
    assert numbers(tracker) == [1]


def test_a_thing_that_moves_keeps_its_number(tracker: Tracker) -> None:
    follow(tracker, [[thing(0.1 + 0.03 * frame)] for frame in range(25)])
    assert numbers(tracker) == [1]
    assert x_of(tracker.tracks[0]) == pytest.approx(0.1 + 0.03 * 24, abs=0.01)


def test_a_thing_that_is_faster_than_its_own_width_keeps_its_number(tracker: Tracker) -> None:
    # 0.13 a frame with boxes that are 0.1 wide: no two of them overlap.
    follow(tracker, [[thing(0.1 + 0.13 * frame)] for frame in range(7)])
    assert numbers(tracker) == [1]


def test_a_detection_far_away_is_another_thing(tracker: Tracker) -> None:
    follow(tracker, [[thing(0.1)]] * 3 + [[thing(0.8)]] * 3)
    assert numbers(tracker) == [1, 2]


def test_boxes_that_cross_keep_their_numbers(tracker: Tracker) -> None:
    frames = [[thing(0.1 + 0.04 * frame), thing(0.9 - 0.04 * frame)] for frame in range(20)]
    # In the middle one hides the other: a single box is found.
    frames[10] = [thing(0.5)]
    follow(tracker, frames)
    right, left = tracker.tracks
    assert (right.number, left.number) == (1, 2)
    assert x_of(right) == pytest.approx(0.86, abs=0.03)
    assert x_of(left) == pytest.approx(0.14, abs=0.03)


def test_the_order_of_detections_does_not_matter(tracker: Tracker) -> None:
    frames = [[thing(0.2 + 0.01 * frame), thing(0.7)] for frame in range(6)]
    follow(tracker, [detections[:: -1 if number % 2 else 1] for number, detections in enumerate(frames)])
    assert numbers(tracker) == [1, 2]
    assert [x_of(track) for track in tracker.tracks] == pytest.approx([0.25, 0.7], abs=0.02)


def test_a_missed_detection_ends_nothing_and_the_thing_is_found_where_it_has_moved(tracker: Tracker) -> None:
    frames: list[list[Detection]] = [[thing(0.1 + 0.03 * frame)] for frame in range(20)]
    frames[8:12] = [[], [], [], []]
    assert follow(tracker, frames) == []
    assert numbers(tracker) == [1]


def test_while_it_is_unseen_it_is_thought_to_move_on(tracker: Tracker) -> None:
    follow(tracker, [[thing(0.1 + 0.03 * frame)] for frame in range(8)] + [[], []])
    assert x_of(tracker.tracks[0]) == pytest.approx(0.1 + 0.03 * 9, abs=0.02)
    assert tracker.tracks[0].seen == pytest.approx(7 * FRAME_S)


def test_a_thing_that_is_unseen_for_too_long_ends(tracker: Tracker) -> None:
    follow(tracker, [[thing(0.5)]] * 3)
    # Unseen from 0.6 s on; 2 s after the frame of 0.4 s it ends.
    assert follow(tracker, [[]] * 9, start=0.6) == []
    (ended,) = follow(tracker, [[]], start=2.4)
    assert (ended.number, ended.seen) == (1, 0.4)
    assert tracker.tracks == ()


def test_frames_that_are_not_looked_at_age_nothing(tracker: Tracker) -> None:
    follow(tracker, [[thing(0.5)]] * 3)
    assert follow(tracker, [None] * 100, start=0.6) == []
    assert numbers(tracker) == [1]
    assert x_of(tracker.tracks[0]) == pytest.approx(0.5)
    assert tracker.tracks[0].seen == pytest.approx(20.4)
    # The first look afterwards counts as one frame, not as 20 seconds.
    assert follow(tracker, [[]], start=20.6) == []


def test_what_was_out_of_sight_is_not_seen_by_not_looking(tracker: Tracker) -> None:
    follow(tracker, [[thing(0.5)]] * 3 + [[]] + [None] * 5)
    assert tracker.tracks[0].seen == 0.4


def test_after_an_hour_without_frames_nothing_has_been_unseen_for_an_hour(tracker: Tracker) -> None:
    follow(tracker, [[thing(0.5)]] * 3)
    assert tracker.step([], 3600.0) == []
    assert numbers(tracker) == [1]


def test_time_that_goes_backwards_moves_nothing_back(tracker: Tracker) -> None:
    follow(tracker, [[thing(0.1 + 0.03 * frame)] for frame in range(8)], start=100.0)
    before = x_of(tracker.tracks[0])
    tracker.step([], 50.0)
    assert x_of(tracker.tracks[0]) == pytest.approx(before)


def test_a_doubtful_detection_begins_nothing_but_goes_on_with_what_there_is(tracker: Tracker) -> None:
    follow(tracker, [[thing(0.5, score=0.45)]] * 5)
    assert tracker.tracks == ()
    follow(tracker, [[thing(0.5)]] * 3 + [[thing(0.5, score=0.42)]] * 30, start=1.0)
    assert numbers(tracker) == [1]
    assert tracker.tracks[0].score == 0.42


def test_things_of_two_kinds_at_one_place_are_two(tracker: Tracker) -> None:
    follow(tracker, [[thing(0.5), thing(0.5, label="bicycle")]] * 4)
    assert [(track.label, track.hits) for track in tracker.tracks] == [("person", 4), ("bicycle", 4)]


def test_a_thing_of_another_kind_does_not_stand_in_for_one_that_is_missing(tracker: Tracker) -> None:
    follow(tracker, [[thing(0.5)]] * 3 + [[thing(0.5, label="car")]])
    assert [(track.label, track.hits) for track in tracker.tracks] == [("person", 3), ("car", 1)]


def test_a_thing_that_was_found_takes_no_second_detection_beside_it(tracker: Tracker) -> None:
    follow(tracker, [[thing(0.5)]] * 3 + [[thing(0.5), thing(0.58)]])
    assert [(track.number, track.hits) for track in tracker.tracks] == [(1, 4), (2, 1)]
    assert x_of(tracker.tracks[0]) == pytest.approx(0.5, abs=0.001)


def test_one_detection_is_of_one_thing(tracker: Tracker) -> None:
    follow(tracker, [[thing(0.46), thing(0.54)]] * 3 + [[thing(0.5)]])
    assert sorted(track.hits for track in tracker.tracks) == [3, 4]


def test_a_thing_that_comes_back_in_time_has_all_the_time_again(tracker: Tracker) -> None:
    assert follow(tracker, [[thing(0.5)]] * 3 + ([[]] * 8 + [[thing(0.5)]]) * 3) == []
    assert numbers(tracker) == [1]


def test_no_more_are_followed_than_allowed_and_those_left_out_are_counted() -> None:
    tracker = Tracker(TrackerOptions(most=2))
    follow(tracker, [[thing(0.1), thing(0.5), thing(0.9)]] * 3)
    assert numbers(tracker) == [1, 2]
    assert tracker.left_out == 3


def test_a_box_never_reaches_beyond_the_picture(tracker: Tracker) -> None:
    follow(tracker, [[thing(0.8 + 0.04 * frame)] for frame in range(5)] + [[]] * 5)
    y_min, x_min, y_max, x_max = tracker.tracks[0].box
    assert 0 <= y_min <= y_max <= 1
    assert 0 <= x_min <= x_max <= 1


def test_two_cameras_know_nothing_of_each_other() -> None:
    door, yard = Tracker(TrackerOptions()), Tracker(TrackerOptions())
    for frame in range(4):
        door.step([thing(0.2)], frame * FRAME_S)
        yard.step([thing(0.8), thing(0.2)], frame * FRAME_S)
    assert (numbers(door), numbers(yard)) == ([1], [1, 2])
