from __future__ import annotations

from collections.abc import Sequence

from stages.video.kalman import begun
from stages.video.tracker import Track
from stages.video.zones import Presence, Zone

LEFT = Zone("left", ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)))
LOW = Zone("low", ((0.0, 0.8), (1.0, 0.8), (1.0, 1.0), (0.0, 1.0)))


def track(x: float, foot: float = 0.5, number: int = 1, label: str = "person", unseen_s: float = 0.0) -> Track:
    box = (foot - 0.2, x - 0.05, foot, x + 0.05)
    return Track(number, label, 0.8, begun(box), 0.0, 0.0, unseen_s=unseen_s, confirmed=True)


def left_by(presence: Presence, xs: Sequence[float], start: float = 0.0) -> list[tuple[str, float]]:
    """Take a thing at these places, one a second; what it left, and since when it was there."""
    found = []
    for second, x in enumerate(xs):
        found += [(zone, since) for _, zone, since in presence.update([track(x)], start + second)]
    return found


def test_a_thing_is_where_its_foot_is() -> None:
    assert LOW.holds(track(0.5, foot=0.9))
    # Its box reaches into the zone from above, but it stands before it.
    assert not LOW.holds(track(0.5, foot=0.79))


def test_a_zone_may_be_for_some_kinds_of_things() -> None:
    cars = Zone("left", LEFT.polygon, frozenset({"car"}))
    assert cars.holds(track(0.2, label="car"))
    assert not cars.holds(track(0.2))


def test_a_thing_is_in_a_zone_after_two_frames_and_since_the_first_of_them() -> None:
    presence = Presence([LEFT])
    left_by(presence, [0.8, 0.2])
    assert presence.of(1) == {}
    left_by(presence, [0.2], start=2.0)
    assert presence.of(1) == {"left": 1.0}


def test_a_foot_that_trembles_at_the_edge_neither_enters_nor_leaves() -> None:
    presence = Presence([LEFT])
    assert left_by(presence, [0.49, 0.51] * 5) == []
    assert presence.of(1) == {}
    left_by(presence, [0.4, 0.4], start=10.0)
    assert left_by(presence, [0.51, 0.49] * 5, start=12.0) == []
    assert list(presence.of(1)) == ["left"]


def test_a_thing_that_leaves_is_told_with_the_time_at_which_it_came() -> None:
    assert left_by(Presence([LEFT]), [0.2, 0.2, 0.2, 0.8, 0.8]) == [("left", 0.0)]


def test_a_thing_can_be_in_several_zones_and_leave_one() -> None:
    presence = Presence([LEFT, LOW])
    for second in range(2):
        presence.update([track(0.2, foot=0.9)], second)
    assert presence.of(1) == {"left": 0, "low": 0}
    left = [zone for second in (2, 3) for _, zone, _ in presence.update([track(0.2, foot=0.5)], second)]
    assert left == ["low"]
    assert presence.of(1) == {"left": 0}


def test_a_thing_that_is_unseen_leaves_nothing() -> None:
    presence = Presence([LEFT])
    left_by(presence, [0.2, 0.2])
    for second in range(2, 8):
        assert presence.update([track(0.8, unseen_s=second)], second) == []
    assert presence.of(1) == {"left": 0.0}


def test_a_track_that_has_ended_is_forgotten() -> None:
    presence = Presence([LEFT])
    left_by(presence, [0.2, 0.2])
    assert presence.update([track(0.2, number=2)], 2.0) == []
    assert presence.of(1) == {}
