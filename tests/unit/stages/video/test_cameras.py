from __future__ import annotations

from typing import Any

import pytest

from stages.errors import BadOption
from stages.video.cameras import Camera, Rule, camera_of
from stages.video.zones import Zone

KINDS = ["person", "car", "cat"]
SQUARE = [[0, 0], [1, 0], [1, 1]]
CORNERS = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))


def test_of_a_camera_of_which_nothing_is_said_all_counts() -> None:
    assert camera_of("door", None, KINDS) == Camera()


def test_everything_that_can_be_said_of_a_camera() -> None:
    camera = camera_of(
        "door",
        {
            "zones": {"porch": SQUARE, "road": {"polygon": SQUARE, "labels": ["car"]}},
            "masks": [SQUARE],
            "labels": ["person", "car"],
            "rules": [
                {"rule": "enter", "zone": "porch"},
                {"rule": "leave", "labels": ["person"]},
                {"rule": "loiter", "zone": "porch", "seconds": 20},
                {"rule": "count", "zone": "road", "over": 3},
            ],
        },
        KINDS,
    )
    assert camera.zones == (Zone("porch", CORNERS), Zone("road", CORNERS, frozenset({"car"})))
    assert camera.masks == (CORNERS,)
    assert camera.labels == {"person", "car"}
    assert camera.rules == (
        Rule("enter", "porch"),
        Rule("leave", labels=frozenset({"person"})),
        Rule("loiter", "porch", seconds=20),
        Rule("count", "road", over=3),
    )


def test_what_is_not_said_is_that_of_the_default() -> None:
    base = camera_of("default", {"labels": ["person"], "masks": [SQUARE], "rules": [{"rule": "enter"}]}, KINDS)
    camera = camera_of("door", {"masks": []}, KINDS, base)
    assert camera == Camera(labels=frozenset({"person"}), rules=(Rule("enter"),))


def test_a_rule_concerns_its_labels() -> None:
    assert Rule("enter").concerns("cat")
    assert Rule("enter", labels=frozenset({"car"})).concerns("car")
    assert not Rule("enter", labels=frozenset({"car"})).concerns("cat")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"zone": {}}, r"door: no option 'zone' \(did you mean zones\?\)"),
        ({"zones": {"porch": [[0, 0]]}}, r"door\.zones\.porch: expected a polygon"),
        ({"zones": {"porch": {"corners": SQUARE}}}, r"door\.zones\.porch: no option 'corners'"),
        ({"zones": {"porch": {"labels": ["car"]}}}, r"door\.zones\.porch\.polygon: expected a polygon"),
        ({"labels": ["dog"]}, r"door\.labels: no label 'dog'"),
        ({"rules": {"rule": "enter"}}, r"door\.rules: expected a list of rules"),
        ({"rules": [{"zone": "porch"}]}, r"door\.rules\[0\]: expected rule: one of enter, leave, loiter, count"),
        ({"rules": [{"rule": "enter", "zone": "porch"}]}, r"door\.rules: no zone 'porch'"),
        ({"rules": [{"rule": "enter", "zone": 3}]}, r"expected the name of a zone, found 3"),
        ({"rules": [{"rule": "loiter"}]}, r"rule loiter needs seconds"),
        ({"rules": [{"rule": "count", "over": 1.5}]}, r"expected a whole number, found 1\.5"),
        ({"rules": [{"rule": "count", "over": -1}]}, r"of at least 0, found -1"),
        ({"rules": [{"rule": "enter", "seconds": 3}]}, r"no option 'seconds'"),
        ({"rules": [{"rule": "enter", "labels": ["prson"]}]}, r"no label 'prson' \(did you mean person\?\)"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(value: Any, said: str) -> None:
    with pytest.raises(BadOption, match=said):
        camera_of("door", value, KINDS)


def test_a_rule_of_the_default_needs_its_zone_in_each_camera() -> None:
    base = camera_of("default", {"zones": {"porch": SQUARE}, "rules": [{"rule": "enter", "zone": "porch"}]}, KINDS)
    with pytest.raises(BadOption, match=r"yard\.rules: no zone 'porch'"):
        camera_of("yard", {"zones": {"lawn": SQUARE}}, KINDS, base)
